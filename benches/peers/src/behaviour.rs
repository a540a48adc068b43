//! What a contender does when no token is at hand, told by what the issuer was asked.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::StatusCode;

use crate::{contender::Contender, issuer::Issuer};

/// The scope of most requests, and another one.
pub const A: &str = "stock.read";
pub const B: &str = "orders";

const CALLERS: usize = 50;
const TRIES: usize = 10;
const SOURCE_SLOW: Duration = Duration::from_millis(100);
const IMPATIENT: usize = 5;
const PATIENCE: Duration = Duration::from_millis(40);

/// What was seen; none where it does not apply.
#[derive(Default)]
pub struct Behaviour {
    /// Token requests for so many callers at once: the least and the most of some tries.
    pub stampede: Option<RangeInclusive<u32>>,
    /// Token requests for callers who come one after another and give up before the source answers, and which of them
    /// got a token at last.
    pub impatient: Option<(u32, Option<usize>)>,
    /// At the first revocation, at the second right after it, and the request that follows.
    pub revoked: Option<[Recovery; 3]>,
    /// The scope of the token that was sent where the other scope was asked for.
    pub other_scope: Option<String>,
}

/// How a request fared.
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
    let mut seen = Behaviour::default();

    let mut counts = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let issuer = Issuer::new();
        issuer.set_delay(SOURCE_SLOW);
        let caller = cold(Arc::clone(&issuer)).await;
        let callers = (0..CALLERS).map(|_| tokio::spawn(caller(A)));
        for answer in join_all(callers).await {
            assert_eq!(answer.unwrap().unwrap(), StatusCode::OK);
        }
        counts.push(issuer.requests());
    }
    counts.sort_unstable();
    seen.stampede = Some(counts[0]..=counts[TRIES - 1]);

    let issuer = Issuer::new();
    issuer.set_delay(SOURCE_SLOW);
    let caller = cold(Arc::clone(&issuer)).await;
    let mut served = None;
    for i in 1..=IMPATIENT {
        let answer = tokio::time::timeout(PATIENCE, caller(A)).await;
        if served.is_none() && matches!(answer, Ok(Ok(StatusCode::OK))) {
            served = Some(i);
        }
    }
    // What was begun may still reach the issuer.
    tokio::time::sleep(SOURCE_SLOW).await;
    seen.impatient = Some((issuer.requests(), served));

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
        seen.revoked = Some([one(true).await, one(true).await, one(false).await]);
    }

    if contender.scopes {
        let issuer = Issuer::new();
        let caller = cold(Arc::clone(&issuer)).await;
        caller(A).await.unwrap();
        caller(B).await.unwrap();
        seen.other_scope = issuer.last_scope();
    }
    seen
}
