//! Every crash point of a workload.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dpat_storage::Operation;

use super::fault::{Image, Odds, Strike};
use super::state::Step;
use super::storage::SimDisk;

/// The most operations of one workload.
const OPERATIONS_MAX: u64 = 100_000;

/// Where and how a run was struck, and what was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// The number of the operation that was struck, the first being 0.
    pub operation: u64,
    /// What struck.
    pub strike: Strike,
    /// What the power cut left; after [`Strike::Fail`] and [`Strike::Full`] too, one follows the workload.
    pub image: Image,
    /// The operation of the recovery, counted from its beginning, at which the power was cut again.
    pub again: Option<u64>,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            strike,
            image,
            ..
        } = self;
        write!(f, "{strike} at operation {operation}, image {image}")?;
        match self.again {
            Some(again) => write!(f, ", and a crash at operation {again} of the recovery"),
            None => Ok(()),
        }
    }
}

/// Runs a workload once for each of its operations, strikes there, and judges every image that may be left.
///
/// The workload is a closure that does what a program does and writes down *outside of the disk* what it was promised.
/// The oracle opens what is left, as the program would, and compares it with what was promised. Both get a disk; the
/// workload ends at its first error, which is what a program does whose machine has died. The same seed gives the same
/// runs, if the workload asks for the same operations in the same order: no threads, no clock, no other randomness.
///
/// # Examples
/// ```
/// use dpat_sim::disk::{CrashPoints, SimDisk};
/// use dpat_storage::{ROOT, Storage, StorageError};
///
/// fn work(disk: &SimDisk, promised: &mut Vec<&'static str>) -> Result<(), StorageError> {
///     for name in ["a", "b"] {
///         disk.create(name)?;
///         disk.sync_dir(ROOT)?;
///         promised.push(name);
///     }
///     Ok(())
/// }
///
/// let report = CrashPoints::new(7).run(
///     |disk, promised| drop(work(disk, promised)),
///     |disk, promised, _| match promised.iter().find(|name| disk.metadata(name).is_err()) {
///         Some(lost) => Err(format!("{lost} is lost")),
///         None => Ok(()),
///     },
/// )?;
/// assert_eq!(report.operations, 4);
/// # Ok::<(), dpat_sim::disk::CrashFailure>(())
/// ```
#[derive(Clone, Debug)]
pub struct CrashPoints {
    seed: u64,
    odds: Odds,
    images: u64,
    strikes: Vec<Strike>,
    recovery: bool,
    only: Option<Point>,
}

/// What was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrashReport {
    /// Operations of the undisturbed workload.
    pub operations: u64,
    /// Runs of the workload that were struck.
    pub points: u64,
    /// Images that the oracle judged, those after a second crash included.
    pub images: u64,
    /// Crashes in the middle of the recovery.
    pub recoveries: u64,
    /// Operations that were struck, by their kind.
    pub struck: BTreeMap<(Strike, Operation), u64>,
}

/// A point whose image the oracle refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashFailure {
    /// Where; [`CrashPoints::only`] runs it again. None: it failed undisturbed.
    pub point: Option<Point>,
    /// What was asked for there.
    pub step: Option<Step>,
    /// What the oracle said.
    pub message: String,
    /// The seed of the disk.
    pub seed: u64,
}

