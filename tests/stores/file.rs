//! Checks the store in a file.

use std::{fs, path::PathBuf, task::Poll, time::Duration};

use bytes::Bytes;
use tower_bearer::{
    store::{FileStore, StoreErrorKind, TokenStore},
    testing::store_suite,
};

use super::{LONG, name, put};

/// A temporary folder, deleted on drop.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("tower-bearer-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("tokens")
    }

    pub(crate) fn store(&self) -> FileStore {
        FileStore::new(self.file()).with_timeout(Duration::from_secs(120))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_store_passes_the_store_suite() {
    let folder = Folder::new("suite");
    store_suite(async || folder.store()).await;
}

#[test]
fn file_store_blocks_outside_a_runtime() {
    let folder = Folder::new("outside");
    let (store, name) = (folder.store(), name("a"));
    let mut put = tokio_test::task::spawn(store.put(&name, "v".into(), LONG, None));
    assert!(matches!(put.poll(), Poll::Ready(Ok(true))));
    let mut get = tokio_test::task::spawn(store.get(&name));
    assert!(matches!(get.poll(), Poll::Ready(Ok(Some(value))) if value == "v"));
}

#[tokio::test]
async fn damaged_file_is_empty_and_is_replaced() {
    let folder = Folder::new("damaged");
    let store = folder.store();
    put(&store, &name("a"), "v").await;
    let whole = fs::read(folder.file()).unwrap();
    let half = &whole[..whole.len() / 2];
    for damaged in [&b""[..], b"{}", half, &[0; 5000]] {
        fs::write(folder.file(), damaged).unwrap();
        assert_eq!(store.get(&name("a")).await.unwrap(), None);
        assert!(!store.delete_if(&name("a"), &"v".into()).await.unwrap());
        assert!(put(&store, &name("a"), "v").await);
        assert_eq!(store.get(&name("a")).await.unwrap(), Some("v".into()));
    }
}

#[tokio::test]
async fn rest_of_a_crash_is_ignored_and_removed() {
    let folder = Folder::new("half");
    let store = folder.store();
    put(&store, &name("a"), "v").await;
    let new = folder.file().with_file_name("tokens.new");
    let whole = fs::read(folder.file()).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len()] {
        fs::write(&new, &whole[..length]).unwrap();
        assert_eq!(store.get(&name("a")).await.unwrap(), Some("v".into()));
        assert!(put(&store, &name("b"), "w").await);
        assert_eq!(store.get(&name("a")).await.unwrap(), Some("v".into()));
        assert!(!new.exists());
    }
}

#[tokio::test]
async fn expired_values_are_removed_from_the_file() {
    let folder = Folder::new("over");
    let store = folder.store();
    let (a, short) = (name("a"), Duration::from_millis(1));
    let put_short = store.put(&a, "short-lived".into(), short, None);
    assert!(put_short.await.unwrap());
    tokio::time::sleep(Duration::from_millis(5)).await;
    put(&store, &name("b"), "long-lived").await;
    let file = fs::read(folder.file()).unwrap();
    let holds = |text: &str| {
        file.windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(holds("long-lived") && !holds("short-lived"));
}

#[tokio::test]
async fn limit_removes_values_and_refuses_one_that_is_too_large() {
    let folder = Folder::new("limit");
    let store = folder.store().with_limit(1000);
    for i in 1..=20 {
        let value = Bytes::from(vec![i; 300]);
        let lifetime = LONG * u32::from(i);
        let name = name(&format!("n{i}"));
        assert!(store.put(&name, value, lifetime, None).await.unwrap());
    }
    assert!(fs::metadata(folder.file()).unwrap().len() < 2000);
    let mut left = Vec::new();
    for i in 1..=20 {
        if store.get(&name(&format!("n{i}"))).await.unwrap().is_some() {
            left.push(i);
        }
    }
    assert_eq!(left, [18, 19, 20]);
    let error = store
        .put(&name("huge"), vec![0; 1001].into(), LONG, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(error.to_string().contains("higher limit"), "{error}");
    assert!(
        store.get(&name("n20")).await.unwrap().is_some(),
        "a refused value changes nothing"
    );
}

#[tokio::test]
async fn wait_for_the_lock_of_another_process_is_limited() {
    let folder = Folder::new("locked");
    let store = folder.store();
    put(&store, &name("a"), "v").await;
    let lock = fs::File::options()
        .write(true)
        .open(folder.file().with_file_name("tokens.lock"))
        .unwrap();
    lock.lock().unwrap();
    let hasty = store.clone().with_timeout(Duration::from_millis(100));
    let error = hasty
        .put(&name("a"), "w".into(), LONG, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Timeout);
    assert_eq!(
        store.get(&name("a")).await.unwrap(),
        Some("v".into()),
        "a read takes no lock"
    );
    lock.unlock().unwrap();
    assert!(put(&store, &name("a"), "w").await);
}

#[tokio::test]
async fn cancelled_calls_leave_the_store_usable() {
    let folder = Folder::new("gives_up");
    let store = folder.store();
    for _ in 0..50 {
        let name = name("a");
        let mut call = tokio_test::task::spawn(store.put(&name, "v".into(), LONG, None));
        assert!(call.poll().is_pending());
        drop(call);
    }
    assert!(put(&store, &name("b"), "v").await);
}

#[cfg(unix)]
mod permissions {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: impl AsRef<std::path::Path>) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn file_and_folder_are_accessible_only_to_the_owner() {
        let folder = Folder::new("rights");
        let deep = folder.0.join("a").join("b");
        let store = FileStore::new(deep.join("tokens"));
        put(&store, &name("a"), "v").await;
        assert_eq!(mode(&deep), 0o700);
        assert_eq!(mode(deep.join("tokens")), 0o600);
        assert_eq!(mode(deep.join("tokens.lock")), 0o600);
    }

    #[tokio::test]
    async fn wider_permissions_of_the_file_are_restricted() {
        let folder = Folder::new("open");
        let store = folder.store();
        put(&store, &name("a"), "v").await;
        fs::set_permissions(folder.file(), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(store.get(&name("a")).await.unwrap(), Some("v".into()));
        assert_eq!(mode(folder.file()), 0o600);
    }

    #[tokio::test]
    async fn link_in_place_of_the_new_file_is_not_followed() {
        let folder = Folder::new("link");
        let elsewhere = folder.0.join("elsewhere");
        fs::write(&elsewhere, "theirs").unwrap();
        let new = folder.file().with_file_name("tokens.new");
        std::os::unix::fs::symlink(&elsewhere, new).unwrap();
        folder
            .store()
            .put(&name("a"), "v".into(), LONG, None)
            .await
            .unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "theirs");
    }

    #[tokio::test]
    async fn error_names_the_path_if_it_is_a_folder() {
        let folder = Folder::new("folder");
        let taken = folder.file();
        fs::create_dir(&taken).unwrap();
        let store = FileStore::new(&taken);
        let error = store
            .put(&name("a"), "v".into(), LONG, None)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(&*taken.to_string_lossy()),
            "{error}"
        );
    }
}
