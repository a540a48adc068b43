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
    if times.end().has_come(now) {
        Freshness::Expired
    } else if times.refresh().has_come(now) {
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
        let after = |moment: Moment| moment.left(START).as_secs_f64();
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
}
