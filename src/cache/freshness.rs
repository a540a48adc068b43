//! Computes a token's times from the provider's response, and whether the token is fresh, stale or expired.
//!
//! ```text
//! requested         refresh        unusable  expiry
//!    |---- fresh -----|---- stale ----|margin|
//! ```
//! The refresh point is the server's `refresh_in`, otherwise it lies before the expiry by a lead of min(5 min, lifetime / 4). A
//! jitter, which is fixed per token, moves it earlier by up to a fifth of the lead, so that the processes of a fleet don't
//! refresh at the same time. The margin is min(10 s, lifetime / 10). All times lie within the lifetime, so a token that lives for
//! two seconds can still be used.

use std::time::Duration;

use crate::{clock::Moment, token::Times};

const LONGEST_LEAD: Duration = Duration::from_secs(5 * 60);
const LONGEST_MARGIN: Duration = Duration::from_secs(10);
/// The earliest refresh point, so that `refresh_in: 0` does not cause a request after each response.
const EARLIEST_REFRESH: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// It can be sent.
    Fresh,
    /// It can be sent, and is due for refresh.
    Stale,
    /// It must not be sent.
    Expired,
}

pub(crate) fn classify(times: &Times, now: Moment) -> Freshness {
    if times.unusable_at().is_past(now) {
        Freshness::Expired
    } else if times.refresh_at().is_past(now) {
        Freshness::Stale
    } else {
        Freshness::Fresh
    }
}

/// Computes the times of a token that was requested at `requested_at`. `jitter` is between 0 and 1.
pub(crate) fn times(
    requested_at: Moment,
    lifetime: Duration,
    refresh_in: Option<Duration>,
    jitter: f64,
) -> Times {
    let usable = lifetime - LONGEST_MARGIN.min(lifetime / 10);
    let lead = LONGEST_LEAD.min(lifetime / 4);
    let refresh = refresh_in.unwrap_or(lifetime - lead);
    let earlier = (lead / 5).min(refresh / 5).mul_f64(jitter.clamp(0.0, 1.0));
    let earliest = EARLIEST_REFRESH.min(lifetime / 4);
    let refresh = (refresh - earlier).max(earliest).min(usable);
    Times::new(requested_at, refresh, usable, lifetime)
}

