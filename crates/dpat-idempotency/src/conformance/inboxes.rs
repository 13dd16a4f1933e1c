//! The laws of an inbox within a database.

use std::collections::BTreeMap;

use bytes::Bytes;
use dpat_core::{Entropy, SplitMix64, Wall};

use super::random::SEEDS;
use super::{End, InboxHarness, Step, Told, Violation, ensure_eq, key};
use crate::fingerprint::Fingerprint;
use crate::key::Key;

const OK: Bytes = Bytes::from_static(b"ok");

fn body(text: &str) -> Fingerprint {
    Fingerprint::of(&[text.as_bytes()])
}

fn accept(id: &str) -> Step {
    Step::Accept {
        key: key(id),
        fingerprint: body("body"),
        outcome: Some(OK),
    }
}

fn fail(id: &str) -> Step {
    Step::Accept {
        key: key(id),
        fingerprint: body("body"),
        outcome: None,
    }
}

fn other(id: &str) -> Step {
    Step::Accept {
        key: key(id),
        fingerprint: body("other"),
        outcome: Some(OK),
    }
}

fn cancel(id: &str) -> Step {
    Step::Cancel { key: key(id) }
}

/// A database, and what is done to it.
struct Db<'h, H: InboxHarness> {
    harness: &'h H,
    db: H::Db,
    now: Wall,
}

impl<'h, H: InboxHarness> Db<'h, H> {
    fn fresh(harness: &'h H) -> Self {
        Self {
            harness,
            db: harness.fresh(),
            now: Wall::from_nanos(1_000),
        }
    }

    fn tx(&mut self, steps: &[Step], end: End) -> Result<Vec<Told>, Violation> {
        Ok(self.harness.in_tx(&mut self.db, self.now, steps, end)?)
    }

    fn commit(&mut self, step: Step) -> Result<Told, Violation> {
        let mut told = self.tx(&[step], End::Commit)?;
        told.pop()
            .ok_or_else(|| Violation::new("a step came to nothing"))
    }

    fn effects(&self, id: &str) -> Result<i64, Violation> {
        Ok(self.harness.effects(&self.db, &key(id))?)
    }

    fn reopened(self) -> Self {
        Self {
            db: self.harness.reopen(self.db),
            ..self
        }
    }
}

/// A message that comes often takes effect once, and is answered alike.
///
/// # Errors
/// [`Violation`].
pub fn a_message_takes_effect_once<H: InboxHarness>(harness: &H) -> Result<(), Violation> {
    let mut db = Db::fresh(harness);
    ensure_eq!(
        db.commit(accept("a"))?,
        Told::First(OK),
        "the first delivery"
    );
    for _ in 0..3 {
        ensure_eq!(db.commit(accept("a"))?, Told::Again(OK), "a redelivery");
    }
    ensure_eq!(db.effects("a")?, 1, "effects");
    Ok(())
}

fn leaves_nothing<H: InboxHarness>(harness: &H, end: End) -> Result<(), Violation> {
    let mut db = Db::fresh(harness);
    for _ in 0..2 {
        ensure_eq!(
            db.tx(&[accept("a")], end)?,
            [Told::First(OK)],
            format!("{end:?}")
        );
        ensure_eq!(db.effects("a")?, 0, format!("effects after {end:?}"));
    }
    db.commit(accept("b"))?;
    ensure_eq!(
        db.tx(&[cancel("b")], end)?,
        [Told::Undone(OK)],
        format!("cancel, {end:?}")
    );
    ensure_eq!(
        db.effects("b")?,
        1,
        format!("effects after cancel, {end:?}")
    );
    let mut db = db.reopened();
    ensure_eq!(
        db.commit(accept("a"))?,
        Told::First(OK),
        "the next delivery"
    );
    ensure_eq!(
        db.commit(accept("b"))?,
        Told::Again(OK),
        "what was committed"
    );
    ensure_eq!((db.effects("a")?, db.effects("b")?), (1, 1), "effects");
    Ok(())
}

/// A transaction that is rolled back leaves neither effect nor marker.
///
/// # Errors
/// [`Violation`].
pub fn a_rollback_leaves_nothing<H: InboxHarness>(harness: &H) -> Result<(), Violation> {
    leaves_nothing(harness, End::Rollback)
}

/// A process that dies before the commit leaves neither effect nor marker.
///
/// # Errors
/// [`Violation`].
pub fn a_crash_leaves_nothing<H: InboxHarness>(harness: &H) -> Result<(), Violation> {
    leaves_nothing(harness, End::Crash)
}

