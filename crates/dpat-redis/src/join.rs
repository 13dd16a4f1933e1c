//! Calls that are made at one time go together, in one script.
//!
//! While a script is under way, what else is asked for waits, and then goes as one: a script costs the server much the same
//! for one message as for several. Nobody waits for others to come.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{Shared, WeakShared};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::error::EngineError;
use crate::sync::Mutex;

/// How many scripts of one kind are under way: while one is answered, the other is on its way.
const TURNS: usize = 2;

/// The limits of one script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    pub(crate) items: usize,
    /// Beyond the first call.
    pub(crate) bytes: usize,
}

/// Joins calls of one kind: each brings items, and gets as many answers.
pub(crate) struct Joiner<T, R> {
    most: Most,
    turns: Arc<Semaphore>,
    /// The group that was made last.
    last: Mutex<Option<Last<T, R>>>,
}

type Last<T, R> = (Arc<Group<T, R>>, WeakShared<Going>);

/// Driven by all who wait for it: it goes on when one of them is dropped, and ends when all are.
type Going = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Calls that go together.
struct Group<T, R>(Mutex<State<T, R>>);

struct State<T, R> {
    begun: bool,
    items: usize,
    bytes: usize,
    calls: Vec<Call<T>>,
    ends: Vec<(usize, Result<Vec<R>, EngineError>)>,
    next: usize,
}

struct Call<T> {
    number: usize,
    items: Vec<T>,
    by: Instant,
}

/// What a call brings.
pub(crate) struct Brought<T> {
    pub(crate) items: Vec<T>,
    pub(crate) bytes: usize,
    /// When it must have ended.
    pub(crate) by: Instant,
}

impl<T, R> Group<T, R> {
    fn new() -> Self {
        Self(Mutex::new(State {
            begun: false,
            items: 0,
            bytes: 0,
            calls: Vec::new(),
            ends: Vec::new(),
            next: 0,
        }))
    }

    /// Takes a call in, and returns its number; gives it back if the group has begun, or is full.
    fn enter(&self, brought: Brought<T>, most: Most) -> Result<usize, Brought<T>> {
        self.0.with(|state| {
            let (items, bytes) = (brought.items.len(), brought.bytes);
            let is_first = state.calls.is_empty();
            let fits = state.items + items <= most.items && state.bytes + bytes <= most.bytes;
            if state.begun || !(is_first || fits) {
                return Err(brought);
            }
            let number = state.next;
            state.next += 1;
            state.items += items;
            state.bytes += bytes;
            state.calls.push(Call {
                number,
                items: brought.items,
                by: brought.by,
            });
            Ok(number)
        })
    }

    /// Takes a call out; says whether nothing was begun of it.
    fn leave(&self, number: usize) -> bool {
        self.0.with(|state| {
            let before = state.calls.len();
            state.calls.retain(|call| call.number != number);
            before > state.calls.len()
        })
    }

    fn begin(&self) -> Vec<Call<T>> {
        self.0.with(|state| {
            state.begun = true;
            std::mem::take(&mut state.calls)
        })
    }

    fn end_of(&self, number: usize) -> Option<Result<Vec<R>, EngineError>> {
        self.0.with(|state| {
            let at = state.ends.iter().position(|(of, _)| *of == number)?;
            Some(state.ends.swap_remove(at).1)
        })
    }
}

/// Takes its call out again, if it was not begun.
struct Member<T, R> {
    group: Arc<Group<T, R>>,
    number: usize,
}

impl<T, R> Drop for Member<T, R> {
    fn drop(&mut self) {
        self.group.leave(self.number);
    }
}

impl<T: Send + 'static, R: Send + 'static> Joiner<T, R> {
    pub(crate) fn new(most: Most) -> Self {
        Self {
            most,
            turns: Arc::new(Semaphore::new(TURNS)),
            last: Mutex::new(None),
        }
    }

    /// Makes a call, with others if there are any. `run` does it for all of a group, by the earliest of their deadlines.
    pub(crate) async fn join<F>(
        &self,
        brought: Brought<T>,
        run: impl FnOnce(Vec<T>, Instant) -> F + Send + 'static,
        late: impl FnOnce(bool) -> EngineError,
    ) -> Result<Vec<R>, EngineError>
    where
        F: Future<Output = Result<Vec<R>, EngineError>> + Send + 'static,
    {
        let by = brought.by;
        let (member, going) = self.enter(brought, run);
        let ended = timeout_at(by, going).await.is_ok();
        match member.group.end_of(member.number) {
            Some(end) if ended => end,
            _ => Err(late(!member.group.leave(member.number))),
        }
    }

