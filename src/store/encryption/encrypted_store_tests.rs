//! What a vault keeps, whatever is done to its store.

use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};

use super::{
    KeyRing, Record,
    encrypt::Unreadable,
    encrypted_store::{EncryptedStore, Loaded, StoreKey, TokenDigest},
};
use crate::{
    secret::Secret,
    store::{MemoryStore, StoreError, StoreErrorKind, TokenStore},
};

const FIRST: &str = "0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";
const SECOND: &str = "QmfdFM4UlZXi2qBJ6gZLCWpq4S1Nd4B0jLl6X0KdQRc=";
const LONG: Duration = Duration::from_secs(300);

/// Every word that must not be readable in a store.
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

fn place(spec: &str) -> StoreKey {
    StoreKey::new(&[
        b"https://login.example.com client-of-orders",
        format!("tenant-seven {spec}").as_bytes(),
    ])
}

fn record(text: &str) -> Record {
    let now = SystemTime::now();
    Record {
        scopes: Some("orders.read orders.write".into()),
        extra_headers: vec![(
            HeaderName::from_static("x-goog-user-project"),
            HeaderValue::from_static("billed-project"),
        )],
        ..Record::new(text, now, now + LONG / 2, now + LONG)
    }
}

fn found(loaded: Result<Loaded, StoreError>) -> Option<String> {
    match loaded.unwrap() {
        Loaded::Found(record) => Some(record.text.to_string()),
        Loaded::Missing => None,
        Loaded::Unreadable(why) => panic!("unreadable: {}", why.as_str()),
    }
}

#[tokio::test]
async fn what_one_process_saves_another_loads() {
    let store = MemoryStore::new();
    let [one, other] = [(); 2].map(|()| EncryptedStore::new(store.clone(), ring(&[FIRST])));
    let saved = record("eyJhbGciOiJub25l");
    assert!(one.save(&place("a"), &saved, LONG, None).await.unwrap());
    match other.load(&place("a")).await.unwrap() {
        Loaded::Found(loaded) => assert_eq!(*loaded, saved),
        loaded => panic!("{loaded:?}"),
    }
    assert_eq!(found(other.load(&place("b")).await), None);
}

#[tokio::test]
async fn only_the_token_that_was_rejected_is_forgotten() {
    let vault = EncryptedStore::new(MemoryStore::new(), ring(&[FIRST]));
    let [rejected, newer] = ["rejected", "newer"].map(TokenDigest::of);
    assert!(!vault.forget(&place("a"), &rejected).await.unwrap());
    vault
        .save(&place("a"), &record("newer"), LONG, None)
        .await
        .unwrap();
    assert!(!vault.forget(&place("a"), &rejected).await.unwrap());
    assert_eq!(found(vault.load(&place("a")).await), Some("newer".into()));
    assert!(vault.forget(&place("a"), &newer).await.unwrap());
    assert_eq!(found(vault.load(&place("a")).await), None);
}

#[tokio::test]
async fn who_slept_over_the_end_of_a_lease_saves_nothing() {
    tokio::time::pause();
    let vault = EncryptedStore::new(MemoryStore::new(), ring(&[FIRST]));
    let late = vault.lease(&place("a"), LONG).await.unwrap().unwrap();
    assert!(vault.lease(&place("a"), LONG).await.unwrap().is_none());
    tokio::time::advance(LONG).await;
    let next = vault.lease(&place("a"), LONG).await.unwrap().unwrap();
    assert!(
        vault
            .save(&place("a"), &record("new"), LONG, Some(&next))
            .await
            .unwrap()
    );
    assert!(
        !vault
            .save(&place("a"), &record("old"), LONG, Some(&late))
            .await
            .unwrap()
    );
    assert_eq!(found(vault.load(&place("a")).await), Some("new".into()));
    vault.release(late).await.unwrap();
    assert!(vault.lease(&place("a"), LONG).await.unwrap().is_none());
    vault.release(next).await.unwrap();
    assert!(vault.lease(&place("a"), LONG).await.unwrap().is_some());
}

#[tokio::test]
async fn a_change_of_keys_costs_no_miss_in_either_direction() {
    // First everybody learns the new key, then it seals, then the old one goes.
    let steps: [&[&str]; 4] = [&[FIRST], &[FIRST, SECOND], &[SECOND, FIRST], &[SECOND]];
    let store = MemoryStore::new();
    for pair in steps.windows(2) {
        let [before, after] =
            [pair[0], pair[1]].map(|keys| EncryptedStore::new(store.clone(), ring(keys)));
        for (writer, reader) in [(&before, &after), (&after, &before)] {
            let spec = format!("{pair:?} {writer:?}");
            writer
                .save(&place(&spec), &record("shared"), LONG, None)
                .await
                .unwrap();
            let loaded = found(reader.load(&place(&spec)).await);
            assert_eq!(loaded, Some("shared".into()));
            assert!(
                reader
                    .forget(&place(&spec), &TokenDigest::of("shared"))
                    .await
                    .unwrap()
            );
            assert_eq!(found(writer.load(&place(&spec)).await), None);
        }
    }
}

