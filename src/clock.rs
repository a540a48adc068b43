//! This module measures time with a monotonic clock and a wall clock together.
//!
//! A deadline is stored in both times, and has passed if it has passed on either clock: the monotonic clock may stop while the
//! machine is suspended, and the wall clock can be set back. On Linux, the coarse clocks of the system are read, with a resolution
//! of a few milliseconds, because every request reads the time.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A point in time on both clocks, in nanoseconds.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::clock::Moment;
///
/// let start = Moment { monotonic: 0, wall: 1_000 };
/// let end = start + Duration::from_secs(1);
/// // The wall clock was set back, but the deadline has passed on the monotonic clock.
/// assert!(end.is_past(Moment { monotonic: 1_000_000_000, wall: 0 }));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic time, since a fixed point.
    pub monotonic: u64,
    /// The wall time, since 1970.
    pub wall: u64,
}

impl Moment {
    /// A deadline that never passes.
    pub const NEVER: Self = Self {
        monotonic: u64::MAX,
        wall: u64::MAX,
    };

    /// Returns `true` if a deadline at this moment has passed on either clock.
    #[inline]
    #[must_use]
    pub const fn is_past(self, now: Self) -> bool {
        // Not short-circuited: two comparisons are cheaper than a second branch.
        (now.monotonic >= self.monotonic) | (now.wall >= self.wall)
    }

    /// Returns the time until this moment on the clock with less time left, or zero if it has passed.
    #[must_use]
    pub fn remaining(self, now: Self) -> Duration {
        let monotonic = self.monotonic.saturating_sub(now.monotonic);
        let wall = self.wall.saturating_sub(now.wall);
        Duration::from_nanos(monotonic.min(wall))
    }

    /// Returns the moment that is earlier by this duration.
    pub(crate) fn earlier_by(self, duration: Duration) -> Self {
        let Nanos(nanos) = duration.into();
        Self {
            monotonic: self.monotonic.saturating_sub(nanos),
            wall: self.wall.saturating_sub(nanos),
        }
    }

    /// Returns the later time on each clock.
    pub(crate) fn later_of(self, other: Self) -> Self {
        Self {
            monotonic: self.monotonic.max(other.monotonic),
            wall: self.wall.max(other.wall),
        }
    }

    /// Returns the wall time.
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.wall)
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    /// Saturates at [`Moment::NEVER`], so that a lifetime of centuries does not overflow.
    fn add(self, duration: Duration) -> Self {
        self + Nanos::from(duration)
    }
}

/// A duration in nanoseconds. It saturates at about 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nanos(u64);

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl std::ops::Add<Nanos> for Moment {
    type Output = Self;

    #[inline]
    fn add(self, Nanos(nanos): Nanos) -> Self {
        Self {
            monotonic: self.monotonic.saturating_add(nanos),
            wall: self.wall.saturating_add(nanos),
        }
    }
}

/// The clock of a cache.
///
/// ```
/// use tower_bearer::clock::{Clock, Moment};
///
/// let clock = Clock::from_fn(|| Moment { monotonic: 7, wall: 7 });
/// assert_eq!(clock.now().wall, 7);
/// assert!(Clock::system().now().wall > 0);
/// ```
#[derive(Clone, Default)]
pub struct Clock(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    System,
    Tokio(tokio::time::Instant, Moment),
    Custom(Arc<dyn Fn() -> Moment + Send + Sync>),
}

impl Clock {
    /// Returns the clocks of the system.
    #[must_use]
    pub const fn system() -> Self {
        Self(Kind::System)
    }

    /// Returns a clock that uses Tokio's time for both clocks, for tests with paused time.
    ///
    /// Call it inside the runtime whose time is paused.
    #[must_use]
    pub fn tokio() -> Self {
        let start = Moment {
            monotonic: 0,
            wall: system::now().wall,
        };
        Self(Kind::Tokio(tokio::time::Instant::now(), start))
    }

    /// Returns a clock that calls a function.
    pub fn from_fn(now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Kind::Custom(Arc::new(now)))
    }

    /// Returns the current time.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Kind::System => system::now(),
            Kind::Tokio(instant, start) => *start + instant.elapsed(),
            Kind::Custom(now) => now(),
        }
    }

    /// Returns the current time, given the result of an earlier call.
    ///
    /// Both coarse clocks advance with the same tick of the system. If the monotonic clock has not advanced, the wall clock is not
    /// read. A change of the wall clock is visible at the next tick, a few milliseconds later.
    #[inline(always)]
    pub(crate) fn now_since(&self, last: Moment) -> Moment {
        match &self.0 {
            Kind::System => system::now_since(last),
            Kind::Tokio(..) | Kind::Custom(_) => self.now(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::System => "Clock::system()",
            Kind::Tokio(..) => "Clock::tokio()",
            Kind::Custom(_) => "Clock::from_fn(_)",
        })
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::time::{ClockId, Timespec, clock_gettime};

    use super::Moment;

    #[inline]
    pub(super) fn now() -> Moment {
        Moment {
            monotonic: nanos(clock_gettime(ClockId::MonotonicCoarse)),
            wall: nanos(clock_gettime(ClockId::RealtimeCoarse)),
        }
    }

    #[inline(always)]
    pub(super) fn now_since(last: Moment) -> Moment {
        let monotonic = nanos(clock_gettime(ClockId::MonotonicCoarse));
        if monotonic == last.monotonic {
            return last;
        }
        let wall = nanos(clock_gettime(ClockId::RealtimeCoarse));
        Moment { monotonic, wall }
    }

    #[inline(always)]
    fn nanos(time: Timespec) -> u64 {
        // A wall clock before 1970 is wrong. It is read as 1970.
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds.wrapping_mul(1_000_000_000) + time.tv_nsec as u64
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::{sync::LazyLock, time::Instant};

    use super::{Moment, Nanos, SystemTime, UNIX_EPOCH};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn now() -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        Moment {
            monotonic: Nanos::from(START.elapsed()).0,
            wall: Nanos::from(wall.unwrap_or_default()).0,
        }
    }

    pub(super) fn now_since(_: Moment) -> Moment {
        now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_has_passed_if_either_clock_has_passed_it() {
        let start = Moment {
            monotonic: 10,
            wall: 1_000,
        };
        let end = start + Duration::from_nanos(5);
        assert!(!end.is_past(start));
        assert!(end.is_past(Moment {
            monotonic: 15,
            wall: 0
        }));
        assert!(end.is_past(Moment {
            monotonic: 0,
            wall: 1_005
        }));
        assert_eq!(
            end.remaining(Moment {
                monotonic: 12,
                wall: 0
            }),
            Duration::from_nanos(3)
        );
    }

    #[test]
    fn adding_a_long_duration_saturates() {
        let start = Clock::system().now();
        assert_eq!((start + Duration::MAX), Moment::NEVER);
    }
}
