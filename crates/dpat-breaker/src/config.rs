//! Every limit of a breaker, validated once.

use crate::{Cause, ConfigError};
use dpat_core::{Backoff, Entropy, Instant, Jitter};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The largest number of trip rules in one breaker.
pub const MAX_TRIPS: usize = 4;
/// The largest count window: 1 000 000 calls, 2 bytes each.
pub const MAX_WINDOW_CALLS: u32 = 1_000_000;
/// The largest number of buckets in a time window.
pub const MAX_BUCKETS: u32 = 1_000;
/// The longest time that a breaker stays open: 24 hours. Longer results of an [`OpenTime`] are cut to it.
pub const MAX_OPEN_TIME: Duration = Duration::from_secs(24 * 60 * 60);

const MIN_TIME: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Window {
    Count(u32),
    Time { length: Duration, buckets: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    FailureRate {
        threshold: f64,
    },
    SlowRate {
        threshold: f64,
        longer_than: Duration,
    },
    Consecutive {
        failures: u32,
    },
    OfLast {
        failures: u32,
        calls: u32,
    },
}

/// One rule that opens a breaker. Rules in one breaker are combined by OR.
///
/// Each rule has its own window. A rule is looked at when a failure or a slow call arrives: a plain success never
/// opens a breaker.
///
/// # Examples
/// ```
/// use dpat_breaker::{Config, Trip};
/// use std::time::Duration;
///
/// let config = Config::builder()
///     .trip_on(Trip::failure_rate(0.5).over_calls(200).minimum_calls(50))
///     .trip_on(Trip::slow_rate(0.8, Duration::from_secs(2)).over_time(Duration::from_secs(10), 10))
///     .trip_on(Trip::consecutive_failures(10))
///     .build()?;
/// # Ok::<(), dpat_breaker::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trip {
    pub(crate) rule: Rule,
    pub(crate) window: Option<Window>,
    pub(crate) minimum_calls: u32,
}

/// A rate without a window of its own looks at this many calls.
const DEFAULT_WINDOW: Window = Window::Count(100);

impl Trip {
    /// Trips when the share of failures is at least `threshold`.
    ///
    /// Of the last 100 calls, once there are 20, unless told otherwise.
    #[must_use]
    pub const fn failure_rate(threshold: f64) -> Self {
        Self {
            rule: Rule::FailureRate { threshold },
            window: None,
            minimum_calls: 20,
        }
    }

    /// Trips when the share of calls longer than `longer_than` is at least `threshold`.
    ///
    /// Of the last 100 calls, once there are 20, unless told otherwise.
    #[must_use]
    pub const fn slow_rate(threshold: f64, longer_than: Duration) -> Self {
        Self {
            rule: Rule::SlowRate {
                threshold,
                longer_than,
            },
            window: None,
            minimum_calls: 20,
        }
    }

    /// Trips at the `failures`-th failure without a success between.
    #[must_use]
    pub const fn consecutive_failures(failures: u32) -> Self {
        Self {
            rule: Rule::Consecutive { failures },
            window: None,
            minimum_calls: 1,
        }
    }

    /// Trips when at least `failures` of the last `calls` calls failed.
    ///
    /// Also before there were so many calls.
    #[must_use]
    pub const fn failures_of_last(failures: u32, calls: u32) -> Self {
        Self {
            rule: Rule::OfLast { failures, calls },
            window: None,
            minimum_calls: 1,
        }
    }

    /// Takes the rate over the last `calls` calls.
    #[must_use]
    pub const fn over_calls(mut self, calls: u32) -> Self {
        self.window = Some(Window::Count(calls));
        self
    }

    /// Takes the rate over the last `length` of time, cut into `buckets`.
    #[must_use]
    pub const fn over_time(mut self, length: Duration, buckets: u32) -> Self {
        self.window = Some(Window::Time { length, buckets });
        self
    }

    /// Does not trip before so many calls were counted.
    ///
    /// For rates in the window; for the other rules since the breaker closed.
    #[must_use]
    pub const fn minimum_calls(mut self, calls: u32) -> Self {
        self.minimum_calls = calls;
        self
    }