impl fmt::Display for CrashFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, ", self.seed)?;
        match &self.point {
            None => f.write_str("undisturbed")?,
            Some(point) => point.fmt(f)?,
        }
        if let Some(Step { operation, path }) = &self.step {
            write!(f, " ({operation} {path:?})")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for CrashFailure {}

impl CrashPoints {
    /// Strikes with power cuts and kills; three drawn images a power cut; recovery is crashed, too.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            odds: Odds::MIXED,
            images: 3,
            strikes: vec![Strike::Crash, Strike::Kill],
            recovery: true,
            only: None,
        }
    }

    /// Sets the strikes that are tried at each operation.
    ///
    /// Power cuts and kills strike operations that change something; the others all of them.
    #[must_use]
    pub fn strikes(mut self, strikes: &[Strike]) -> Self {
        self.strikes = strikes.to_vec();
        self
    }

    /// Sets how many images are drawn for each power cut, besides [`Image::Synced`] and [`Image::Written`].
    #[must_use]
    pub fn images(mut self, images: u64) -> Self {
        self.images = images;
        self
    }

    /// Sets what drawn images leave.
    #[must_use]
    pub fn odds(mut self, odds: Odds) -> Self {
        self.odds = odds;
        self
    }

    /// Sets whether each recovery is crashed at each of its own changing operations, and recovered again.
    ///
    /// The oracle is then run on what it left itself, as often as it has such operations.
    #[must_use]
    pub fn crash_recovery(mut self, crash: bool) -> Self {
        self.recovery = crash;
        self
    }

    /// Runs one point only, such as that of a [`CrashFailure`].
    #[must_use]
    pub fn only(mut self, point: Point) -> Self {
        self.only = Some(point);
        self
    }

    /// Runs the workload at every point and asks the oracle about every image.
    ///
    /// `L` is what the workload was promised; each run begins with `L::default()`. The oracle is told the point, or none
    /// for the undisturbed run. A panic of either is a failure like a message of the oracle.
    ///
    /// # Errors
    /// [`CrashFailure`] of the first image that the oracle refuses.
    pub fn run<L: Default>(
        &self,
        mut workload: impl FnMut(&SimDisk, &mut L),
        mut oracle: impl FnMut(&SimDisk, &L, Option<Point>) -> Result<(), String>,
    ) -> Result<CrashReport, CrashFailure> {
        let mut report = CrashReport::default();
        let mut run = Run {
            points: self,
            steps: Vec::new(),
            workload: &mut |disk, promised| {
                catch(AssertUnwindSafe(|| {
                    workload(disk, promised);
                    Ok(())
                }))
            },
            oracle: &mut |disk, promised, point| {
                catch(AssertUnwindSafe(|| oracle(disk, promised, point)))
            },
        };
        run.undisturbed(&mut report)?;
        if let Some(point) = self.only {
            run.point(point.operation, point.strike, &mut report)?;
            return Ok(report);
        }
        for at in 0..report.operations {
            for strike in &self.strikes {
                let changes = run.step(at).is_some_and(|step| step.operation.changes());
                if changes || !matches!(strike, Strike::Crash | Strike::Kill) {
                    run.point(at, *strike, &mut report)?;
                }
            }
        }
        Ok(report)
    }
}

/// Runs what may panic; a panic is a failure, too.
fn catch(what: AssertUnwindSafe<impl FnOnce() -> Result<(), String>>) -> Result<(), String> {
    catch_unwind(what).unwrap_or_else(|panic| Err(message_of(panic.as_ref())))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of no text"))
}

type Workload<'a, L> = dyn FnMut(&SimDisk, &mut L) -> Result<(), String> + 'a;
type Oracle<'a, L> = dyn FnMut(&SimDisk, &L, Option<Point>) -> Result<(), String> + 'a;

struct Run<'a, L> {
    points: &'a CrashPoints,
    /// What the undisturbed workload asked for.
    steps: Vec<Step>,
    workload: &'a mut Workload<'a, L>,
    oracle: &'a mut Oracle<'a, L>,
}