#[tokio::test]
async fn a_key_from_a_file_may_change_under_a_lease() {
    let path = std::env::temp_dir().join(format!("tower-bearer-key-{}", std::process::id()));
    std::fs::write(&path, FIRST).unwrap();
    let file = Secret::from_file(&path).unwrap();
    let vault = EncryptedStore::new(
        MemoryStore::new(),
        KeyRing::new(file)
            .unwrap()
            .with_older(Secret::new(FIRST))
            .unwrap(),
    );
    let held = vault.lease(&place("a"), LONG).await.unwrap().unwrap();
    std::fs::write(&path, SECOND).unwrap();
    assert!(
        vault
            .save(&place("a"), &record("kept"), LONG, Some(&held))
            .await
            .unwrap()
    );
    assert_eq!(found(vault.load(&place("a")).await), Some("kept".into()));
    vault.release(held).await.unwrap();

    std::fs::remove_file(&path).unwrap();
    let error = vault.load(&place("a")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Configuration);
}

#[tokio::test]
async fn two_values_that_were_swapped_are_unreadable() {
    let store = MemoryStore::new();
    let vault = EncryptedStore::new(store.clone(), ring(&[FIRST]));
    let [mine, theirs] = ["mine", "theirs"].map(place);
    for (place, text) in [(&mine, "my-token"), (&theirs, "their-token")] {
        vault.save(place, &record(text), LONG, None).await.unwrap();
    }
    let key = ring(&[FIRST]).first().unwrap();
    let [at_mine, at_theirs] = [&mine, &theirs].map(|place| place.name(&key).unwrap());
    let stolen = TokenStore::get(&store, &at_theirs).await.unwrap().unwrap();
    TokenStore::put(&store, &at_mine, stolen, LONG, None)
        .await
        .unwrap();
    let loaded = vault.load(&mine).await.unwrap();
    assert!(
        matches!(loaded, Loaded::Unreadable(Unreadable::Damaged)),
        "{loaded:?}"
    );
    assert!(
        vault.save(&mine, &record("new"), LONG, None).await.unwrap(),
        "it is written over"
    );
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
    let key = ring(&[FIRST]).first().unwrap();
    let mut names = keys
        .map(|parts| StoreKey::new(parts).name(&key).unwrap())
        .to_vec();
    assert!(names.iter().all(|name| name.as_str().len() == 43));
    names.sort();
    names.dedup();
    assert_eq!(names.len(), keys.len());
}

#[test]
fn nothing_of_a_vault_shows_a_key_or_a_token() {
    let vault = EncryptedStore::new(MemoryStore::new(), ring(&[FIRST]));
    let shown = format!(
        "{vault:?} {:?} {:?}",
        place("a"),
        TokenDigest::of("eyJhbGciOiJub25l")
    );
    for word in WORDS {
        assert!(!shown.contains(word), "{shown}");
    }
}

/// Fails if any of the words stands in these bytes, plain or in an encoding that anybody undoes.
#[cfg(any(feature = "file", feature = "redis"))]
fn nothing_readable(bytes: &[u8]) {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    let lower = bytes.to_ascii_lowercase();
    for word in WORDS {
        let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut looks = vec![word.to_lowercase(), hex];
        // Base64 shifts with what stands before: the middle of each of the three.
        for shift in 0..3 {
            let shifted = format!("{}{word}", &"~~~"[..shift]);
            let encoded = STANDARD_NO_PAD.encode(shifted);
            looks.push(encoded[4..encoded.len() - 4].to_lowercase());
        }
        for look in looks {
            // So long that it is there by no chance.
            assert!(look.len() > 5, "{word}");
            let is_there = lower
                .windows(look.len())
                .any(|window| window == look.as_bytes());
            assert!(!is_there, "{word} as {look}");
        }
    }
}

/// Everything that a vault does, so that all that a store may hold is there.
#[cfg(any(feature = "file", feature = "redis"))]
async fn fill(vault: &EncryptedStore) {
    for i in 0..20 {
        let place = place(&format!("{i}"));
        let held = vault.lease(&place, LONG).await.unwrap().unwrap();
        vault
            .save(&place, &record("eyJhbGciOiJub25l"), LONG, Some(&held))
            .await
            .unwrap();
        if i % 2 == 0 {
            vault.release(held).await.unwrap();
        }
    }
}

#[cfg(feature = "file")]
#[tokio::test]
async fn nothing_is_readable_in_a_file() {
    let folder = std::env::temp_dir().join(format!("tower-bearer-readable-{}", std::process::id()));
    let vault = EncryptedStore::new(
        crate::store::FileStore::new(folder.join("tokens")),
        ring(&[FIRST]),
    );
    fill(&vault).await;
    let mut bytes = 0;
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = std::fs::read(file.unwrap().path()).unwrap();
        bytes += file.len();
        nothing_readable(&file);
    }
    assert!(bytes > 20 * 100);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn nothing_is_readable_in_redis() {
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
        nothing_readable(&key);
        for command in ["DUMP", "GET"] {
            let bytes: Vec<u8> = redis::cmd(command).arg(&key).query(&mut redis).unwrap();
            nothing_readable(&bytes);
        }
        let () = redis::cmd("DEL").arg(&key).query(&mut redis).unwrap();
    }
}

#[cfg(any(feature = "file", feature = "redis"))]
#[test]
fn the_search_for_words_finds_them() {
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
        let found = std::panic::catch_unwind(|| nothing_readable(text.as_bytes()));
        assert!(found.is_err(), "{text}");
    }
    nothing_readable(b"a eyJhbGciOiJub25 b");
}