    fn enter<F>(
        &self,
        mut brought: Brought<T>,
        run: impl FnOnce(Vec<T>, Instant) -> F + Send + 'static,
    ) -> (Member<T, R>, Shared<Going>)
    where
        F: Future<Output = Result<Vec<R>, EngineError>> + Send + 'static,
    {
        self.last.with(|last| {
            // One that nobody waits for any more does not go.
            let waiting = last
                .as_ref()
                .and_then(|(group, going)| Some((group, going.upgrade()?)));
            if let Some((group, going)) = waiting {
                match group.enter(brought, self.most) {
                    Ok(number) => {
                        let group = Arc::clone(group);
                        return (Member { group, number }, going);
                    }
                    Err(back) => brought = back,
                }
            }
            let group = Arc::new(Group::new());
            let number = group.enter(brought, self.most).unwrap_or_default();
            let going: Going = Box::pin(go(Arc::clone(&self.turns), Arc::clone(&group), run));
            let going = going.shared();
            *last = going.downgrade().map(|weak| (Arc::clone(&group), weak));
            (Member { group, number }, going)
        })
    }
}

async fn go<T, R, F>(
    turns: Arc<Semaphore>,
    group: Arc<Group<T, R>>,
    run: impl FnOnce(Vec<T>, Instant) -> F,
) where
    F: Future<Output = Result<Vec<R>, EngineError>>,
{
    let _turn = turns.acquire_owned().await;
    let calls = group.begin();
    let Some(by) = calls.iter().map(|call| call.by).min() else {
        return;
    };
    let mut of = Vec::with_capacity(calls.len());
    let mut items = Vec::new();
    for call in calls {
        of.push((call.number, call.items.len()));
        items.extend(call.items);
    }
    let done = run(items, by).await;
    let mut answers = done.map(Vec::into_iter);
    let ends = of.into_iter().map(|(number, count)| {
        let end = match &mut answers {
            Ok(answers) => Ok(answers.by_ref().take(count).collect()),
            Err(error) => Err(error.clone()),
        };
        (number, end)
    });
    let ends = ends.collect();
    group.0.with(|state| state.ends = ends);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dpat_core::{Classify as _, Effect};
    use tokio::sync::oneshot;

    use super::*;

    const MOST: Most = Most {
        items: 4,
        bytes: 100,
    };

    /// The items that went together, and what tells how it ends.
    type Seen = (Vec<u32>, Option<oneshot::Sender<bool>>);

    /// Notes what goes together, and answers when it is told to.
    #[derive(Clone, Default)]
    struct Server(Arc<Mutex<Vec<Seen>>>);

    impl Server {
        fn groups(&self) -> Vec<Vec<u32>> {
            self.0
                .with(|seen| seen.iter().map(|(items, _)| items.clone()).collect())
        }

        /// Answers a group: each item with itself, or all with a failure.
        async fn answer(&self, group: usize, well: bool) {
            let answer = self.0.with(|seen| seen[group].1.take());
            answer.unwrap().send(well).unwrap();
            settled().await;
        }

        async fn run(self, items: Vec<u32>, _: Instant) -> Result<Vec<u32>, EngineError> {
            let (answer, told) = oneshot::channel();
            self.0.with(|seen| seen.push((items.clone(), Some(answer))));
            match told.await {
                Ok(true) => Ok(items),
                _ => Err(EngineError::timeout("a")),
            }
        }
    }

    type Task = tokio::task::JoinHandle<Result<Vec<u32>, EngineError>>;

    fn call(
        joiner: &Arc<Joiner<u32, u32>>,
        server: &Server,
        items: &[u32],
        by: Duration,
        bytes: usize,
    ) -> Task {
        let (joiner, server) = (Arc::clone(joiner), server.clone());
        let brought = Brought {
            items: items.to_vec(),
            bytes,
            by: Instant::now() + by,
        };
        let run = |items, by| server.run(items, by);
        tokio::spawn(async move { joiner.join(brought, run, late).await })
    }

    fn late(begun: bool) -> EngineError {
        let error = EngineError::timeout("a");
        if begun { error } else { error.before() }
    }

    const LONG: Duration = Duration::from_secs(60);

    /// Lets all tasks run until they wait.
    async fn settled() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_comes_while_scripts_are_under_way_goes_together_and_each_gets_its_answers() {
        let (joiner, server) = (Arc::new(Joiner::new(MOST)), Server::default());
        let mut calls = Vec::new();
        for items in [&[1][..], &[2], &[3], &[4, 5], &[6], &[7]] {
            calls.push(call(&joiner, &server, items, LONG, 1));
            settled().await;
        }
        assert_eq!(
            server.groups(),
            [vec![1], vec![2]],
            "nobody waits for others"
        );
        server.answer(1, true).await;
        assert_eq!(server.groups()[2..], [vec![3, 4, 5, 6]], "as many as fit");
        server.answer(0, true).await;
        assert_eq!(server.groups()[3..], [vec![7]]);
        server.answer(2, true).await;
        server.answer(3, true).await;
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap().unwrap());
        }
        assert_eq!(
            answers,
            [vec![1], vec![2], vec![3], vec![4, 5], vec![6], vec![7]]
        );
    }

    #[tokio::test]
    async fn a_failure_is_that_of_all_who_went_together() {
        let (joiner, server) = (Arc::new(Joiner::new(MOST)), Server::default());
        let under_way = [1, 2].map(|item| call(&joiner, &server, &[item], LONG, 1));
        settled().await;
        let together = [3, 4].map(|item| call(&joiner, &server, &[item], LONG, 1));
        settled().await;
        server.answer(0, true).await;
        server.answer(1, true).await;
        server.answer(2, false).await;
        for call in under_way {
            call.await.unwrap().unwrap();
        }
        for call in together {
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error.effect(), Effect::Unknown);
        }
    }

    #[tokio::test]
    async fn who_is_dropped_before_it_begins_is_not_sent_and_holds_up_nobody() {
        let (joiner, server) = (Arc::new(Joiner::new(MOST)), Server::default());
        let first = call(&joiner, &server, &[1], LONG, 1);
        let second = call(&joiner, &server, &[2], LONG, 1);
        settled().await;
        let (gone, stays) = (
            call(&joiner, &server, &[3], LONG, 1),
            call(&joiner, &server, &[4], LONG, 1),
        );
        settled().await;
        // One that waits, and one whose script is under way.
        gone.abort();
        first.abort();
        settled().await;
        assert_eq!(server.groups(), [vec![1], vec![2], vec![4]]);
        server.answer(2, true).await;
        assert_eq!(stays.await.unwrap().unwrap(), [4]);
        server.answer(1, true).await;
        assert_eq!(second.await.unwrap().unwrap(), [2]);

        // All of a group are dropped: the next one begins another.
        let under_way = [5, 6].map(|item| call(&joiner, &server, &[item], LONG, 1));
        settled().await;
        let gone = call(&joiner, &server, &[7], LONG, 1);
        settled().await;
        gone.abort();
        settled().await;
        let next = call(&joiner, &server, &[8], LONG, 1);
        settled().await;
        server.answer(3, true).await;
        server.answer(4, true).await;
        server.answer(5, true).await;
        assert_eq!(next.await.unwrap().unwrap(), [8]);
        for call in under_way {
            call.await.unwrap().unwrap();
        }
        assert!(!server.groups().concat().contains(&7));
    }

    #[tokio::test]
    async fn who_joins_one_whose_founder_is_dropped_is_sent() {
        let (joiner, server) = (Arc::new(Joiner::new(MOST)), Server::default());
        let under_way = [1, 2].map(|item| call(&joiner, &server, &[item], LONG, 1));
        settled().await;
        let founder = call(&joiner, &server, &[3], LONG, 1);
        settled().await;
        let member = call(&joiner, &server, &[4], LONG, 1);
        settled().await;
        server.answer(0, true).await;
        assert_eq!(server.groups()[2..], [vec![3, 4]]);
        founder.abort();
        settled().await;
        server.answer(2, true).await;
        assert_eq!(member.await.unwrap().unwrap(), [4]);
        server.answer(1, true).await;
        for call in under_way {
            call.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn each_ends_by_its_deadline_and_knows_whether_it_was_begun() {
        let (joiner, server) = (Arc::new(Joiner::new(MOST)), Server::default());
        let begun = call(&joiner, &server, &[1], Duration::ZERO, 1);
        let error = begun.await.unwrap().unwrap_err();
        assert_eq!(error.effect(), Effect::Unknown);
        let under_way = [2, 3].map(|item| call(&joiner, &server, &[item], LONG, 1));
        settled().await;
        let waits = call(&joiner, &server, &[4], Duration::ZERO, 1);
        let error = waits.await.unwrap().unwrap_err();
        assert_eq!(error.effect(), Effect::NotDone);
        server.answer(1, true).await;
        server.answer(2, true).await;
        for call in under_way {
            call.await.unwrap().unwrap();
        }
        assert_eq!(server.groups(), [vec![1], vec![2], vec![3]]);
    }

    #[tokio::test]
    async fn what_is_too_large_to_go_with_others_goes_alone() {
        let (joiner, server) = (Arc::new(Joiner::new(MOST)), Server::default());
        let under_way = [1, 2].map(|item| call(&joiner, &server, &[item], LONG, 1));
        settled().await;
        let small = call(&joiner, &server, &[3], LONG, 1);
        settled().await;
        let large = call(&joiner, &server, &[4], LONG, 1_000);
        settled().await;
        let next = call(&joiner, &server, &[5], LONG, 1);
        settled().await;
        for group in 0..5 {
            server.answer(group, true).await;
        }
        assert_eq!(server.groups()[2..], [vec![3], vec![4], vec![5]]);
        for (call, items) in [(small, [3]), (large, [4]), (next, [5])] {
            assert_eq!(call.await.unwrap().unwrap(), items);
        }
        for call in under_way {
            call.await.unwrap().unwrap();
        }
    }
}