impl<L: Default> Run<'_, L> {
    fn disk(&self) -> SimDisk {
        let disk = SimDisk::new(self.points.seed);
        disk.set_odds(self.points.odds);
        disk
    }

    fn step(&self, at: u64) -> Option<&Step> {
        self.steps.get(usize::try_from(at).ok()?)
    }

    fn failure(&self, point: Option<Point>, message: String) -> CrashFailure {
        CrashFailure {
            point,
            step: point.and_then(|point| self.step(point.operation).cloned()),
            message,
            seed: self.points.seed,
        }
    }

    fn undisturbed(&mut self, report: &mut CrashReport) -> Result<(), CrashFailure> {
        let disk = self.disk();
        disk.record_steps();
        let mut promised = L::default();
        let ran = (self.workload)(&disk, &mut promised);
        self.steps = disk.take_steps();
        report.operations = self.steps.len() as u64;
        let judged = ran.and_then(|()| {
            if report.operations > OPERATIONS_MAX {
                return Err(format!(
                    "operations: {}, the limit is {OPERATIONS_MAX}",
                    report.operations
                ));
            }
            report.images += 1;
            (self.oracle)(&disk.kill(), &promised, None)
        });
        judged.map_err(|message| self.failure(None, message))
    }

    /// Strikes once and judges what may be left.
    fn point(
        &mut self,
        operation: u64,
        strike: Strike,
        report: &mut CrashReport,
    ) -> Result<(), CrashFailure> {
        let disk = self.disk();
        disk.strike_at(operation, strike);
        let mut promised = L::default();
        let ran = (self.workload)(&disk, &mut promised);
        report.points += 1;
        if let Some(step) = self.step(operation) {
            let struck = (strike, step.operation);
            *report.struck.entry(struck).or_default() += 1;
        }
        let images = match self.points.only {
            Some(only) => vec![only.image],
            None if strike == Strike::Kill => vec![Image::Written],
            None => self.images(),
        };
        for image in images {
            let point = Point {
                operation,
                strike,
                image,
                again: self.points.only.and_then(|only| only.again),
            };
            let refused = |run: &Self, message| run.failure(Some(point), message);
            ran.clone().map_err(|message| refused(self, message))?;
            let steps = self
                .judge(&disk, &promised, point, report)
                .map_err(|message| refused(self, message))?;
            if self.points.recovery && point.again.is_none() {
                self.crash_recovery(&disk, &promised, point, steps, report)?;
            }
        }
        Ok(())
    }

    fn images(&self) -> Vec<Image> {
        let drawn = (0..self.points.images).map(Image::Drawn);
        [Image::Synced, Image::Written]
            .into_iter()
            .chain(drawn)
            .collect()
    }

    /// Starts a copy of the disk with what the point leaves, asks the oracle, and returns what it asked for.
    fn judge(
        &mut self,
        disk: &SimDisk,
        promised: &L,
        point: Point,
        report: &mut CrashReport,
    ) -> Result<Vec<Step>, String> {
        let mut disk = recovering(disk, point);
        if let Some(again) = point.again {
            disk.strike_at(disk.operations() + again, Strike::Crash);
            // It ends in the middle, whatever it says.
            let _ = (self.oracle)(&disk, promised, Some(point));
            if disk.down_by().is_none() {
                return Ok(Vec::new());
            }
            report.recoveries += 1;
            disk = disk.restart(Image::Drawn(again));
        }
        report.images += 1;
        disk.record_steps();
        (self.oracle)(&disk, promised, Some(point))?;
        Ok(disk.take_steps())
    }

    /// Crashes the recovery of one image at each of its changing operations.
    fn crash_recovery(
        &mut self,
        disk: &SimDisk,
        promised: &L,
        point: Point,
        steps: Vec<Step>,
        report: &mut CrashReport,
    ) -> Result<(), CrashFailure> {
        for (again, step) in (0..).zip(steps) {
            if !step.operation.changes() {
                continue;
            }
            let again = Some(again);
            let point = Point { again, ..point };
            let judged = self.judge(disk, promised, point, report);
            judged.map_err(|message| CrashFailure {
                step: Some(step),
                ..self.failure(Some(point), message)
            })?;
        }
        Ok(())
    }
}

/// A copy of the disk as it starts again.
fn recovering(disk: &SimDisk, point: Point) -> SimDisk {
    let copy = disk.fork();
    let started = match point.strike {
        Strike::Kill => copy.kill(),
        // After a failure the program goes on or stops; either way its machine loses power at last.
        _ => copy.crash_to(point.image),
    };
    started.set_full(false);
    started
}
