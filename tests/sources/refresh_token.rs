//! Tests that each refresh token is used once, that none is lost, and that revocation is logged as an error.

use std::{
    collections::HashSet,
    fs,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::JoinSet, time::timeout};
use tower_bearer::{
    ErrorKind, Secret, TokenCache, TokenError, TokenSource, TokenSpec,
    credentials::RefreshToken,
    source::SourceId,
    testing::{AuthorizationServer, Fault},
};

use crate::{endpoint, fails, fetch, last_call, log, login, silent_endpoint, temp_file::TempFile};

fn signed_in(login: &AuthorizationServer) -> RefreshToken {
    let (_, refresh) = login.sign_in("alice", "client", ["read", "write"]);
    RefreshToken::new(endpoint(login), refresh)
}

/// Asserts how many refresh tokens were used, and that none was refused. The server refuses one that is used twice.
fn assert_uses(login: &AuthorizationServer, uses: u64) {
    assert_eq!(login.refresh_token_uses(), uses);
    assert_eq!(login.counts().refused, 0);
}

/// The refresh tokens passed to a rotation callback.
type Given = Arc<Mutex<Vec<String>>>;

/// Returns a source whose callback records the refresh tokens; the first call fails if `fails_first` is set.
fn recording(login: &AuthorizationServer, fails_first: bool) -> (RefreshToken, Given) {
    let given = Given::default();
    let record = given.clone();
    let source = signed_in(login).on_rotation(move |token: Secret| {
        let mut record = record.lock().unwrap();
        record.push(token.expose().unwrap().as_str().to_owned());
        let fails = fails_first && record.len() == 1;
        ready(match fails {
            true => Err(TokenError::new(ErrorKind::Configuration, "disk full")),
            false => Ok(()),
        })
    });
    (source, given)
}

fn read() -> TokenSpec {
    TokenSpec::scopes(["read"])
}