    pub(crate) const fn rate_window(&self) -> Window {
        match self.window {
            Some(window) => window,
            None => DEFAULT_WINDOW,
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        match self.rule {
            Rule::FailureRate { threshold } => {
                share("failure_rate", threshold)?;
                self.validate_window()
            }
            Rule::SlowRate {
                threshold,
                longer_than,
            } => {
                share("slow_rate", threshold)?;
                duration(
                    "slow_rate.longer_than",
                    longer_than,
                    Duration::ZERO,
                    MAX_OPEN_TIME,
                )?;
                self.validate_window()
            }
            Rule::Consecutive { failures } => {
                count("consecutive_failures", failures, 1, MAX_WINDOW_CALLS)?;
                count("minimum_calls", self.minimum_calls, 1, MAX_WINDOW_CALLS)?;
                self.validate_no_window()
            }
            Rule::OfLast { failures, calls } => {
                count("failures_of_last.calls", calls, 1, MAX_WINDOW_CALLS)?;
                count("failures_of_last.failures", failures, 1, calls)?;
                count("minimum_calls", self.minimum_calls, 1, MAX_WINDOW_CALLS)?;
                self.validate_no_window()
            }
        }
    }

    fn validate_window(&self) -> Result<(), ConfigError> {
        match self.rate_window() {
            Window::Count(calls) => {
                count("over_calls", calls, 1, MAX_WINDOW_CALLS)?;
                count("minimum_calls", self.minimum_calls, 1, calls)
            }
            Window::Time { length, buckets } => {
                count("over_time.buckets", buckets, 1, MAX_BUCKETS)?;
                duration("over_time.length", length, MIN_TIME, MAX_OPEN_TIME)?;
                count("minimum_calls", self.minimum_calls, 1, u32::MAX)
            }
        }
    }

    fn validate_no_window(&self) -> Result<(), ConfigError> {
        match self.window {
            None => Ok(()),
            Some(Window::Count(_)) => Err(ConfigError::Unused {
                field: "over_calls",
            }),
            Some(Window::Time { .. }) => Err(ConfigError::Unused { field: "over_time" }),
        }
    }
}

/// What is known when a breaker opens, for [`OpenTime::function`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenContext {
    /// How many times the breaker has opened since it last recovered, from 1.
    pub attempt: u32,
    /// What opened it.
    pub cause: Cause,
    /// What the last result asked for (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// When it opened.
    pub opened_at: Instant,
}

pub(crate) type OpenFunction = Arc<dyn Fn(&OpenContext) -> Duration + Send + Sync>;

#[derive(Clone)]
pub(crate) enum OpenRule {
    Fixed(Duration),
    Backoff(Backoff),
    Function(OpenFunction),
}

/// How long a breaker stays open.
///
/// # Examples
/// ```
/// use dpat_breaker::OpenTime;
/// use std::time::Duration;
///
/// // As long as the other side asks for, or a second per attempt.
/// let open = OpenTime::function(|opened| {
///     opened.retry_after.unwrap_or(Duration::from_secs(1) * opened.attempt)
/// });
/// # let _ = open;
/// ```
#[derive(Clone)]
pub struct OpenTime {
    pub(crate) rule: OpenRule,
    pub(crate) retry_after_max: Duration,
}

impl OpenTime {
    /// Always `time`, whatever the other side asks for.
    #[must_use]
    pub const fn fixed(time: Duration) -> Self {
        Self {
            rule: OpenRule::Fixed(time),
            retry_after_max: Duration::ZERO,
        }
    }

    /// Grows and is jittered as `backoff` says; starts over after a recovery.
    #[must_use]
    pub const fn backoff(backoff: Backoff) -> Self {
        Self {
            rule: OpenRule::Backoff(backoff),
            retry_after_max: Duration::ZERO,
        }
    }

