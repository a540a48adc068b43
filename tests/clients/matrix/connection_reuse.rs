//! Tests that a replay over HTTP/1.1 reuses the connection of the rejected request.

use std::time::Duration;

use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};

use super::{
    bodies::pattern,
    client::{Kind, Payload},
    fixture::Fixture,
};
use crate::fixture::within;

const TIMES: usize = 50;
const PAUSE: Duration = Duration::from_millis(5);

const HTTP1: &[Kind] = &[Kind::Reqwest, Kind::ReqwestTls, Kind::Http1, Kind::Http1Tls];

/// Sends requests with a token that was just revoked, in a separate task if `spawned`. Returns the number of replays
/// that used another connection than the rejected request.
async fn recover_often(kind: Kind, spawned: bool) -> usize {
    let fixture = Fixture::warm(kind).await;
    let (api, login, send) = (fixture.api.clone(), fixture.login.clone(), fixture.sender());
    let recovering = async move {
        for _ in 0..TIMES {
            // The client returns the last connection to its pool asynchronously.
            sleep(PAUSE).await;
            login.revoke_all();
            let answer = send("/echo", Payload::Whole(pattern(2_000))).await.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        }
        let calls = api.requests();
        assert_eq!(calls.len(), 2 * TIMES, "{kind:?}");
        let pairs = calls.chunks_exact(2);
        pairs
            .filter(|pair| pair[0].connection != pair[1].connection)
            .count()
    };
    match spawned {
        true => within(tokio::spawn(recovering)).await.unwrap(),
        false => within(recovering).await,
    }
}

fn count_moved(mut runtime: impl FnMut() -> Runtime) -> usize {
    let every = HTTP1.iter().flat_map(|&kind| [(kind, false), (kind, true)]);
    every
        .map(|(kind, spawned)| runtime().block_on(recover_often(kind, spawned)))
        .sum()
}

#[test]
fn single_thread_replays_reuse_the_connection() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(count_moved(runtime), 0);
}

/// The task that returns a connection to the pool runs on another thread. On a busy machine it may be too late, which
/// costs a new connection.
#[test]
fn multi_thread_replays_reuse_the_connection() {
    let mut moved = 0;
    for threads in [1, 2] {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).enable_all();
        moved += count_moved(move || builder.build().unwrap());
    }
    let all = HTTP1.len() * 2 * 2 * TIMES;
    assert!(moved <= all / 20, "{moved} of {all}");
}
