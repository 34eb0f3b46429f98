//! Secrets that stand in files of their own.
//!
//! # Security
//! Nothing here is printed: not by `Debug`, not in an error. A file that others can read is refused.

use std::{fs, ops::Deref, os::unix::fs::MetadataExt as _, path::Path};

use zeroize::Zeroizing;

/// A text that is wiped when dropped, and never printed.
pub(super) struct Secret(Zeroizing<String>);

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Secret {
    pub(super) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The one line in `path`, which only root (or who runs this) may read.
    ///
    /// # Errors
    /// What is wrong with the file, with what to do about it.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let failed = |error: std::io::Error| format!("{shown} cannot be read: {error}");
        let about = fs::metadata(path).map_err(failed)?;
        if !about.is_file() {
            return Err(format!("{shown} is no file"));
        }
        let own = nix::unistd::geteuid().as_raw();
        if about.uid() != 0 && about.uid() != own {
            return Err(format!(
                "{shown} belongs to user {}, who could change it; run `chown root {shown}`",
                about.uid()
            ));
        }
        if about.mode() & 0o077 != 0 {
            return Err(format!("{shown} can be read by others than its owner; run `chmod 600 {shown}`"));
        }
        if about.len() > LONGEST {
            return Err(format!("{shown} is longer than {LONGEST} bytes; it must have the secret and nothing else"));
        }
        let text = fs::read_to_string(path).map(Zeroizing::new).map_err(failed)?;
        let line = text.trim();
        if line.is_empty() || line.contains(char::is_control) {
            return Err(format!("{shown} must have the secret in one line, and nothing else"));
        }
        Ok(Self::new(line))
    }
}

/// More than any secret has, bytes.
const LONGEST: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_refused_and_no_error_has_its_content() {
        let dir = tempfile::TempDir::new().expect("a temporary directory");
        let path = dir.path().join("token");
        let read = |content: &str, mode| {
            let _ = fs::remove_file(&path);
            fs::write(&path, content).expect("writable");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            Secret::read(&path).map(|secret| secret.to_owned())
        };
        assert_eq!(read("canary\n", 0o600), Ok("canary".to_owned()));
        for (content, mode, word) in [
            ("canary", 0o640, "chmod 600"),
            ("canary", 0o604, "chmod 600"),
            ("canary\ncanary", 0o600, "in one line"),
            ("\n", 0o600, "in one line"),
        ] {
            let error = read(content, mode).expect_err(word);
            assert!(error.contains(word) && !error.contains("canary"), "{error}");
        }
        assert!(Secret::read(&dir.path().join("none")).is_err_and(|error| error.contains("cannot be read")));
        assert!(Secret::read(dir.path()).is_err_and(|error| error.contains("no file")));
    }
}
