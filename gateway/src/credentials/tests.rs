//! What is sealed stays sealed, and is what it says.

use tempfile::TempDir;

use super::*;

fn vault(dir: &TempDir) -> Vault {
    reopened(dir).expect("it can be opened")
}

fn reopened(dir: &TempDir) -> Result<Vault, VaultError> {
    Vault::open_at(&dir.path().join("credentials"), Box::new(FileKey::own(&dir.path().join("credentials.key"))))
}

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn sealed(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join("credentials").join(name)
}

#[test]
fn what_is_set_can_be_opened_after_a_restart_and_read_nowhere() {
    let dir = TempDir::new().expect("a temporary directory");
    let own = vault(&dir);
    own.put("orders-db/app", Some("app".into()), &secret("canary-1"), Put::Set).expect("set");
    own.put("orders-db/app", None, &secret("canary-2"), Put::Rotate).expect("rotated");
    for vault in [own, vault(&dir)] {
        let opened = vault.open("orders-db/app").expect("it opens");
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

#[test]
fn what_was_changed_on_disk_does_not_open() {
    let dir = TempDir::new().expect("a temporary directory");
    let own = vault(&dir);
    own.put("a", Some("app".into()), &secret("canary"), Put::Set).expect("set");
    own.put("b", None, &secret("other"), Put::Set).expect("set");
    let path = sealed(&dir, "a.sealed");
    let text = fs::read_to_string(&path).expect("it is there");
    let user = text.replace("\"app\"", "\"postgres\"");
    let version = text.replace("\"version\":1", "\"version\":9");
    let other = fs::read_to_string(sealed(&dir, "b.sealed")).expect("it is there").replace("\"b\"", "\"a\"");
    for changed in [user, version, other] {
        assert_ne!(changed, text);
        fs::write(&path, changed).expect("written");
        let error = vault(&dir).open("a").expect_err("it was changed").to_string();
        assert!(error.contains("another key, or a file was changed"), "{error}");
    }
    fs::write(&path, fs::read(sealed(&dir, "b.sealed")).expect("it is there")).expect("written");
    assert!(matches!(reopened(&dir), Err(VaultError::NotSealed { .. })), "another's under this name");
    fs::write(&path, "nothing").expect("written");
    assert!(matches!(reopened(&dir), Err(VaultError::NotSealed { .. })));
}

#[test]
fn without_its_key_nothing_opens_and_no_other_is_made() {
    let dir = TempDir::new().expect("a temporary directory");
    let key = dir.path().join("credentials.key");
    vault(&dir).put("a", None, &secret("canary"), Put::Set).expect("set");
    let right = fs::read(&key).expect("it was made");
    fs::remove_file(&key).expect("it is there");
    let error = reopened(&dir).map(drop).expect_err("the key is gone").to_string();
    assert!(error.contains("credentials.key") && !key.exists(), "{error}");
    fs::write(&key, [7_u8; 31]).expect("written");
    assert!(reopened(&dir).map(drop).expect_err("too short").to_string().contains("31 bytes"));
    fs::write(&key, [7_u8; 32]).expect("written");
    assert!(vault(&dir).open("a").is_err(), "another key");
    fs::write(&key, right).expect("written");
    vault(&dir).open("a").expect("the right one");
}

#[test]
fn names_and_values_that_can_be_none_are_refused() {
    let dir = TempDir::new().expect("a temporary directory");
    let vault = vault(&dir);
    for name in ["", "/", "a/", "../a", "a/../b", ".a", "a b", "a+b", "ä", &"x".repeat(121)] {
        assert!(matches!(vault.put(name, None, &secret("x"), Put::Set), Err(VaultError::BadName(_))), "{name}");
    }
    for value in ["", "a\0b", &"x".repeat(LONGEST + 1)] {
        assert!(matches!(vault.put("a", None, &secret(value), Put::Set), Err(VaultError::BadValue)));
    }
    assert!(matches!(vault.put("a", None, &secret("x"), Put::Rotate), Err(VaultError::Unknown(_))));
    assert!(matches!(vault.delete("a"), Err(VaultError::Unknown(_))));
    assert!(matches!(vault.open("a"), Err(VaultError::Unknown(_))));
    vault.put("a", None, &secret("x"), Put::Set).expect("set");
    vault.delete("a").expect("deleted");
    assert!(vault.open("a").is_err() && vault.list().is_empty());
}