    /// Asks a function each time the breaker opens; no lock is held meanwhile.
    ///
    /// The result is cut to [`MAX_OPEN_TIME`]. Until the function returns, and if it panics, the breaker stays open
    /// for 5 s.
    #[must_use]
    pub fn function(time: impl Fn(&OpenContext) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            rule: OpenRule::Function(Arc::new(time)),
            retry_after_max: Duration::ZERO,
        }
    }

    /// Stays open at least as long as the last failure asked for, up to `max`.
    ///
    /// That is [`Verdict::retry_after`](crate::Verdict::retry_after), such as the `Retry-After` of an HTTP answer.
    #[must_use]
    pub const fn honouring_retry_after(mut self, max: Duration) -> Self {
        self.retry_after_max = max;
        self
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let longest = match &self.rule {
            OpenRule::Fixed(time) => *time,
            OpenRule::Backoff(backoff) => backoff.max(),
            OpenRule::Function(_) => MIN_TIME,
        };
        duration("open_time", longest, MIN_TIME, MAX_OPEN_TIME)?;
        duration(
            "open_time.honouring_retry_after",
            self.retry_after_max,
            Duration::ZERO,
            MAX_OPEN_TIME,
        )
    }
}

impl Default for OpenTime {
    /// 5 s doubling to 60 s, the upper half of it random; honours `Retry-After` up to 60 s.
    fn default() -> Self {
        let max = Duration::from_secs(60);
        let backoff = Backoff::exponential(Duration::from_secs(5), 2.0, max)
            .expect("5 s is below 60 s and 2 is a finite factor above 1")
            .with_jitter(Jitter::Equal);
        Self::backoff(backoff).honouring_retry_after(max)
    }
}

impl fmt::Debug for OpenTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("OpenTime");
        match &self.rule {
            OpenRule::Fixed(time) => tuple.field(time),
            OpenRule::Backoff(backoff) => tuple.field(backoff),
            OpenRule::Function(_) => tuple.field(&"function"),
        };
        tuple.finish()
    }
}

/// Where a half-open breaker goes when a probe does not return in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AfterMaxWait {
    /// Opens again: a probe that hangs is a failure.
    Open,
    /// Closes.
    Close,
}

/// A step-by-step return to full traffic after a recovery.
///
/// Starts with a share of the calls and multiplies it after each interval without a failure; a failure divides it
/// and starts the interval anew. The trip rules hold all the time. Calls are admitted evenly, not at random: of any
/// n calls in a row, the share of n, give or take one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    pub(crate) start: f64,
    pub(crate) factor: f64,
    pub(crate) interval: Duration,
}

impl Ramp {
    /// From 5 %, doubling each `interval`: 5, 10, 20, 40, 80, 100 %.
    #[must_use]
    pub const fn every(interval: Duration) -> Self {
        Self {
            start: 0.05,
            factor: 2.0,
            interval,
        }
    }

    /// Sets the share to begin with; failures push back no further.
    #[must_use]
    pub const fn starting_at(mut self, share: f64) -> Self {
        self.start = share;
        self
    }

    /// Sets the factor of growth, above 1.05.
    #[must_use]
    pub const fn growing_by(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    fn validate(&self) -> Result<(), ConfigError> {
        share("ramp.starting_at", self.start)?;
        ratio("ramp.growing_by", self.factor, 1.05, 1_000.0)?;
        duration("ramp.every", self.interval, MIN_TIME, MAX_OPEN_TIME)
    }
}

/// Everything that a breaker can be told, validated.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) name: Arc<str>,
    pub(crate) trips: Vec<Trip>,
    pub(crate) open_time: OpenTime,
    pub(crate) permits: u32,
    pub(crate) probes: u32,
    pub(crate) probe_failure_rate: f64,
    pub(crate) max_wait: Option<(Duration, AfterMaxWait)>,
    pub(crate) ramp: Option<Ramp>,
    pub(crate) seed: Option<u64>,
}

impl Config {
    /// Starts from the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder {
            config: Self {
                name: Arc::from("default"),
                trips: Vec::new(),
                open_time: OpenTime::default(),
                permits: 3,
                probes: 3,
                probe_failure_rate: 0.5,
                max_wait: Some((Duration::from_secs(30), AfterMaxWait::Open)),
                ramp: None,
                seed: None,
            },
        }
    }

    /// Returns the name used in events and counters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Config {
    /// Trips at 50 % failures of the last 100 calls, once there are 20; the other defaults stand at
    /// [`ConfigBuilder`].
    fn default() -> Self {
        Config::builder()
            .build()
            .expect("a test builds the defaults")
    }
}

/// Collects the parts of a [`Config`]; [`build`](Self::build) validates them.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct ConfigBuilder {
    config: Config,
}