/// An effect that fails leaves no marker, so that the message can be delivered again.
///
/// # Errors
/// [`Violation`].
pub fn a_failed_effect_leaves_nothing<H: InboxHarness>(harness: &H) -> Result<(), Violation> {
    let mut db = Db::fresh(harness);
    let told = db.tx(&[accept("b"), fail("a")], End::Commit)?;
    ensure_eq!(told, [Told::First(OK), Told::Failed], "a failed effect");
    ensure_eq!(
        (db.effects("a")?, db.effects("b")?),
        (0, 0),
        "effects after a failure"
    );
    ensure_eq!(
        db.commit(accept("a"))?,
        Told::First(OK),
        "the next delivery"
    );
    Ok(())
}

/// A key that comes with another body is refused.
///
/// # Errors
/// [`Violation`].
pub fn another_message_under_the_key_is_refused<H: InboxHarness>(
    harness: &H,
) -> Result<(), Violation> {
    let mut db = Db::fresh(harness);
    db.commit(accept("a"))?;
    ensure_eq!(db.commit(other("a"))?, Told::Reused, "another body");
    ensure_eq!(db.commit(accept("a"))?, Told::Again(OK), "the body itself");
    ensure_eq!(db.effects("a")?, 1, "effects");
    Ok(())
}

/// A message that comes after its cancellation does nothing.
///
/// # Errors
/// [`Violation`].
pub fn a_cancelled_message_does_nothing<H: InboxHarness>(harness: &H) -> Result<(), Violation> {
    let mut db = Db::fresh(harness);
    ensure_eq!(
        db.commit(cancel("a"))?,
        Told::NothingToUndo,
        "a cancellation that comes first"
    );
    ensure_eq!(
        db.commit(cancel("a"))?,
        Told::AlreadyCancelled,
        "a second one"
    );
    ensure_eq!(db.commit(accept("a"))?, Told::Cancelled, "the late message");
    ensure_eq!(db.commit(other("a"))?, Told::Cancelled, "with any body");
    ensure_eq!(db.effects("a")?, 0, "effects");
    Ok(())
}

/// A cancellation that comes often undoes once.
///
/// # Errors
/// [`Violation`].
pub fn a_cancelled_message_is_undone_once<H: InboxHarness>(harness: &H) -> Result<(), Violation> {
    let mut db = Db::fresh(harness);
    db.commit(accept("a"))?;
    ensure_eq!(
        db.commit(cancel("a"))?,
        Told::Undone(OK),
        "the cancellation"
    );
    ensure_eq!(
        db.commit(cancel("a"))?,
        Told::AlreadyCancelled,
        "a second one"
    );
    ensure_eq!(
        db.commit(accept("a"))?,
        Told::Cancelled,
        "the message again"
    );
    ensure_eq!(db.effects("a")?, 0, "effects");
    Ok(())
}

/// A message that comes twice in one transaction takes effect once.
///
/// # Errors
/// [`Violation`].
pub fn within_a_transaction_markers_are_seen<H: InboxHarness>(
    harness: &H,
) -> Result<(), Violation> {
    let mut db = Db::fresh(harness);
    let told = db.tx(
        &[accept("a"), accept("a"), cancel("a"), accept("a")],
        End::Commit,
    )?;
    let expected = [
        Told::First(OK),
        Told::Again(OK),
        Told::Undone(OK),
        Told::Cancelled,
    ];
    ensure_eq!(told, expected, "four steps");
    ensure_eq!(db.effects("a")?, 0, "effects");
    Ok(())
}

/// Keys of other scopes are other messages.
///
/// # Errors
/// [`Violation`].
pub fn markers_are_kept_apart<H: InboxHarness>(harness: &H) -> Result<(), Violation> {
    let mut db = Db::fresh(harness);
    for (scope, id) in [
        ("", "a/b"),
        ("a", "b"),
        ("a/", "b"),
        ("a", "B"),
        ("a", "b "),
    ] {
        let step = Step::Accept {
            key: Key::new(scope, id)?,
            fingerprint: Fingerprint::NONE,
            outcome: Some(Bytes::new()),
        };
        ensure_eq!(
            db.commit(step)?,
            Told::First(Bytes::new()),
            format!("{scope:?} {id:?}")
        );
    }
    Ok(())
}

/// What was committed survives a crash that follows.
///
/// # Errors
/// [`Violation`].
pub fn markers_survive_what_was_committed<H: InboxHarness>(harness: &H) -> Result<(), Violation> {
    let mut db = Db::fresh(harness);
    db.commit(accept("a"))?;
    db.commit(cancel("b"))?;
    db.tx(&[accept("c")], End::Crash)?;
    let mut db = db.reopened();
    ensure_eq!(db.commit(accept("a"))?, Told::Again(OK), "accepted before");
    ensure_eq!(db.commit(accept("b"))?, Told::Cancelled, "cancelled before");
    ensure_eq!(db.effects("a")?, 1, "effects");
    Ok(())
}

