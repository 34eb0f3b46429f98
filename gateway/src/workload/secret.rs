//! Secrets in command lines: a connection string often carries one, and what is recorded is kept for years.
//!
//! # Security
//! This finds secrets where programs conventionally take them (a URL's user part, `name=value`, `--name value`). A secret
//! in any other place of a command line is recorded, as it is shown to every user of the machine by `ps`.

use std::sync::LazyLock;

use regex::Regex;

/// What stands in a secret's place.
const HIDDEN: &str = "***";

/// `scheme://user:SECRET@host`: up to the last `@` before path and query.
static IN_URL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/?#:@]*:)[^\s/?#]*@").expect("the expression is a constant and valid")
});

/// `password=SECRET` in a connection string, an option or a query; the value may be quoted.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)((?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key)\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s&]+)")
        .expect("the expression is a constant and valid")
});

/// An option whose value is the next argument.
static OPTION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^--?[a-z0-9_-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key)$")
        .expect("the expression is a constant and valid")
});

/// The arguments with secrets hidden.
pub(super) fn hidden(arguments: Vec<String>) -> Vec<String> {
    let mut value_follows = false;
    let hide = |argument: String| {
        if std::mem::take(&mut value_follows) && !argument.starts_with('-') {
            return HIDDEN.to_owned();
        }
        value_follows = OPTION.is_match(&argument) && !argument.contains("no-pass");
        let argument = IN_URL.replace_all(&argument, format!("${{1}}{HIDDEN}@"));
        NAMED.replace_all(&argument, format!("${{1}}{HIDDEN}")).into_owned()
    };
    arguments.into_iter().map(hide).collect()
}

#[cfg(test)]
mod tests {
    use super::hidden;

    #[track_caller]
    fn check(arguments: &[&str], expected: &[&str]) {
        assert_eq!(hidden(arguments.iter().map(|&argument| argument.to_owned()).collect()), expected);
    }

    #[test]
    fn secrets_in_urls() {
        check(&["psql", "postgresql://app:s3cret@db:5432/shop"], &["psql", "postgresql://app:***@db:5432/shop"]);
        check(&["postgresql://app:a@b:c@db/shop?x=y@z"], &["postgresql://app:***@db/shop?x=y@z"]);
        check(&["postgresql://app@db/shop"], &["postgresql://app@db/shop"]);
        check(
            &["postgresql://db/shop?user=app&password=s3cret&sslmode=disable"],
            &["postgresql://db/shop?user=app&password=***&sslmode=disable"],
        );
    }

    #[test]
    fn secrets_with_a_name() {
        check(&["host=db password='a \\' b' user=app"], &["host=db password=*** user=app"]);
        check(&["env", "PGPASSWORD=s3cret", "--api-key=k"], &["env", "PGPASSWORD=***", "--api-key=***"]);
        check(&["x", "--password", "s3cret", "y"], &["x", "--password", "***", "y"]);
        check(&["psql", "--no-password", "shop"], &["psql", "--no-password", "shop"]);
        check(&["psql", "--password", "-c", "SELECT 1"], &["psql", "--password", "-c", "SELECT 1"]);
    }

    #[test]
    fn everything_else_stays() {
        check(&["psql", "-c", "DROP TABLE tokens WHERE a = 'b'"], &["psql", "-c", "DROP TABLE tokens WHERE a = 'b'"]);
    }
}