impl ConfigBuilder {
    /// Names the breaker in events and counters. Default `"default"`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.config.name = name.into();
        self
    }

    /// Adds a rule that opens the breaker, at most [`MAX_TRIPS`]. Default: `Trip::failure_rate(0.5)` alone.
    pub fn trip_on(mut self, trip: Trip) -> Self {
        self.config.trips.push(trip);
        self
    }

    /// Sets how long the breaker stays open. Default: 5 s doubling to 60 s with jitter.
    pub fn open_time(mut self, open_time: OpenTime) -> Self {
        self.config.open_time = open_time;
        self
    }

    /// Sets how many probes may run at once while half-open. Default 3, at most 1 000 000.
    pub fn half_open_permits(mut self, permits: u32) -> Self {
        self.config.permits = permits;
        self
    }

    /// Sets how many results decide the half-open state, if not fewer do. Default 3, at most 1 000 000.
    pub fn half_open_probes(mut self, probes: u32) -> Self {
        self.config.probes = probes;
        self
    }

    /// Sets the share of failed probes that opens the breaker again. Default 0.5. A slow probe counts as failed.
    pub fn half_open_failure_rate(mut self, threshold: f64) -> Self {
        self.config.probe_failure_rate = threshold;
        self
    }

    /// Sets how long the half-open state waits for a probe's result, and what follows. Default 30 s, then open.
    ///
    /// Counted while probes are out, from the last admission into an empty half-open state or the last result.
    pub fn max_half_open_wait(mut self, wait: Duration, then: AfterMaxWait) -> Self {
        self.config.max_wait = Some((wait, then));
        self
    }

    /// Lets the half-open state wait for its probes without limit.
    pub fn no_max_half_open_wait(mut self) -> Self {
        self.config.max_wait = None;
        self
    }

    /// Returns to full traffic step by step. Default: at once.
    pub fn ramp(mut self, ramp: Ramp) -> Self {
        self.config.ramp = Some(ramp);
        self
    }

    /// Draws the seed of the open-time jitter from `entropy`. Default: from the operating system.
    pub fn entropy(mut self, entropy: &(impl Entropy + ?Sized)) -> Self {
        self.config.seed = Some(entropy.next_u64());
        self
    }

    /// Validates.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is outside its limits.
    pub fn build(self) -> Result<Config, ConfigError> {
        let mut config = self.config;
        if config.trips.is_empty() {
            config.trips.push(Trip::failure_rate(0.5));
        }
        if config.trips.len() > MAX_TRIPS {
            return Err(ConfigError::Count {
                field: "trip_on",
                min: 1,
                max: MAX_TRIPS as u64,
                got: config.trips.len() as u64,
            });
        }
        for trip in &config.trips {
            trip.validate()?;
        }
        config.open_time.validate()?;
        count("half_open_permits", config.permits, 1, MAX_WINDOW_CALLS)?;
        count("half_open_probes", config.probes, 1, MAX_WINDOW_CALLS)?;
        share("half_open_failure_rate", config.probe_failure_rate)?;
        if let Some((wait, _)) = config.max_wait {
            duration("max_half_open_wait", wait, MIN_TIME, MAX_OPEN_TIME)?;
        }
        if let Some(ramp) = &config.ramp {
            ramp.validate()?;
        }
        Ok(config)
    }
}

fn count(field: &'static str, got: u32, min: u32, max: u32) -> Result<(), ConfigError> {
    if (min..=max).contains(&got) {
        Ok(())
    } else {
        Err(ConfigError::Count {
            field,
            min: min.into(),
            max: max.into(),
            got: got.into(),
        })
    }
}

fn share(field: &'static str, got: f64) -> Result<(), ConfigError> {
    ratio(field, got, 0.0, 1.0)
}

fn ratio(field: &'static str, got: f64, above: f64, max: f64) -> Result<(), ConfigError> {
    // Written so that NaN fails.
    if got > above && got <= max {
        Ok(())
    } else {
        Err(ConfigError::Ratio {
            field,
            above,
            max,
            got,
        })
    }
}

fn duration(
    field: &'static str,
    got: Duration,
    min: Duration,
    max: Duration,
) -> Result<(), ConfigError> {
    if (min..=max).contains(&got) {
        Ok(())
    } else {
        Err(ConfigError::Duration {
            field,
            min,
            max,
            got,
        })
    }
}
