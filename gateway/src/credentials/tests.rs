//! What is sealed stays sealed, and is what it says.

use tempfile::TempDir;

use super::*;

async fn vault(dir: &TempDir) -> Vault {
    reopened(dir).await.expect("it can be opened")
}

async fn reopened(dir: &TempDir) -> Result<Vault, VaultError> {
    let keys = Keys::one(FileKey::own(&dir.path().join("credentials.key")));
    let vault = Vault::open_at(&dir.path().join("credentials"), keys)?;
    vault.check().await?;
    Ok(vault)
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn sealed(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join("credentials").join(name)
}

#[tokio::test]
async fn what_is_set_can_be_opened_after_a_restart_and_read_nowhere() {
    let dir = TempDir::new().expect("a temporary directory");
    let own = vault(&dir).await;
    own.put("orders-db/app", Some("app".into()), &secret("canary-1"), Put::Set).await.expect("set");
    own.put("orders-db/app", None, &secret("canary-2"), Put::Rotate).await.expect("rotated");
    for vault in [own, vault(&dir).await] {
        let opened = vault.open("orders-db/app").await.expect("it opens");
        assert_eq!((opened.value.expose(), opened.user.as_deref(), opened.version), (&b"canary-2"[..], Some("app"), 2));
        assert!(!format!("{opened:?}").contains("canary"), "{opened:?}");
        assert_eq!(vault.list().len(), 1);
    }
    let path = sealed(&dir, "orders-db+app.sealed");
    let bytes = fs::read(&path).expect("it is there");
    assert!(!String::from_utf8_lossy(&bytes).contains("canary"));
    for file in [path, dir.path().join("credentials.key")] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).expect("it is there").permissions());
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn what_was_changed_on_disk_does_not_open() {
    let dir = TempDir::new().expect("a temporary directory");
    let own = vault(&dir).await;
    own.put("a", Some("app".into()), &secret("canary"), Put::Set).await.expect("set");
    own.put("b", None, &secret("other"), Put::Set).await.expect("set");
    let path = sealed(&dir, "a.sealed");
    let text = fs::read_to_string(&path).expect("it is there");
    let user = text.replace("\"app\"", "\"postgres\"");
    let version = text.replace("\"version\":1", "\"version\":9");
    let other = fs::read_to_string(sealed(&dir, "b.sealed")).expect("it is there").replace("\"b\"", "\"a\"");
    for changed in [user, version, other] {
        assert_ne!(changed, text);
        fs::write(&path, changed).expect("written");
        let error = vault(&dir).await.open("a").await.expect_err("it was changed").to_string();
        assert!(error.contains("another key, or a file was changed"), "{error}");
    }
    fs::write(&path, fs::read(sealed(&dir, "b.sealed")).expect("it is there")).expect("written");
    assert!(matches!(reopened(&dir).await, Err(VaultError::NotSealed { .. })), "another's under this name");
    fs::write(&path, "nothing").expect("written");
    assert!(matches!(reopened(&dir).await, Err(VaultError::NotSealed { .. })));
}

#[tokio::test]
async fn without_its_key_nothing_opens_and_no_other_is_made() {
    let dir = TempDir::new().expect("a temporary directory");
    let key = dir.path().join("credentials.key");
    vault(&dir).await.put("a", None, &secret("canary"), Put::Set).await.expect("set");
    let right = fs::read(&key).expect("it was made");
    fs::remove_file(&key).expect("it is there");
    let error = reopened(&dir).await.map(drop).expect_err("the key is gone").to_string();
    assert!(error.contains("credentials.key") && !key.exists(), "{error}");
    fs::write(&key, [7_u8; 31]).expect("written");
    assert!(reopened(&dir).await.map(drop).expect_err("too short").to_string().contains("31 bytes"));
    fs::write(&key, [7_u8; 32]).expect("written");
    assert!(vault(&dir).await.open("a").await.is_err(), "another key");
    fs::write(&key, right).expect("written");
    vault(&dir).await.open("a").await.expect("the right one");
}

#[tokio::test]
async fn names_and_values_that_can_be_none_are_refused() {
    let dir = TempDir::new().expect("a temporary directory");
    let vault = vault(&dir).await;
    for name in ["", "/", "a/", "../a", "a/../b", ".a", "a b", "a+b", "ä", &"x".repeat(121)] {
        assert!(matches!(vault.put(name, None, &secret("x"), Put::Set).await, Err(VaultError::BadName(_))), "{name}");
    }
    for value in ["", "a\0b", &"x".repeat(LONGEST + 1)] {
        assert!(matches!(vault.put("a", None, &secret(value), Put::Set).await, Err(VaultError::BadValue)));
    }
    assert!(matches!(vault.put("a", None, &secret("x"), Put::Rotate).await, Err(VaultError::Unknown(_))));
    assert!(matches!(vault.delete("a").await, Err(VaultError::Unknown(_))));
    assert!(matches!(vault.open("a").await, Err(VaultError::Unknown(_))));
    vault.put("a", None, &secret("x"), Put::Set).await.expect("set");
    vault.delete("a").await.expect("deleted");
    assert!(vault.open("a").await.is_err() && vault.list().is_empty());
}

