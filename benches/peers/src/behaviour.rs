//! Observes how a contender behaves without a cached token, by the requests that the issuer receives.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::StatusCode;

use crate::{contender::Contender, issuer::Issuer};

/// The scope of most requests, and a second scope.
pub const A: &str = "stock.read";
pub const B: &str = "orders";

const CALLERS: usize = 50;
const TRIES: usize = 10;
const ISSUER_DELAY: Duration = Duration::from_millis(100);
const SEQUENTIAL_CALLERS: usize = 5;
const CALLER_TIMEOUT: Duration = Duration::from_millis(40);

/// The observed behaviour. A field is `None` if it does not apply to the contender.
#[derive(Default)]
pub struct Behaviour {
    /// The number of token requests for `CALLERS` concurrent callers: the minimum and the maximum of `TRIES` tries.
    pub concurrent: Option<RangeInclusive<u32>>,
    /// The number of token requests for callers that follow one another and time out before the issuer responds, and the first
    /// of them that got a token.
    pub timeouts: Option<(u32, Option<usize>)>,
    /// The requests after a revocation, after a second one that follows immediately, and the next request.
    pub revoked: Option<[Recovery; 3]>,
    /// The scope of the token that was sent when the second scope was required.
    pub other_scope: Option<String>,
}

/// The outcome of a request.
#[derive(Debug)]
pub struct Recovery {
    pub status: StatusCode,
    pub fetches: u32,
    pub sends: u32,
}

pub async fn observe(contender: &Contender) -> Behaviour {
    let Some(cold) = &contender.cold else {
        return Behaviour::default();
    };
    let mut behaviour = Behaviour::default();

    let mut counts = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let issuer = Issuer::new();
        issuer.set_delay(ISSUER_DELAY);
        let caller = cold(Arc::clone(&issuer)).await;
        let callers = (0..CALLERS).map(|_| tokio::spawn(caller(A)));
        for status in join_all(callers).await {
            assert_eq!(status.unwrap().unwrap(), StatusCode::OK);
        }
        counts.push(issuer.requests());
    }
    counts.sort_unstable();
    behaviour.concurrent = Some(counts[0]..=counts[TRIES - 1]);

    let issuer = Issuer::new();
    issuer.set_delay(ISSUER_DELAY);
    let caller = cold(Arc::clone(&issuer)).await;
    let mut served = None;
    for i in 1..=SEQUENTIAL_CALLERS {
        let result = tokio::time::timeout(CALLER_TIMEOUT, caller(A)).await;
        if served.is_none() && matches!(result, Ok(Ok(StatusCode::OK))) {
            served = Some(i);
        }
    }
    // A fetch that has begun may still reach the issuer.
    tokio::time::sleep(ISSUER_DELAY).await;
    behaviour.timeouts = Some((issuer.requests(), served));

    if contender.reacts {
        let issuer = Issuer::new();
        let caller = cold(Arc::clone(&issuer)).await;
        assert_eq!(caller(A).await.unwrap(), StatusCode::OK);
        let one = async |revoke: bool| {
            if revoke {
                issuer.revoke_all();
            }
            issuer.reset_counts();
            let status = caller(A).await.unwrap();
            Recovery {
                status,
                fetches: issuer.requests(),
                sends: issuer.sends(),
            }
        };
        behaviour.revoked = Some([one(true).await, one(true).await, one(false).await]);
    }

    if contender.scopes {
        let issuer = Issuer::new();
        let caller = cold(Arc::clone(&issuer)).await;
        caller(A).await.unwrap();
        caller(B).await.unwrap();
        behaviour.other_scope = issuer.last_scope();
    }
    behaviour
}
