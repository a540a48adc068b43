//! Checks the store in Redis while the server is down, silent or restarted, and while runtimes are dropped.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use tower_bearer::{
    Secret,
    store::{Name, RedisStore, StoreErrorKind, TokenStore},
};

use super::{
    LONG, put,
    redis_server::{Redis, patient},
};

fn name() -> Name {
    Name::new("outage").unwrap()
}

/// Starts a server that accepts connections and never responds.
fn silent() -> (TcpListener, RedisStore) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    (listener, RedisStore::new(&url).unwrap())
}

#[test]
fn call_outside_a_runtime_fails_with_the_remedy() {
    let store = RedisStore::new("redis://user:hunter2@127.0.0.1:1").unwrap();
    assert!(!format!("{store:?}").contains("hunter2"));
    let name = name();
    let mut asked = tokio_test::task::spawn(store.get(&name));
    let std::task::Poll::Ready(Err(error)) = asked.poll() else {
        panic!("the call does not fail at once");
    };
    assert!(
        error.to_string().contains("within a Tokio runtime"),
        "{error}"
    );
}

#[test]
fn errors_about_a_url_show_no_part_of_it() {
    for url in [
        "",
        "hunter2",
        "redis:hunter2@host",
        "redis://user:hunter2@host:70000",
        "redis://user:hunter2@host/hunter2",
        "redis://user:hunter2@host:6379/?protocol=hunter2",
        "rediss://user:hunter2@host:6379/#insecure",
        "http://user:hunter2@host:6379",
        "redis://user:hunter2@[::1",
        "redis://user:hunter2@0.0.0.0",
    ] {
        let error = RedisStore::new(url).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("hunter2") && shown.contains("redis://host:6379"),
            "{url}: {shown}"
        );
    }
}

#[tokio::test]
async fn call_to_a_silent_server_ends_at_its_time_limit() {
    let (_listener, store) = silent();
    let start = Instant::now();
    let error = store.get(&name()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Timeout);
    assert!(error.to_string().contains("within 50ms"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn concurrent_calls_to_a_silent_server_end_at_the_limit() {
    let (_listener, store) = silent();
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let store = store.clone();
        tasks.spawn(async move { store.get(&name()).await.unwrap_err().kind() });
    }
    let kinds = tasks.join_all().await;
    assert!(kinds.iter().all(|kind| *kind == StoreErrorKind::Timeout));
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn closed_port_fails_at_once_and_is_named_in_the_error() {
    let (listener, store) = silent();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let store = store.with_read_timeout(LONG);
    let error = store.get(&name()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn password_echoed_by_the_server_is_not_shown() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut on, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                while let Ok(1..) = on.read(&mut asked).await {
                    let echo =
                        b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2'\r\n";
                    if on.write_all(echo).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    for store in [RedisStore::new(&url), RedisStore::cluster([&*url])] {
        let store = store.unwrap().with_password(Secret::new("hunter2"));
        let store = store.with_read_timeout(LONG);
        let error = store.get(&name()).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("args"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn restarted_server_is_used_again() {
    let Some(mut server) = Redis::start() else {
        return;
    };
    let store = RedisStore::new(&server.url()).unwrap();
    let patient = store
        .clone()
        .with_read_timeout(LONG)
        .with_write_timeout(LONG);
    put(&patient, &name(), "v").await;
    server.kill();
    let error = patient.get(&name()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    server.start_again();
    wait_until_it_responds(&patient).await;
}

#[tokio::test]
async fn suspended_server_times_out_and_is_used_after_it_resumes() {
    let Some(server) = Redis::start() else { return };
    let store = patient(server.store());
    put(&store, &name(), "v").await;
    server.signal("STOP");
    let limit = Duration::from_millis(100);
    let hasty = store.clone().with_read_timeout(limit);
    let start = Instant::now();
    assert_eq!(
        hasty.get(&name()).await.unwrap_err().kind(),
        StoreErrorKind::Timeout
    );
    assert!(start.elapsed() >= limit);
    server.signal("CONT");
    wait_until_it_responds(&store).await;
}

#[tokio::test]
async fn connection_closed_by_the_server_fails_no_call() {
    let Some(server) = Redis::start() else { return };
    let store = patient(server.store());
    for i in 0..10 {
        let value = format!("{i}");
        assert!(put(&store, &name(), value.clone()).await);
        let closed: usize = server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert!(closed > 0);
        assert_eq!(store.get(&name()).await.unwrap(), Some(value.into()));
    }
}

#[test]
fn dropped_runtime_does_not_affect_other_runtimes() {
    let Some(server) = Redis::start() else { return };
    let store = patient(server.store());
    for i in 0..40 {
        let runtime = match i % 2 {
            0 => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build(),
            _ => tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build(),
        };
        let value = format!("{i}");
        let runtime = runtime.unwrap();
        runtime.block_on(async {
            put(&store, &name(), value.clone()).await;
            assert_eq!(store.get(&name()).await.unwrap(), Some(value.into()));
        });
        if i % 3 == 0 {
            runtime.shutdown_background();
        }
    }
}

#[test]
fn runtimes_used_in_turn_do_not_wait_for_each_other() {
    let Some(server) = Redis::start() else { return };
    let store = patient(server.store());
    let build = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let runtimes = [build(), build()];
    for turn in 0..20 {
        let name = name();
        let put = store.put(&name, "v".into(), LONG, None);
        assert!(runtimes[turn % 2].block_on(put).unwrap());
    }
}

#[test]
fn runtime_without_io_or_timers_causes_no_panic() {
    let Some(server) = Redis::start() else { return };
    let store = patient(server.store());
    let bare = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = bare.block_on(store.get(&name())).unwrap_err();
    assert!(error.to_string().contains("enable_all"), "{error}");

    let store = patient(server.store());
    let no_timers = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    assert_eq!(no_timers.block_on(store.get(&name())).unwrap(), None);
}

#[tokio::test]
async fn cancelled_calls_leave_the_connection_usable() {
    let Some(server) = Redis::start() else { return };
    let store = patient(server.store());
    for _ in 0..50 {
        let name = name();
        let mut call = tokio_test::task::spawn(store.lease(&name, LONG));
        assert!(call.poll().is_pending());
        drop(call);
    }
    let other = Name::new("other").unwrap();
    assert!(store.lease(&other, LONG).await.unwrap().is_some());
}

async fn wait_until_it_responds(store: &RedisStore) {
    let start = Instant::now();
    while let Err(error) = store.get(&name()).await {
        assert!(start.elapsed() < Duration::from_secs(30), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