fn files(dir: &TempDir) -> [PathBuf; 2] {
    let files = ["a.key", "b.key"].map(|name| dir.path().join(name));
    std::iter::zip(&files, 1..).for_each(|(file, byte)| fs::write(file, [byte; 32]).expect("written"));
    files
}

fn with(dir: &TempDir, now: &Path, before: Option<&Path>) -> Vault {
    let source = |path: &Path| -> Box<dyn KeySource> { Box::new(FileKey::brought(path)) };
    let keys = Keys { now: source(now), before: before.map(source) };
    Vault::open_at(&dir.path().join("credentials"), keys).expect("it can be opened")
}

#[tokio::test]
async fn credentials_move_from_one_key_to_another_and_back_half_way() {
    let dir = TempDir::new().expect("a temporary directory");
    let [old, new] = files(&dir);
    let names = ["a", "b", "c"];
    let first = with(&dir, &old, None);
    for name in names {
        first.put(name, None, &secret(name), Put::Set).await.expect("set");
    }
    let old_bytes = fs::read(sealed(&dir, "b.sealed")).expect("it is there");
    let both = with(&dir, &new, Some(&old));
    // Stopped in the middle: what cannot be opened by either key ends it, and what was done before it stays.
    let changed = String::from_utf8_lossy(&old_bytes).replace("\"version\":1", "\"version\":2");
    fs::write(sealed(&dir, "b.sealed"), changed).expect("written");
    let stopped = with(&dir, &new, Some(&old)).reseal().await.expect_err("b was changed").to_string();
    assert!(stopped.contains("1 of 3") && stopped.contains("b was not"), "{stopped}");
    fs::write(sealed(&dir, "b.sealed"), old_bytes).expect("written");
    let half = with(&dir, &new, Some(&old));
    assert!(with(&dir, &new, None).open("c").await.is_err(), "the control: c is sealed with the old key alone");
    with(&dir, &new, None).open("a").await.expect("a is sealed with the new key alone");
    for name in names {
        assert_eq!(half.open(name).await.expect("by one of both").value.expose(), name.as_bytes());
        assert_eq!(both.open(name).await.expect("by one of both").value.expose(), name.as_bytes());
    }
    assert_eq!(half.reseal().await.expect("all of them").credentials, 3);
    fs::remove_file(&old).expect("it is there");
    for name in names {
        assert_eq!(with(&dir, &new, None).open(name).await.expect("by the new one").value.expose(), name.as_bytes());
    }
    assert_eq!(with(&dir, &new, None).list().iter().map(|about| about.version).collect::<Vec<_>>(), [1, 1, 1]);
}

/// A key that seals and cannot open again.
struct OneWay(FileKey);

impl KeySource for OneWay {
    fn describe(&self) -> String {
        "a way in".into()
    }

    fn ready(&self) -> key::Doing<'_, ()> {
        self.0.ready()
    }

    fn wrap<'a>(&'a self, key: &'a [u8; 32], about: &'a [u8]) -> key::Doing<'a, Vec<u8>> {
        self.0.wrap(key, about)
    }

    fn unwrap<'a>(&'a self, _: &'a [u8], _: &'a [u8]) -> key::Doing<'a, Zeroizing<[u8; 32]>> {
        Box::pin(async { Err("there is no way out".to_owned()) })
    }
}

#[tokio::test]
async fn nothing_is_sealed_anew_with_what_cannot_open_it() {
    let dir = TempDir::new().expect("a temporary directory");
    let [old, new] = files(&dir);
    with(&dir, &old, None).put("a", None, &secret("canary"), Put::Set).await.expect("set");
    let keys = Keys { now: Box::new(OneWay(FileKey::brought(&new))), before: Some(Box::new(FileKey::brought(&old))) };
    let vault = Vault::open_at(&dir.path().join("credentials"), keys).expect("it can be opened");
    let error = vault.reseal().await.expect_err("it would be lost").to_string();
    assert!(error.contains("no way out"), "{error}");
    with(&dir, &old, None).open("a").await.expect("still sealed as it was");
}
