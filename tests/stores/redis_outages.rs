//! When Redis is not there, or says nothing, or comes back; and when a runtime goes.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use tower_bearer::{
    Secret,
    store::{Name, RedisStore, StoreErrorKind, TokenStore},
};

use super::redis_server::Server;

const LONG: Duration = Duration::from_secs(300);

fn name() -> Name {
    Name::new("outage").unwrap()
}

/// A listener that takes connections and never says a word.
fn silent() -> (TcpListener, RedisStore) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    (listener, RedisStore::new(&url).unwrap())
}

#[test]
fn it_is_made_outside_a_runtime_and_says_there_what_it_lacks() {
    let store = RedisStore::new("redis://user:hunter2@127.0.0.1:1").unwrap();
    assert!(!format!("{store:?}").contains("hunter2"));
    let name = name();
    let mut asked = tokio_test::task::spawn(store.get(&name));
    let std::task::Poll::Ready(Err(error)) = asked.poll() else {
        panic!("it waits for what can't come");
    };
    assert!(
        error.to_string().contains("within a Tokio runtime"),
        "{error}"
    );
}

#[test]
fn no_fault_in_a_url_shows_any_of_it() {
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
async fn a_call_to_a_silent_server_ends_at_its_time_limit() {
    let (_listener, store) = silent();
    let start = Instant::now();
    let error = store.get(&name()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Timeout);
    assert!(error.to_string().contains("within 50ms"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn of_many_that_wait_for_a_server_that_says_nothing_none_waits_longer() {
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
async fn a_port_where_nobody_listens_fails_at_once_and_by_name() {
    let (listener, store) = silent();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let store = store.with_read_timeout(LONG);
    let error = store.get(&name()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn what_a_server_echoes_of_a_password_is_not_shown() {
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
async fn a_server_that_was_killed_is_found_again_when_it_is_back() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let store = RedisStore::new(&server.url()).unwrap();
    let patient = store
        .clone()
        .with_read_timeout(LONG)
        .with_write_timeout(LONG);
    patient.put(&name(), "v".into(), LONG, None).await.unwrap();
    server.kill();
    let error = patient.get(&name()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    server.start_again();
    until_it_answers(&patient).await;
}

#[tokio::test]
async fn a_server_that_stands_still_costs_its_limit_and_is_found_again_when_it_goes_on() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let store = server.store();
    store.put(&name(), "v".into(), LONG, None).await.unwrap();
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
    until_it_answers(&store).await;
}

#[tokio::test]
async fn a_connection_that_the_server_closed_costs_no_call() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let store = server.store();
    for i in 0..10 {
        let value = format!("{i}");
        assert!(
            store
                .put(&name(), value.clone().into(), LONG, None)
                .await
                .unwrap()
        );
        let closed: usize = server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert!(closed > 0);
        assert_eq!(store.get(&name()).await.unwrap(), Some(value.into()));
    }
}

#[test]
fn each_runtime_has_its_connection_and_takes_nothing_with_it_when_it_goes() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let store = server.store();
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
            store
                .put(&name(), value.clone().into(), LONG, None)
                .await
                .unwrap();
            assert_eq!(store.get(&name()).await.unwrap(), Some(value.into()));
        });
        if i % 3 == 0 {
            runtime.shutdown_background();
        }
    }
}

#[test]
fn two_runtimes_that_stand_still_in_turn_wait_for_none() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let store = server.store();
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
fn a_runtime_without_timers_and_one_without_sockets_make_no_panic_of_the_caller() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let store = server.store();
    let bare = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let error = bare.block_on(store.get(&name())).unwrap_err();
    assert!(error.to_string().contains("enable_all"), "{error}");

    let store = server.store();
    let no_timers = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    assert_eq!(no_timers.block_on(store.get(&name())).unwrap(), None);
}

#[tokio::test]
async fn callers_who_give_up_leave_a_connection_that_others_can_use() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let store = server.store();
    for _ in 0..50 {
        let name = name();
        let mut call = tokio_test::task::spawn(store.lease(&name, LONG));
        assert!(call.poll().is_pending());
        drop(call);
    }
    let other = Name::new("other").unwrap();
    assert!(store.lease(&other, LONG).await.unwrap().is_some());
}

async fn until_it_answers(store: &RedisStore) {
    let start = Instant::now();
    while let Err(error) = store.get(&name()).await {
        assert!(start.elapsed() < Duration::from_secs(30), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
