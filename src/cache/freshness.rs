//! Fresh, stale or expired: a token's times, from what the provider said. Pure.
//!
//! ```text
//! obtained          refresh          end    expiry
//!    |---- fresh -----|---- stale ----|margin|
//! ```
//! The refresh point is the server's `refresh_in`, else a lead of min(5 min, lifetime / 4) before the expiry; a jitter,
//! fixed per token, moves it up to a fifth of the lead earlier, so that a fleet does not refresh in step. The margin is
//! min(10 s, lifetime / 10). Every span is clamped to the lifetime, so a token of two seconds still serves.

use std::time::Duration;

use crate::{clock::Moment, token::Times};

const LONGEST_LEAD: Duration = Duration::from_secs(5 * 60);
const LONGEST_MARGIN: Duration = Duration::from_secs(10);
/// A provider that says `refresh_in: 0` does not get a request after each answer.
const SHORTEST_REST: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Serve it.
    Fresh,
    /// Serve it, and see to another.
    Stale,
    /// Don't send it any more.
    Expired,
}

pub(crate) fn judge(times: &Times, now: Moment) -> Freshness {
    if times.end().is_past(now) {
        Freshness::Expired
    } else if times.refresh().is_past(now) {
        Freshness::Stale
    } else {
        Freshness::Fresh
    }
}

/// The times of a token that was asked for at `obtained`. `jitter` is from 0 to 1.
pub(crate) fn plan(
    obtained: Moment,
    lifetime: Duration,
    refresh_in: Option<Duration>,
    jitter: f64,
) -> Times {
    let usable = lifetime - LONGEST_MARGIN.min(lifetime / 10);
    let lead = LONGEST_LEAD.min(lifetime / 4);
    let refresh = refresh_in.unwrap_or(lifetime - lead);
    let earlier = (lead / 5).min(refresh / 5).mul_f64(jitter.clamp(0.0, 1.0));
    let rest = SHORTEST_REST.min(lifetime / 4);
    let refresh = (refresh - earlier).max(rest).min(usable);
    Times::new(obtained, refresh, usable, lifetime)
}