fn write() -> TokenSpec {
    TokenSpec::scopes(["write"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_callers_use_each_refresh_token_once() {
    let login = login().await;
    let cache = TokenCache::new(signed_in(&login));
    for round in 1..=5 {
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let cache = cache.clone();
            callers.spawn(async move { cache.get(&read()).await.unwrap() });
        }
        let tokens = callers.join_all().await;
        let first = tokens[0].expose();
        assert!(tokens.iter().all(|token| token.expose() == first));
        assert!(login.is_valid(first, Some("read")));
        assert_eq!(login.subject_of(first).as_deref(), Some("alice"));
        assert_uses(&login, round);
        assert!(cache.reject(&tokens[0]));
    }
    let calls = login.requests();
    let used = calls.iter().map(|call| call.parameter("refresh_token"));
    assert_eq!(used.collect::<HashSet<_>>().len(), calls.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn specs_take_turns_with_one_refresh_token() {
    let login = login().await;
    let source = signed_in(&login);
    // Clones of a source share its refresh token, also from two caches.
    let caches = [TokenCache::new(source.clone()), TokenCache::new(source)];
    for _ in 0..5 {
        let mut callers = JoinSet::new();
        for i in 0..100 {
            let cache = caches[i / 50].clone();
            let scope = ["read", "write"][i % 2];
            let spec = TokenSpec::scopes([scope]);
            callers.spawn(async move { (cache.get(&spec).await.unwrap(), scope) });
        }
        for (token, scope) in callers.join_all().await {
            assert!(login.is_valid(token.expose(), Some(scope)));
            assert_eq!(login.scopes_of(token.expose()).unwrap(), [scope]);
        }
        for cache in &caches {
            cache.clear();
        }
    }
    assert_uses(&login, 20);
}

#[cfg(feature = "store")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_with_a_shared_store_use_each_refresh_token_once() {
    use tower_bearer::store::{KeyRing, MemoryStore};

    let login = login().await;
    let (_, first) = login.sign_in("alice", "client", ["read", "write"]);
    let file = TempFile::new(&first);
    let store = Arc::new(MemoryStore::new());
    let process = || {
        let path = file.path().to_owned();
        let source = RefreshToken::new(endpoint(&login), Secret::from_file(&path).unwrap())
            .with_source_id(SourceId::new("person").with("name", "alice"))
            .on_rotation(move |new| {
                fs::write(&path, new.expose().unwrap().as_str()).unwrap();
                ready(Ok(()))
            });
        let ring =
            KeyRing::new(Secret::new("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")).unwrap();
        TokenCache::builder(source)
            .with_store(Arc::clone(&store), ring)
            .build()
    };
    let processes: Vec<_> = (0..8).map(|_| process()).collect();
    for round in 1..=5 {
        let mut callers = JoinSet::new();
        for cache in &processes {
            let cache = cache.clone();
            callers.spawn(async move {
                let token = cache.get(&read()).await.unwrap();
                (cache, token)
            });
        }
        let got = callers.join_all().await;
        assert!(login.is_valid(got[0].1.expose(), Some("read")));
        assert_uses(&login, round);
        for (cache, token) in got {
            assert!(cache.reject(&token));
        }
    }
}

#[tokio::test]
async fn response_without_a_refresh_token_keeps_the_old_one() {
    let login = login().await;
    login.rotate_refresh_tokens(false);
    let source = signed_in(&login);
    for uses in 1..=3 {
        fetch(&source, read()).await.unwrap();
        assert_eq!(login.refresh_token_uses(), uses);
    }
    let calls = login.requests();
    let mut used = calls.iter().map(|call| call.parameter("refresh_token"));
    let first = used.next().unwrap();
    assert!(first.is_some() && used.all(|next| next == first));
}

#[tokio::test]
async fn rotation_callback_runs_before_the_token_is_returned() {
    let login = login().await;
    let (source, given) = recording(&login, false);
    for rotations in 1..=3 {
        fetch(&source, read()).await.unwrap();
        assert_eq!(given.lock().unwrap().len(), rotations);
    }
    // The next request uses the token that the callback got last.
    fetch(&source, read()).await.unwrap();
    let used = last_call(&login);
    let given = given.lock().unwrap();
    assert_eq!(used.parameter("refresh_token"), Some(given[2].as_str()));
}

#[tokio::test]
async fn failed_rotation_callback_is_called_again() {
    let login = login().await;
    let (source, given) = recording(&login, true);
    fetch(&source, read()).await.unwrap();
    // The provider refuses, so there is no new refresh token, but the last one still has to be stored.
    login.allow_scopes(Some(Vec::new()));
    fails(&source, read(), ErrorKind::InvalidScope).await;
    let given = given.lock().unwrap();
    assert_eq!(given.len(), 2);
    assert_eq!(given[0], given[1]);
}

#[tokio::test]
async fn refresh_token_received_after_the_deadline_is_kept() {
    let login = login().await;
    let notified = Arc::new(Notify::new());
    let source = {
        let notified = notified.clone();
        signed_in(&login).on_rotation(move |_| {
            notified.notify_one();
            ready(Ok(()))
        })
    };
    let cache = TokenCache::builder(source.clone())
        .with_fetch_timeout(Duration::from_millis(200))
        .build();
    let hold = login.hold();
    let error = cache.get(&read()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // No caller waits any more, and the exchange continues.
    drop(cache);
    assert_eq!(login.counts().requests, 1);
    hold.release();
    timeout(Duration::from_secs(20), notified.notified())
        .await
        .unwrap();
    fetch(&source, read()).await.unwrap();
    assert_uses(&login, 2);
}

#[tokio::test]
async fn cancelled_waiter_uses_no_refresh_token() {
    let login = login().await;
    let source = signed_in(&login);
    let hold = login.hold();
    let first = {
        let source = source.clone();
        tokio::spawn(async move { fetch(&source, read()).await.map(drop) })
    };
    login.wait_for_requests(1).await;
    for _ in 0..3 {
        let waiting = timeout(Duration::from_millis(20), fetch(&source, write()));
        assert!(waiting.await.is_err());
    }
    hold.release();
    first.await.unwrap().unwrap();
    fetch(&source, write()).await.unwrap();
    assert_eq!(login.refresh_token_uses(), 2);
}

#[tokio::test]
async fn revoked_refresh_token_is_logged_and_not_sent_again() {
    let login = login().await;
    let source = signed_in(&login);
    fetch(&source, read()).await.unwrap();
    login.revoke_refresh_tokens();
    log::take();
    let error = fetch(&source, read()).await.unwrap_err();
    let log = log::take();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("sign in again"), "{error}");
    assert!(error.to_string().contains("revoked"), "{error}");
    assert!(log.contains("ERROR"), "{log}");
    assert!(log.contains("must sign in again"), "{log}");
    let requests = login.counts().requests;
    for spec in [read(), write()] {
        fails(&source, spec, ErrorKind::InvalidGrant).await;
    }
    assert_eq!(login.counts().requests, requests);
}

#[tokio::test]
async fn new_refresh_token_in_the_file_is_used() {
    let login = login().await;
    let sign_in = || login.sign_in("alice", "client", ["read"]).1;
    let file = TempFile::new(&sign_in());
    let source = RefreshToken::new(endpoint(&login), Secret::from_file(file.path()).unwrap());
    // The file is not changed while later refresh tokens are used.
    for _ in 0..3 {
        fetch(&source, read()).await.unwrap();
    }
    login.revoke_refresh_tokens();
    fails(&source, read(), ErrorKind::InvalidGrant).await;
    file.write(&sign_in());
    fetch(&source, read()).await.unwrap();
}

#[tokio::test]
async fn transient_fault_keeps_the_refresh_token() {
    let login = login().await;
    let source = signed_in(&login);
    for (fault, kind) in [
        (Fault::status(503), ErrorKind::Unavailable),
        (Fault::drop_connection(), ErrorKind::Network),
        (Fault::response(401, None, ""), ErrorKind::InvalidClient),
    ] {
        login.fault(fault);
        fails(&source, read(), kind).await;
    }
    fetch(&source, read()).await.unwrap();
}

#[tokio::test]
async fn panic_of_a_custom_transport_leaves_the_source_usable() {
    use bytes::Bytes;
    use tower_bearer::transport::Transport;
    let is_first = AtomicBool::new(true);
    let transport = Transport::from_fn(move |_| {
        assert!(!is_first.swap(false, SeqCst), "the first request panics");
        let answer = Bytes::from(r#"{"access_token":"abc"}"#);
        ready(Ok(http::Response::new(answer)))
    });
    let endpoint = silent_endpoint().with_transport(transport);
    let source = RefreshToken::new(endpoint, "first");
    let error = fetch(&source, read()).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    fetch(&source, read()).await.unwrap();
}

#[tokio::test]
async fn refresh_token_source_id_is_its_first_token_or_name() {
    let login = login().await;
    let of = |token: &str| RefreshToken::new(endpoint(&login), token);
    assert_eq!(of("a").source_id(), of("a").source_id());
    assert_ne!(of("a").source_id(), of("b").source_id());
    let named = |token, name| of(token).with_source_id(SourceId::new(name)).source_id();
    assert_eq!(named("a", "alice"), named("b", "alice"));
    assert_ne!(named("a", "alice"), named("a", "bob"));
}
