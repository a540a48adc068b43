//! Checks what an encrypted store reveals and accepts, whatever happens to the store below it.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::{
    KeyRing, Record,
    encrypt::Unreadable,
    encrypted_store::{EncryptedStore, HeldLease, Loaded, StoreKey, TokenDigest},
};
use crate::{
    secret::Secret,
    store::{MemoryStore, StoreErrorKind, TokenStore},
};

const FIRST: &str = "0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";
const SECOND: &str = "QmfdFM4UlZXi2qBJ6gZLCWpq4S1Nd4B0jLl6X0KdQRc=";
const LONG: Duration = Duration::from_secs(300);

/// Texts that must not be readable in a store.
const WORDS: &[&str] = &[
    "eyJhbGciOiJub25l",
    "orders.read",
    "orders.write",
    "billed-project",
    "x-goog-user-project",
    "login.example.com",
    "client-of-orders",
    "tenant-seven",
    "0nF2ql0S7ivVYJz7",
];

fn ring(keys: &[&str]) -> KeyRing {
    let (first, older) = keys.split_first().unwrap();
    let ring = KeyRing::new(Secret::new(*first)).unwrap();
    older.iter().fold(ring, |ring, key| {
        ring.with_older(Secret::new(*key)).unwrap()
    })
}

fn key(spec: &str) -> StoreKey {
    StoreKey::new(&[
        b"https://login.example.com client-of-orders",
        format!("tenant-seven {spec}").as_bytes(),
    ])
}

fn record(text: &str) -> Record {
    Record {
        text: Zeroizing::new(text.into()),
        requested_at: 1_000,
        refresh_at: 3_000,
        expires_at: 4_600,
        scopes: Some("orders.read orders.write".into()),
        extra_headers: vec![(
            HeaderName::from_static("x-goog-user-project"),
            HeaderValue::from_static("billed-project"),
        )],
    }
}

fn encrypted(store: &MemoryStore, keys: &[&str]) -> EncryptedStore {
    EncryptedStore::new(store.clone(), ring(keys))
}

async fn load(store: &EncryptedStore, spec: &str) -> Option<String> {
    match store.load(&key(spec)).await.unwrap() {
        Loaded::Found(record) => Some(record.text.to_string()),
        Loaded::Missing => None,
        Loaded::Unreadable(why) => panic!("unreadable: {}", why.as_str()),
    }
}

async fn save(store: &EncryptedStore, spec: &str, text: &str, lease: Option<&HeldLease>) -> bool {
    let (key, record) = (key(spec), record(text));
    store.save(&key, &record, LONG, lease).await.unwrap()
}

#[tokio::test]
async fn record_saved_by_one_process_is_loaded_by_another() {
    let store = MemoryStore::new();
    let [one, other] = [(); 2].map(|()| encrypted(&store, &[FIRST]));
    let saved = record("eyJhbGciOiJub25l");
    assert!(one.save(&key("a"), &saved, LONG, None).await.unwrap());
    match other.load(&key("a")).await.unwrap() {
        Loaded::Found(loaded) => assert_eq!(*loaded, saved),
        loaded => panic!("{loaded:?}"),
    }
    assert_eq!(load(&other, "b").await, None);
}

#[tokio::test]
async fn only_the_rejected_token_is_deleted() {
    let store = encrypted(&MemoryStore::new(), &[FIRST]);
    let [rejected, newer] = ["rejected", "newer"].map(TokenDigest::of);
    assert!(!store.forget(&key("a"), &rejected).await.unwrap());
    assert!(save(&store, "a", "newer", None).await);
    assert!(!store.forget(&key("a"), &rejected).await.unwrap());
    assert_eq!(load(&store, "a").await.as_deref(), Some("newer"));
    assert!(store.forget(&key("a"), &newer).await.unwrap());
    assert_eq!(load(&store, "a").await, None);
}

