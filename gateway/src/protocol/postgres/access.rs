//! What a resource says about logging in: its `credential`, and `user`, `database` and `client_auth` in its `postgres`
//! section.

use serde::Deserialize;
use serde_json::{Map, Value};

/// How clients get in, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Access {
    /// What the gateway logs in with; `None`: clients log in themselves.
    pub(super) credential: Option<String>,
    /// As whom. Default: the credential's user, else the client's.
    pub(super) user: Option<String>,
    /// To which database. Default: the client's.
    pub(super) database: Option<String>,
    /// The credential that clients must know the password of. `None`: who they are by the kernel is enough.
    pub(super) verifier: Option<String>,
    /// Whether the backend's catalog is asked what stands behind names.
    pub(super) looks_inside: bool,
    /// Whether the backend is asked what a held statement would touch.
    pub(super) previews: bool,
}

/// The `postgres` section.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Section {
    user: Option<String>,
    database: Option<String>,
    client_auth: ClientAuth,
    classify: Classify,
    preview: Preview,
}

/// By what statements are classified.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Classify {
    /// By their text, and what the backend's catalog says of the names in it.
    #[default]
    Catalog,
    /// By their text alone.
    Text,
}

/// What approvers see of what a statement would touch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Preview {
    /// What `EXPLAIN` says, where nothing of the statement can run by that.
    #[default]
    Explain,
    /// Nothing: the backend hears of a statement only once it is approved.
    None,
}

/// What a client must prove.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ClientAuth {
    /// Nothing: the kernel says which workload it is.
    #[default]
    Kernel,
    /// That it knows the password of a credential, which may be kept as PostgreSQL's SCRAM verifier.
    Scram(String),
}

impl Access {
    /// Reads a resource's sections.
    ///
    /// # Errors
    /// Which one is wrong, and how.
    pub(super) fn read(extra: &Map<String, Value>) -> Result<Self, (&'static str, String)> {
        let credential = match extra.get("credential") {
            None => None,
            Some(Value::String(name)) if crate::gate::is_credential_name(name) => Some(name.clone()),
            Some(other) => {
                return Err(("credential", format!("{other} is no name; expected one such as `orders-db/app`")));
            }
        };
        let section = extra.get("postgres").map(Section::deserialize).transpose();
        let section = section.map_err(|error| ("postgres", error.to_string()))?.unwrap_or_default();
        let Section { user, database, client_auth, classify, preview } = section;
        let verifier = match client_auth {
            ClientAuth::Kernel => None,
            ClientAuth::Scram(name) if crate::gate::is_credential_name(&name) => Some(name),
            ClientAuth::Scram(name) => {
                return Err(("postgres", format!("`client_auth: {{ scram: {name:?} }}` is no credential's name")));
            }
        };
        if credential.is_none() && (user.is_some() || database.is_some() || verifier.is_some()) {
            let message = "`user`, `database` and `client_auth` are for a resource with a `credential`: without one clients log in themselves, as who they say";
            return Err(("postgres", message.to_owned()));
        }
        let looks_inside = classify == Classify::Catalog;
        // By the text alone nobody knows what planning would run.
        let previews = looks_inside && preview == Preview::Explain;
        Ok(Self { credential, user, database, verifier, looks_inside, previews })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Access, (&'static str, String)> {
        Access::read(&serde_saphyr::from_str(yaml).expect("YAML"))
    }

    #[test]
    fn what_is_not_said_is_nobodys_credential() {
        assert_eq!(read("{}").expect("right"), Access { looks_inside: true, previews: true, ..Access::default() });
        let by_text = read("{postgres: {classify: text}}").expect("right");
        assert!(!by_text.looks_inside && !by_text.previews);
        let unasked = read("{postgres: {preview: none}}").expect("right");
        assert!(unasked.looks_inside && !unasked.previews);
        let access = read("{credential: a/b, postgres: {user: u, client_auth: {scram: c}}}").expect("right");
        assert_eq!((access.credential.as_deref(), access.verifier.as_deref()), (Some("a/b"), Some("c")));
        assert_eq!(read("{credential: a, postgres: {client_auth: kernel}}").expect("right").verifier, None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_section() {
        for (yaml, section) in [
            ("{credential: 7}", "credential"),
            ("{credential: ../x}", "credential"),
            ("{credential: a, postgres: {usr: x}}", "postgres"),
            ("{credential: a, postgres: {client_auth: md5}}", "postgres"),
            ("{credential: a, postgres: {client_auth: {scram: a b}}}", "postgres"),
            ("{postgres: {user: x}}", "postgres"),
            ("{postgres: {classify: guess}}", "postgres"),
            ("{postgres: {preview: analyze}}", "postgres"),
        ] {
            assert_eq!(read(yaml).expect_err(yaml).0, section, "{yaml}");
        }
    }
}