/// Computes the times of a token that another process has fetched. The moments are in nanoseconds of that process's wall clock,
/// which may differ from the local one. `jitter` is between 0 and 1.
///
/// The token expires at its expiry on the local clock, and is never used for longer than its lifetime. Its refresh point is up
/// to a fifth of the lead later, so that the process that fetched it is the first to refresh it.
#[cfg(feature = "store")]
pub(crate) fn resume(now: Moment, requested: u64, refresh: u64, expiry: u64, jitter: f64) -> Times {
    let lifetime = Duration::from_nanos(expiry.saturating_sub(requested));
    let left = Duration::from_nanos(expiry.saturating_sub(now.wall)).min(lifetime);
    // If this machine has run for less than the token's age, the monotonic deadlines are too late by the difference. Those of
    // the wall clock are right.
    let requested_here = now.earlier_by(lifetime - left);
    let usable = lifetime - LONGEST_MARGIN.min(lifetime / 10);
    let refresh = Duration::from_nanos(refresh.saturating_sub(requested)).min(usable);
    let lead = lifetime - refresh;
    let later = (lead / 5).min(refresh / 5).mul_f64(jitter.clamp(0.0, 1.0));
    let refresh = (refresh + later).min(usable);
    Times::new(requested_here, refresh, usable, lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment {
        monotonic: 1_000_000_000,
        wall: 2_000_000_000,
    };

    fn seconds(lifetime: f64, refresh_in: Option<f64>, jitter: f64) -> (f64, f64, f64) {
        let times = times(
            START,
            Duration::from_secs_f64(lifetime),
            refresh_in.map(Duration::from_secs_f64),
            jitter,
        );
        let after = |moment: Moment| moment.remaining(START).as_secs_f64();
        (
            after(times.refresh_at()),
            after(times.unusable_at()),
            after(times.expires_at()),
        )
    }

    #[test]
    fn refresh_lead_is_a_quarter_of_the_lifetime_up_to_five_minutes() {
        assert_eq!(seconds(3600.0, None, 0.0), (3300.0, 3590.0, 3600.0));
        assert_eq!(seconds(300.0, None, 0.0), (225.0, 290.0, 300.0));
        assert_eq!(seconds(20.0, None, 0.0), (15.0, 18.0, 20.0));
        assert_eq!(seconds(2.0, None, 0.0), (1.5, 1.8, 2.0));
        assert_eq!(seconds(1.0, None, 0.0), (0.75, 0.9, 1.0));
    }

    #[test]
    fn jitter_advances_the_refresh_by_at_most_a_fifth_of_the_lead() {
        assert_eq!(seconds(3600.0, None, 1.0).0, 3240.0);
        assert_eq!(seconds(20.0, None, 1.0).0, 14.0);
    }

    #[test]
    fn refresh_in_is_limited_by_the_lifetime() {
        assert_eq!(seconds(7200.0, Some(3600.0), 0.0).0, 3600.0);
        assert_eq!(seconds(100.0, Some(1e6), 0.0).0, 90.0);
        assert_eq!(seconds(3600.0, Some(0.0), 1.0).0, 10.0);
    }

    #[test]
    fn token_is_fresh_then_stale_then_expired() {
        let times = times(START, Duration::from_secs(20), None, 0.0);
        let at = |seconds| classify(&times, START + Duration::from_secs(seconds));
        assert_eq!(at(14), Freshness::Fresh);
        assert_eq!(at(15), Freshness::Stale);
        assert_eq!(at(17), Freshness::Stale);
        assert_eq!(at(18), Freshness::Expired);
    }

    #[test]
    fn extreme_lifetimes_do_not_overflow() {
        let long = times(START, Duration::MAX, None, 1.0);
        assert_eq!(
            classify(&long, START + Duration::from_secs(1 << 32)),
            Freshness::Fresh
        );
        let none = times(START, Duration::ZERO, None, 1.0);
        assert_eq!(classify(&none, START), Freshness::Expired);
    }

    /// Loads a token of this age, with a lifetime of an hour and a refresh after 55 minutes, from a process whose clock is ahead by
    /// `offset` seconds.
    #[cfg(feature = "store")]
    fn resumed(age: u64, offset: i64, jitter: f64) -> (Times, Moment) {
        let second = 1_000_000_000;
        let now = Moment {
            monotonic: 50_000 * second,
            wall: 1_000_000 * second,
        };
        let requested = (now.wall - age * second).saturating_add_signed(offset * second as i64);
        let (refresh, expiry) = (requested + 3_300 * second, requested + 3_600 * second);
        (resume(now, requested, refresh, expiry, jitter), now)
    }

    #[cfg(feature = "store")]
    #[test]
    fn loaded_token_keeps_its_times_on_both_clocks() {
        let (times, now) = resumed(600, 0, 0.0);
        assert_eq!(
            times.requested_at(),
            now.earlier_by(Duration::from_secs(600))
        );
        assert_eq!(times.refresh_at(), now + Duration::from_secs(2_700));
        assert_eq!(times.unusable_at(), now + Duration::from_secs(2_990));
        assert_eq!(times.expires_at(), now + Duration::from_secs(3_000));
        let (times, _) = resumed(600, 0, 1.0);
        assert_eq!(times.refresh_at(), now + Duration::from_secs(2_760));
    }

    #[cfg(feature = "store")]
    #[test]
    fn loaded_token_expires_by_the_local_clock_within_its_lifetime() {
        let hour = Duration::from_secs(3_600);
        for offset in [-7_200, -3_000, -300, 0, 300, 3_000, 1 << 30] {
            for age in [0, 600, 3_599, 3_601] {
                let (times, now) = resumed(age, offset, 0.5);
                let left = times.expires_at().remaining(now);
                let by_local_clock = (3_600 - age as i64 + offset).max(0) as u64;
                assert_eq!(
                    left,
                    Duration::from_secs(by_local_clock).min(hour),
                    "{age} {offset}"
                );
                assert!(
                    times.unusable_at().remaining(now) <= left
                        && times.refresh_at().remaining(now) <= left
                );
            }
        }
    }

    #[cfg(feature = "store")]
    #[test]
    fn loaded_token_with_impossible_times_is_expired() {
        let now = Moment {
            monotonic: 5,
            wall: 1_000,
        };
        for (requested, refresh, expiry) in [
            (0, 0, 0),
            (900, 800, 700),
            (2_000, 0, 1_500),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            let times = resume(now, requested, refresh, expiry, 0.5);
            assert_eq!(classify(&times, now), Freshness::Expired);
        }
        // The longest possible lifetime is accepted.
        let times = resume(now, 0, u64::MAX, u64::MAX, 1.0);
        assert_eq!(classify(&times, now), Freshness::Fresh);
    }
}