#[tokio::test(start_paused = true)]
async fn expired_lease_saves_nothing_and_releases_no_other() {
    let store = encrypted(&MemoryStore::new(), &[FIRST]);
    let lease = async || store.lease(&key("a"), LONG).await.unwrap();
    let late = lease().await.unwrap();
    assert!(lease().await.is_none());
    tokio::time::advance(LONG).await;
    let next = lease().await.unwrap();
    assert!(save(&store, "a", "new", Some(&next)).await);
    assert!(!save(&store, "a", "old", Some(&late)).await);
    assert_eq!(load(&store, "a").await.as_deref(), Some("new"));
    store.release(late).await.unwrap();
    assert!(lease().await.is_none());
    store.release(next).await.unwrap();
    assert!(lease().await.is_some());
}

#[tokio::test]
async fn key_rotation_causes_no_miss_in_either_direction() {
    // The new key is deployed, then it encrypts, then the old key is removed.
    let steps: [&[&str]; 4] = [&[FIRST], &[FIRST, SECOND], &[SECOND, FIRST], &[SECOND]];
    let store = MemoryStore::new();
    for pair in steps.windows(2) {
        let [before, after] = [pair[0], pair[1]].map(|keys| encrypted(&store, keys));
        for (writer, reader) in [(&before, &after), (&after, &before)] {
            assert!(save(writer, "a", "shared", None).await);
            assert_eq!(load(reader, "a").await.as_deref(), Some("shared"));
            let token = TokenDigest::of("shared");
            assert!(reader.forget(&key("a"), &token).await.unwrap());
            assert_eq!(load(writer, "a").await, None);
        }
    }
}

#[tokio::test]
async fn key_file_may_change_while_a_lease_is_held() {
    let path = std::env::temp_dir().join(format!("tower-bearer-key-{}", std::process::id()));
    std::fs::write(&path, FIRST).unwrap();
    let ring = KeyRing::new(Secret::from_file(&path).unwrap()).unwrap();
    let ring = ring.with_older(Secret::new(FIRST)).unwrap();
    let store = EncryptedStore::new(MemoryStore::new(), ring);
    let lease = store.lease(&key("a"), LONG).await.unwrap().unwrap();
    std::fs::write(&path, SECOND).unwrap();
    assert!(save(&store, "a", "kept", Some(&lease)).await);
    assert_eq!(load(&store, "a").await.as_deref(), Some("kept"));
    store.release(lease).await.unwrap();

    std::fs::remove_file(&path).unwrap();
    let error = store.load(&key("a")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration);
}

#[tokio::test]
async fn swapped_value_is_unreadable_and_can_be_replaced() {
    let inner = MemoryStore::new();
    let store = encrypted(&inner, &[FIRST]);
    assert!(save(&store, "mine", "my-token", None).await);
    assert!(save(&store, "theirs", "their-token", None).await);
    let first = ring(&[FIRST]).first().unwrap();
    let [mine, theirs] = ["mine", "theirs"].map(|spec| key(spec).name(&first).unwrap());
    let stolen = inner.get(&theirs).await.unwrap().unwrap();
    assert!(inner.put(&mine, stolen, LONG, None).await.unwrap());
    let loaded = store.load(&key("mine")).await.unwrap();
    assert!(
        matches!(loaded, Loaded::Unreadable(Unreadable::Damaged)),
        "{loaded:?}"
    );
    assert!(save(&store, "mine", "new", None).await);
}

#[test]
fn keys_with_the_same_concatenation_have_different_names() {
    let keys: [&[&[u8]]; 5] = [
        &[b"ab", b"c"],
        &[b"a", b"bc"],
        &[b"", b"abc"],
        &[b"abc", b""],
        &[b"abc"],
    ];
    let first = ring(&[FIRST]).first().unwrap();
    let name = |parts| StoreKey::new(parts).name(&first).unwrap();
    let mut names = keys.map(name).to_vec();
    assert!(names.iter().all(|name| name.as_str().len() == 43));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), keys.len());
}

#[test]
fn debug_shows_no_key() {
    let store = encrypted(&MemoryStore::new(), &[FIRST]);
    let shown = format!("{store:?}");
    for word in WORDS {
        assert!(!shown.contains(word), "{shown}");
    }
}

