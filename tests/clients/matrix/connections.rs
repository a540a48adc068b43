//! HTTP/1.1: the connection that a refusal came on is used again.

use std::time::Duration;

use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

use super::{
    bodies::some,
    client::{Kind, Load},
    stage::Stage,
};

const LIMIT: Duration = Duration::from_secs(60);
const TIMES: usize = 50;
const PAUSE: Duration = Duration::from_millis(5);

const HTTP1: &[Kind] = &[Kind::Reqwest, Kind::ReqwestTls, Kind::Http1, Kind::Http1Tls];

/// Sends, again and again, with a token that was revoked just before, in a task of its own if `spawned`. It counts the
/// replays that went over another connection than their refusals.
async fn recover_often(kind: Kind, spawned: bool) -> usize {
    let stage = Stage::new(kind).await;
    stage.warm_up().await;
    let (api, login, send) = (stage.api.clone(), stage.login.clone(), stage.sender());
    let recovering = async move {
        for _ in 0..TIMES {
            // The client's own affair: it has the last answer's connection back in time of its own.
            sleep(PAUSE).await;
            login.revoke_all();
            let answer = send("/echo", Load::Whole(some(2_000))).await.unwrap();
            assert_eq!(answer.outcome(), (200, "recovered"), "{kind:?}");
        }
        let calls = api.requests();
        assert_eq!(calls.len(), 2 * TIMES, "{kind:?}");
        let pairs = calls.chunks_exact(2);
        pairs
            .filter(|pair| pair[0].connection != pair[1].connection)
            .count()
    };
    let done = match spawned {
        true => timeout(LIMIT, async { tokio::spawn(recovering).await.unwrap() }).await,
        false => timeout(LIMIT, recovering).await,
    };
    done.expect("it hangs")
}

/// Over every client, on such runtimes.
fn moved_on(runtime: impl Fn() -> Runtime) -> usize {
    let every = HTTP1.iter().flat_map(|&kind| [(kind, false), (kind, true)]);
    every
        .map(|(kind, spawned)| runtime().block_on(recover_often(kind, spawned)))
        .sum()
}

#[test]
fn one_thread_sends_every_replay_over_its_refusals_connection() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(moved_on(runtime), 0);
}

/// Nobody tells when a connection is free again, and its task runs on another thread. On a machine with more to do than it
/// can, that task may come too late, which costs a connection and nothing else.
#[test]
fn many_threads_send_nearly_every_replay_over_its_refusals_connection() {
    let moved: usize = [1, 2]
        .map(|threads| {
            moved_on(|| {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(threads).enable_all();
                builder.build().unwrap()
            })
        })
        .iter()
        .sum();
    let all = HTTP1.len() * 2 * 2 * TIMES;
    assert!(moved <= all / 20, "{moved} of {all}");
}