/// The times of a token that another process got, as of `now`. The moments are of that process's wall clock, in nanoseconds,
/// and its clock may be another than ours. `jitter` is from 0 to 1.
///
/// The token never lives past its expiry by our own clock, nor for longer than it was given, whatever our clock says. Its
/// refresh point moves up to a fifth of the lead later: who fetched it is the first to see to the next.
#[cfg(feature = "store")]
pub(crate) fn resume(now: Moment, obtained: u64, refresh: u64, expiry: u64, jitter: f64) -> Times {
    let lifetime = Duration::from_nanos(expiry.saturating_sub(obtained));
    let left = Duration::from_nanos(expiry.saturating_sub(now.wall)).min(lifetime);
    // On a machine that has run for less than the token's age, the monotonic deadlines come too late by the difference. The
    // wall clock's don't.
    let obtained_here = now.earlier_by(lifetime - left);
    let usable = lifetime - LONGEST_MARGIN.min(lifetime / 10);
    let refresh = Duration::from_nanos(refresh.saturating_sub(obtained)).min(usable);
    let lead = lifetime - refresh;
    let later = (lead / 5).min(refresh / 5).mul_f64(jitter.clamp(0.0, 1.0));
    Times::new(
        obtained_here,
        (refresh + later).min(usable),
        usable,
        lifetime,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment {
        monotonic: 1_000_000_000,
        wall: 2_000_000_000,
    };

    fn seconds(lifetime: f64, refresh_in: Option<f64>, jitter: f64) -> (f64, f64, f64) {
        let times = plan(
            START,
            Duration::from_secs_f64(lifetime),
            refresh_in.map(Duration::from_secs_f64),
            jitter,
        );
        let after = |moment: Moment| moment.remaining(START).as_secs_f64();
        (
            after(times.refresh()),
            after(times.end()),
            after(times.expiry()),
        )
    }

    #[test]
    fn the_refresh_point_is_a_quarter_of_the_lifetime_ahead_and_at_most_five_minutes() {
        assert_eq!(seconds(3600.0, None, 0.0), (3300.0, 3590.0, 3600.0));
        assert_eq!(seconds(300.0, None, 0.0), (225.0, 290.0, 300.0));
        assert_eq!(seconds(20.0, None, 0.0), (15.0, 18.0, 20.0));
        assert_eq!(seconds(2.0, None, 0.0), (1.5, 1.8, 2.0));
        assert_eq!(seconds(1.0, None, 0.0), (0.75, 0.9, 1.0));
    }

    #[test]
    fn jitter_moves_the_refresh_point_earlier_by_a_fifth_of_the_lead_at_most() {
        assert_eq!(seconds(3600.0, None, 1.0).0, 3240.0);
        assert_eq!(seconds(20.0, None, 1.0).0, 14.0);
    }

    #[test]
    fn the_servers_refresh_in_decides_within_the_lifetime() {
        assert_eq!(seconds(7200.0, Some(3600.0), 0.0).0, 3600.0);
        assert_eq!(seconds(100.0, Some(1e6), 0.0).0, 90.0);
        assert_eq!(seconds(3600.0, Some(0.0), 1.0).0, 10.0);
    }

    #[test]
    fn a_token_is_fresh_then_stale_then_expired() {
        let times = plan(START, Duration::from_secs(20), None, 0.0);
        let at = |seconds| judge(&times, START + Duration::from_secs(seconds));
        assert_eq!(at(14), Freshness::Fresh);
        assert_eq!(at(15), Freshness::Stale);
        assert_eq!(at(17), Freshness::Stale);
        assert_eq!(at(18), Freshness::Expired);
    }

    #[test]
    fn a_lifetime_of_centuries_and_one_of_nothing_are_both_fine() {
        let long = plan(START, Duration::MAX, None, 1.0);
        assert_eq!(
            judge(&long, START + Duration::from_secs(1 << 32)),
            Freshness::Fresh
        );
        let none = plan(START, Duration::ZERO, None, 1.0);
        assert_eq!(judge(&none, START), Freshness::Expired);
    }

    /// The times of a token of an hour that is due after 55 minutes, by a clock that is off by so much, at this age of it.
    #[cfg(feature = "store")]
    fn resumed(age: u64, off: i64, jitter: f64) -> (Times, Moment) {
        let second = 1_000_000_000;
        let now = Moment {
            monotonic: 50_000 * second,
            wall: 1_000_000 * second,
        };
        let obtained = (now.wall - age * second).saturating_add_signed(off * second as i64);
        let (refresh, expiry) = (obtained + 3_300 * second, obtained + 3_600 * second);
        (resume(now, obtained, refresh, expiry, jitter), now)
    }

    #[cfg(feature = "store")]
    #[test]
    fn a_token_of_another_process_keeps_its_times_on_both_clocks() {
        let (times, now) = resumed(600, 0, 0.0);
        assert_eq!(times.obtained(), now.earlier_by(Duration::from_secs(600)));
        assert_eq!(times.refresh(), now + Duration::from_secs(2_700));
        assert_eq!(times.end(), now + Duration::from_secs(2_990));
        assert_eq!(times.expiry(), now + Duration::from_secs(3_000));
        let (times, _) = resumed(600, 0, 1.0);
        assert_eq!(times.refresh(), now + Duration::from_secs(2_760));
    }

    #[cfg(feature = "store")]
    #[test]
    fn a_token_by_another_clock_ends_by_ours_and_lives_no_longer_than_it_was_given() {
        let hour = Duration::from_secs(3_600);
        for off in [-7_200, -3_000, -300, 0, 300, 3_000, 1 << 30] {
            for age in [0, 600, 3_599, 3_601] {
                let (times, now) = resumed(age, off, 0.5);
                let left = times.expiry().remaining(now);
                let by_our_clock = (3_600 - age as i64 + off).max(0) as u64;
                assert_eq!(
                    left,
                    Duration::from_secs(by_our_clock).min(hour),
                    "{age} {off}"
                );
                assert!(
                    times.end().remaining(now) <= left && times.refresh().remaining(now) <= left
                );
            }
        }
    }

    #[cfg(feature = "store")]
    #[test]
    fn times_that_make_no_sense_make_no_token() {
        let now = Moment {
            monotonic: 5,
            wall: 1_000,
        };
        for (obtained, refresh, expiry) in [
            (0, 0, 0),
            (900, 800, 700),
            (2_000, 0, 1_500),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            let times = resume(now, obtained, refresh, expiry, 0.5);
            assert_eq!(judge(&times, now), Freshness::Expired);
        }
        // For ever is for as long as there is a number for, and may be so.
        let times = resume(now, 0, u64::MAX, u64::MAX, 1.0);
        assert_eq!(judge(&times, now), Freshness::Fresh);
    }
}