/// Fails if one of the texts is in these bytes, in plain text, hex or base64.
#[cfg(any(feature = "file", feature = "redis"))]
fn assert_unreadable(bytes: &[u8]) {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    let lower = bytes.to_ascii_lowercase();
    for word in WORDS {
        let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![word.to_lowercase(), hex];
        // The base64 of a text depends on its offset: the middle part of each of the three forms.
        for shift in 0..3 {
            let shifted = format!("{}{word}", &"~~~"[..shift]);
            let encoded = STANDARD_NO_PAD.encode(shifted);
            forms.push(encoded[4..encoded.len() - 4].to_lowercase());
        }
        for form in forms {
            // Long enough not to occur by chance.
            assert!(form.len() > 5, "{word}");
            let is_there = lower
                .windows(form.len())
                .any(|window| window == form.as_bytes());
            assert!(!is_there, "{word} as {form}");
        }
    }
}

/// Runs every operation, so that the store contains everything that it may contain.
#[cfg(any(feature = "file", feature = "redis"))]
async fn fill(store: &EncryptedStore) {
    for i in 0..20 {
        let spec = i.to_string();
        let lease = store.lease(&key(&spec), LONG).await.unwrap().unwrap();
        assert!(save(store, &spec, "eyJhbGciOiJub25l", Some(&lease)).await);
        if i % 2 == 0 {
            store.release(lease).await.unwrap();
        }
    }
}

#[cfg(feature = "file")]
#[tokio::test]
async fn file_contains_no_readable_text() {
    let folder = std::env::temp_dir().join(format!("tower-bearer-readable-{}", std::process::id()));
    let file = crate::store::FileStore::new(folder.join("tokens"));
    let store = EncryptedStore::new(file, ring(&[FIRST]));
    fill(&store).await;
    let mut bytes = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = std::fs::read(file.unwrap().path()).unwrap();
        bytes += file.len();
        assert_unreadable(&file);
    }
    assert!(bytes > 20 * 100);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn redis_contains_no_readable_text() {
    let Ok(url) = std::env::var("TOWER_BEARER_REDIS") else {
        assert!(std::env::var_os("TOWER_BEARER_REAL").is_none());
        println!("skipped: TOWER_BEARER_REDIS is not set; tests/run sets it");
        return;
    };
    let prefix = format!("readable-{}", std::process::id());
    let store = crate::store::RedisStore::new(&url)
        .unwrap()
        .with_prefix(&*prefix)
        .unwrap();
    let long = Duration::from_secs(20);
    let store = store.with_read_timeout(long).with_write_timeout(long);
    fill(&EncryptedStore::new(store, ring(&[FIRST]))).await;

    let mut redis = redis::Client::open(url).unwrap().get_connection().unwrap();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS")
        .arg(format!("{prefix}:*"))
        .query(&mut redis)
        .unwrap();
    assert_eq!(keys.len(), 20 + 20 + 10);
    for key in keys {
        assert_unreadable(&key);
        for command in ["DUMP", "GET"] {
            let bytes: Vec<u8> = redis::cmd(command).arg(&key).query(&mut redis).unwrap();
            assert_unreadable(&bytes);
        }
        let () = redis::cmd("DEL").arg(&key).query(&mut redis).unwrap();
    }
}

#[cfg(any(feature = "file", feature = "redis"))]
#[test]
fn search_for_readable_text_finds_each_form() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let encode = |text: &str| STANDARD.encode(text);
    let texts = [
        "a eyJhbGciOiJub25l b".to_owned(),
        "61206f72646572732e7265616420".to_owned(),
        encode("tenant-seven"),
        encode("x tenant-seven x"),
        encode("xx tenant-seven xx"),
        encode("xxx tenant-seven"),
    ];
    for text in texts {
        let found = std::panic::catch_unwind(|| assert_unreadable(text.as_bytes()));
        assert!(found.is_err(), "{text}");
    }
    assert_unreadable(b"a eyJhbGciOiJub25 b");
}
