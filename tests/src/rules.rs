//! Policy files for tests, written as an operator would write them.

use std::fmt::Write;

/// A resource `shop` and its policies.
#[derive(Debug, Clone)]
pub struct Rules {
    default: &'static str,
    resource: String,
    policies: Vec<String>,
}

impl Rules {
    /// What no policy matches is allowed.
    pub fn allowing() -> Self {
        Self { default: "allow", resource: String::new(), policies: Vec::new() }
    }

    /// What no policy matches is refused.
    pub fn refusing() -> Self {
        Self { default: "refuse", ..Self::allowing() }
    }

    /// A policy `name` that refuses operations with any of `effects` (`"schema, privilege"`).
    #[must_use]
    pub fn refuse(self, name: &str, effects: &str) -> Self {
        self.policy(&format!("policy: {name}\nmatch: {{ resource: shop, effects: [{effects}] }}\ndecide: refuse\n"))
    }

    /// A policy `name` that holds operations with any of `effects` for root to approve within 30 seconds.
    #[must_use]
    pub fn hold(self, name: &str, effects: &str) -> Self {
        self.hold_for(name, effects, "from: [{ user: root }], timeout: 30s")
    }

    /// The same, with the inside of `approval` written out.
    #[must_use]
    pub fn hold_for(self, name: &str, effects: &str, approval: &str) -> Self {
        self.policy(&format!(
            "policy: {name}\nmatch: {{ resource: shop, effects: [{effects}] }}\ndecide: hold\napproval: {{ {approval} }}\n"
        ))
    }

    /// Any policy, in full.
    #[must_use]
    pub fn policy(mut self, yaml: &str) -> Self {
        self.policies.push(yaml.to_owned());
        self
    }

    /// Further lines of the resource.
    #[must_use]
    pub fn resource_line(mut self, line: &str) -> Self {
        writeln!(self.resource, "{line}").expect("a String takes everything");
        self
    }

    /// The resource's file, for a PostgreSQL on `port` of both loopback addresses.
    pub fn resource(&self, port: u16) -> String {
        format!(
            "resource: shop\nprotocol: postgres\nendpoints: [\"127.0.0.1:{port}\", \"[::1]:{port}\"]\ndefault: {}\n{}\n{MASKS}",
            self.default, self.resource
        )
    }

    /// The policies' file.
    pub fn policies(&self) -> String {
        self.policies.join("---\n")
    }
}

/// See `postgres.rs` for the table and its canaries.
const MASKS: &str = r#"mask:
  - { column: "public.customers.email", with: partial }
  - { column: "public.customers.ssn", with: redact }
  - { column: "public.customers.phone", with: "null" }
  - { column: "public.customers.token", with: hash }
  - { column: "public.customers.born", with: redact }
  - { detect: [card, iban, jwt, aws-key], with: redact }
"#;
