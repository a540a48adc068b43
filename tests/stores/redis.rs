//! Checks the store in Redis against real servers.

use std::{fs, time::Duration};

use bytes::Bytes;
use tower_bearer::{
    Secret,
    store::{RedisStore, StoreErrorKind, TokenStore},
    testing::store_suite,
};

use super::{
    LONG, name, put,
    redis_server::{Redis, patient, variable},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_store_passes_the_store_suite() {
    let Some(url) = variable("TOWER_BEARER_REDIS") else {
        return;
    };
    store_suite(async || patient(RedisStore::new(&url).unwrap())).await;
}

#[tokio::test]
async fn store_behind_tls_with_a_password_passes_the_store_suite() {
    let Some(url) = variable("TOWER_BEARER_REDIS_TLS") else {
        return;
    };
    let authority = fs::read(variable("TOWER_BEARER_CA").unwrap()).unwrap();
    let user = variable("TOWER_BEARER_REDIS_USER").unwrap();
    let password = Secret::from_env("TOWER_BEARER_REDIS_PASSWORD").unwrap();
    let store = patient(RedisStore::new(&url).unwrap())
        .with_authority(authority)
        .with_user(user)
        .with_password(password)
        .with_prefix("tls")
        .unwrap();
    store_suite(async || store.clone()).await;
}

#[tokio::test]
async fn client_certificate_is_sent() {
    let Some(url) = variable("TOWER_BEARER_REDIS_TLS") else {
        return;
    };
    let file = |name| fs::read_to_string(variable(name).unwrap()).unwrap();
    let store = patient(RedisStore::new(&url).unwrap())
        .with_authority(file("TOWER_BEARER_CA"))
        .with_client_certificate(
            file("TOWER_BEARER_CLIENT_CERT"),
            Secret::new(file("TOWER_BEARER_CLIENT_KEY")),
        );
    assert_eq!(store.get(&name("tls_client")).await.unwrap(), None);
}

#[tokio::test]
async fn certificate_of_an_unknown_authority_is_refused() {
    let Some(url) = variable("TOWER_BEARER_REDIS_TLS") else {
        return;
    };
    let store = patient(RedisStore::new(&url).unwrap());
    let error = store.get(&name("tls_unknown")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn password_in_the_url_may_contain_special_characters() {
    let Some(url) = variable("TOWER_BEARER_REDIS") else {
        return;
    };
    let password = variable("TOWER_BEARER_REDIS_PASSWORD").unwrap();
    let user = variable("TOWER_BEARER_REDIS_USER").unwrap();
    let mut url = url::Url::parse(&url).unwrap();
    url.set_username(&user).unwrap();
    url.set_password(Some(&password)).unwrap();
    let store = patient(RedisStore::new(url.as_str()).unwrap());
    assert_eq!(store.get(&name("odd_password")).await.unwrap(), None);
    assert!(!format!("{store:?}").contains(&password));

    let other = store.with_password(Secret::new("hunter2"));
    let error = other.get(&name("odd_password")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(error.to_string().contains("check both"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn documented_permissions_are_sufficient() {
    let user = [
        "--user",
        "orders",
        "on",
        ">pw",
        "resetkeys",
        "~tower-bearer:*",
    ];
    let commands = ["+get", "+set", "+del", "+time", "+eval"];
    let Some(server) = Redis::start_with(&[&user[..], &commands].concat()) else {
        return;
    };
    let store = patient(server.store())
        .with_user("orders")
        .with_password(Secret::new("pw"));
    store_suite(async || store.clone()).await;

    let elsewhere = store.with_prefix("elsewhere").unwrap();
    let error = elsewhere.get(&name("a")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(error.to_string().contains("GET"), "{error}");
}

/// Starts a cluster of two nodes with half of the slots each.
async fn cluster() -> Option<[Redis; 2]> {
    let start = || Redis::start_with(&["--cluster-enabled", "yes"]);
    let nodes = [start()?, start()?];
    for (node, slots) in nodes.iter().zip([["0", "8191"], ["8192", "16383"]]) {
        let () = node.ask(&["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]]);
    }
    let port = nodes[1].port().to_string();
    let () = nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port]);
    for node in &nodes {
        let start = std::time::Instant::now();
        loop {
            let state: String = node.ask(&["CLUSTER", "INFO"]);
            if state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:2") {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{state}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Some(nodes)
}

#[tokio::test]
async fn cluster_of_two_nodes_passes_the_store_suite() {
    let Some(nodes) = cluster().await else { return };
    let first = nodes[0].url();
    let store = patient(RedisStore::cluster([&*first]).unwrap());
    store_suite(async || store.clone()).await;

    for i in 0..50 {
        put(&store, &name(&format!("n{i}")), "v").await;
    }
    for node in &nodes {
        assert!(node.ask::<usize>(&["DBSIZE"]) > 5, "both nodes store some");
    }

    // A store for a single node fails with an error that names the remedy.
    let single = patient(nodes[0].store());
    let mut elsewhere = None;
    for i in 0..50 {
        elsewhere = elsewhere.or(single.get(&name(&format!("n{i}"))).await.err());
    }
    let error = elsewhere.unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Configuration);
    assert!(error.to_string().contains("RedisStore::cluster"), "{error}");
}

#[tokio::test]
async fn lost_cluster_node_fails_in_time_and_is_found_again() {
    let Some([first, mut second]) = cluster().await else {
        return;
    };
    let store = patient(RedisStore::cluster([&*first.url(), &*second.url()]).unwrap());
    let mut at_second = None;
    for i in 0..50 {
        let name = name(&format!("n{i}"));
        let before: usize = second.ask(&["DBSIZE"]);
        put(&store, &name, "v").await;
        if second.ask::<usize>(&["DBSIZE"]) > before {
            at_second = Some(name);
            break;
        }
    }
    let name = at_second.unwrap();
    second.kill();
    let limit = Duration::from_millis(300);
    let hasty = store.clone().with_read_timeout(limit);
    let start = std::time::Instant::now();
    let error = hasty.get(&name).await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            StoreErrorKind::Timeout | StoreErrorKind::Unavailable
        ),
        "{error}"
    );
    assert!(start.elapsed() < limit * 10, "{:?}", start.elapsed());

    second.start_again();
    let start = std::time::Instant::now();
    while let Err(error) = store.get(&name).await {
        assert!(start.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn refused_password_of_a_cluster_is_named_in_the_error() {
    let Some(server) = Redis::start_with(&["--cluster-enabled", "yes", "--requirepass", "pw"])
    else {
        return;
    };
    let store = patient(RedisStore::cluster([&*server.url()]).unwrap());
    let store = store.with_password(Secret::new("hunter2"));
    let error = store.get(&name("a")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(error.to_string().contains("check both"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn cluster_user_also_needs_the_slots_permission() {
    let user = [
        "--user",
        "orders",
        "on",
        ">pw",
        "resetkeys",
        "~tower-bearer:*",
    ];
    let commands = ["+get", "+set", "+del", "+time", "+eval"];
    let cluster = ["+cluster|slots", "--cluster-enabled", "yes"];
    let Some(server) = Redis::start_with(&[&user[..], &commands, &cluster].concat()) else {
        return;
    };
    let () = server.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let store = patient(RedisStore::cluster([&*server.url()]).unwrap());
    let store = store.with_user("orders").with_password(Secret::new("pw"));
    let start = std::time::Instant::now();
    // A cluster is not ready at once after it has got its slots.
    while let Err(error) = store.get(&name("a")).await {
        assert!(start.elapsed() < Duration::from_secs(60), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    store_suite(async || store.clone()).await;
}

#[test]
fn cluster_without_nodes_or_with_a_database_is_refused() {
    let error = RedisStore::cluster([]).unwrap_err();
    assert!(error.to_string().contains("at least one"), "{error}");
    let error = RedisStore::cluster(["redis://a", "redis://:hunter2@b/1"]).unwrap_err();
    assert!(error.to_string().contains("only has database 0"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn cluster_without_all_slots_is_not_ready() {
    let Some(server) = Redis::start_with(&["--cluster-enabled", "yes"]) else {
        return;
    };
    let error = patient(server.store()).get(&name("a")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("CLUSTERDOWN"), "{error}");
}

#[tokio::test]
async fn every_key_has_an_expiry() {
    let Some(server) = Redis::start() else { return };
    let store = patient(server.store()).with_prefix("orders").unwrap();
    let lease = store.lease(&name("a"), LONG).await.unwrap().unwrap();
    store
        .put(&name("a"), "v".into(), LONG, Some(lease.fence()))
        .await
        .unwrap();
    store
        .put(&name("b"), "v".into(), Duration::MAX, None)
        .await
        .unwrap();
    let mut keys: Vec<String> = server.ask(&["KEYS", "*"]);
    keys.sort();
    let expected = [
        "orders:{a}:fence",
        "orders:{a}:lease",
        "orders:{a}:value",
        "orders:{b}:value",
    ];
    assert_eq!(keys, expected);
    for key in keys {
        assert!(server.ask::<i64>(&["PTTL", &key]) > 0, "{key}");
    }
}

#[tokio::test]
async fn script_flush_fails_no_call() {
    let Some(server) = Redis::start() else { return };
    let store = patient(server.store());
    for _ in 0..3 {
        let lease = store.lease(&name("a"), LONG).await.unwrap().unwrap();
        let () = server.ask(&["SCRIPT", "FLUSH"]);
        assert!(
            store
                .put(&name("a"), "v".into(), LONG, Some(lease.fence()))
                .await
                .unwrap()
        );
        assert!(store.delete_if(&name("a"), &"v".into()).await.unwrap());
        let () = server.ask(&["SCRIPT", "FLUSH"]);
        store.release(&name("a"), lease).await.unwrap();
    }
}

#[tokio::test]
async fn fences_grow_after_redis_has_lost_its_data() {
    let Some(server) = Redis::start() else { return };
    let store = patient(server.store());
    let before = store.lease(&name("a"), LONG).await.unwrap().unwrap();
    let () = server.ask(&["FLUSHALL"]);
    let after = store.lease(&name("a"), LONG).await.unwrap().unwrap();
    assert!(before.fence() < after.fence());
    assert!(
        !store
            .put(&name("a"), "late".into(), LONG, Some(before.fence()))
            .await
            .unwrap()
    );
    store.release(&name("a"), before).await.unwrap();
    assert_eq!(store.lease(&name("a"), LONG).await.unwrap(), None);
}

#[tokio::test]
async fn redis_out_of_memory_refuses_writes_but_not_reads() {
    let Some(server) =
        Redis::start_with(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"])
    else {
        return;
    };
    let store = patient(server.store());
    let large = Bytes::from(vec![7; 1 << 18]);
    put(&store, &name("first"), "v").await;
    let mut refused = None;
    for i in 0..100 {
        refused = store
            .put(&name(&format!("x{i}")), large.clone(), LONG, None)
            .await
            .err();
        if refused.is_some() {
            break;
        }
    }
    let error = refused.unwrap();
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(error.to_string().contains("out of memory"), "{error}");
    assert!(store.get(&name("first")).await.unwrap().is_some());
}

#[tokio::test]
async fn replica_refuses_writes() {
    let Some(server) = Redis::start_with(&["--replicaof", "127.0.0.1", "1"]) else {
        return;
    };
    let store = patient(server.store());
    let error = store
        .put(&name("a"), "v".into(), LONG, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(error.to_string().contains("URL of the primary"), "{error}");
    assert_eq!(store.get(&name("a")).await.unwrap(), None);
}