/// Markers are forgotten when they are old, oldest first, and no earlier.
///
/// # Errors
/// [`Violation`].
pub fn old_markers_are_forgotten<H: InboxHarness>(harness: &H) -> Result<(), Violation> {
    let mut db = Db::fresh(harness);
    for (id, at) in [("c", 30), ("a", 10), ("b", 20)] {
        db.now = Wall::from_nanos(at);
        db.commit(accept(id))?;
    }
    db.now = Wall::from_nanos(40);
    // The newer time of a marker counts.
    db.commit(cancel("b"))?;
    let sweep = |db: &Db<'_, H>, before, max| {
        let before = Wall::from_nanos(before);
        Ok::<_, Violation>(harness.sweep(&db.db, before, max)?)
    };
    ensure_eq!(sweep(&db, 10, 99)?, 0, "not before its time");
    ensure_eq!(sweep(&db, 30, 99)?, 1, "the old one");
    ensure_eq!(db.commit(accept("c"))?, Told::Again(OK), "a younger one");
    ensure_eq!(
        db.commit(accept("b"))?,
        Told::Cancelled,
        "one that was rewritten"
    );
    ensure_eq!(
        db.commit(accept("a"))?,
        Told::First(OK),
        "what was forgotten is new"
    );
    ensure_eq!(sweep(&db, 99, 2)?, 2, "at most two");
    ensure_eq!(sweep(&db, 99, 2)?, 1, "the rest");
    Ok(())
}

/// Random transactions with random ends have the results that a map has.
///
/// # Errors
/// [`Violation`].
pub fn random_transactions_match_the_model<H: InboxHarness>(harness: &H) -> Result<(), Violation> {
    for seed in 0..SEEDS {
        let entropy = SplitMix64::stream(seed, "inbox");
        let mut db = Db::fresh(harness);
        let mut model = Model::default();
        let mut done = Vec::new();
        for _ in 0..25 {
            let steps: Vec<Step> = (0..=entropy.below(2)).map(|_| draw(&entropy)).collect();
            let end = match entropy.below(4) {
                0 => End::Rollback,
                1 => End::Crash,
                _ => End::Commit,
            };
            let mut after = model.clone();
            let expected = after.steps(&steps);
            let stopped = matches!(expected.last(), Some(Told::Reused | Told::Failed));
            if end == End::Commit && !stopped {
                model = after;
            }
            let told = db.tx(&steps, end)?;
            done.push((steps, end));
            ensure_eq!(told, expected, format!("seed {seed}, {done:?}"));
            for id in IDS {
                let effects = model.effects.get(&key(id)).copied().unwrap_or(0);
                ensure_eq!(
                    db.effects(id)?,
                    effects,
                    format!("effects of {id}, seed {seed}, {done:?}")
                );
            }
            if entropy.below(8) == 0 {
                db = db.reopened();
            }
        }
    }
    Ok(())
}

const IDS: [&str; 3] = ["a", "b", "c"];

fn draw(entropy: &SplitMix64) -> Step {
    let id = IDS[usize::try_from(entropy.below(3)).unwrap_or(0)];
    match entropy.below(8) {
        0 => fail(id),
        1 => other(id),
        2 => cancel(id),
        _ => accept(id),
    }
}

/// What an inbox is, without a database.
#[derive(Clone, Default)]
struct Model {
    /// None: cancelled.
    markers: BTreeMap<Key, Option<(Fingerprint, Bytes)>>,
    effects: BTreeMap<Key, i64>,
}

impl Model {
    fn steps(&mut self, steps: &[Step]) -> Vec<Told> {
        let mut told = Vec::new();
        for step in steps {
            let one = self.step(step);
            let stop = matches!(one, Told::Reused | Told::Failed);
            told.push(one);
            if stop {
                break;
            }
        }
        told
    }

    fn step(&mut self, step: &Step) -> Told {
        match step {
            Step::Accept {
                key,
                fingerprint,
                outcome,
            } => match (self.markers.get(key), outcome) {
                (None, Some(outcome)) => {
                    let marker = Some((*fingerprint, outcome.clone()));
                    self.markers.insert(key.clone(), marker);
                    *self.effects.entry(key.clone()).or_default() += 1;
                    Told::First(outcome.clone())
                }
                (None, None) => Told::Failed,
                (Some(None), _) => Told::Cancelled,
                (Some(Some((earlier, outcome))), _) if earlier == fingerprint => {
                    Told::Again(outcome.clone())
                }
                (Some(Some(_)), _) => Told::Reused,
            },
            Step::Cancel { key } => match self.markers.insert(key.clone(), None) {
                None => Told::NothingToUndo,
                Some(None) => Told::AlreadyCancelled,
                Some(Some((_, outcome))) => {
                    *self.effects.entry(key.clone()).or_default() -= 1;
                    Told::Undone(outcome)
                }
            },
        }
    }
}
