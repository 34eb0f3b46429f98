//! `channels:`: how people hear of what waits.
//!
//! # Security
//! Tokens, secrets and addresses that are secrets stand in files that are named here, never here itself.

use std::path::PathBuf;

use serde::Deserialize;

use super::OneOrMany;
use crate::operation::Effect;

/// One channel. Exactly one of `slack`, `teams`, `email` and `webhook` says where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Which requests it is for. Default: all.
    #[serde(default, rename = "for")]
    pub about: About,
    /// Which events it hears of: `opened`, `denied`, … Default: all; for Teams and e-mail all but `previewed`.
    #[serde(default)]
    pub events: Option<Vec<String>>,
    /// How much of an operation it shows.
    #[serde(default)]
    pub show: Show,
    /// Slack.
    #[serde(default)]
    pub slack: Option<Slack>,
    /// Microsoft Teams.
    #[serde(default)]
    pub teams: Option<Teams>,
    /// E-mail.
    #[serde(default)]
    pub email: Option<Email>,
    /// A server of one's own.
    #[serde(default)]
    pub webhook: Option<Webhook>,
}

/// Which requests: everything that is written must match, with globs as in policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct About {
    /// A group that may decide.
    pub groups: Option<OneOrMany>,
    /// The rule that holds it.
    pub rules: Option<OneOrMany>,
    /// What it would act on.
    pub resources: Option<OneOrMany>,
    /// One of these effects.
    pub effects: Option<Vec<Effect>>,
}

/// How much of an operation a channel shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Show {
    /// The statement as sent, cut where it is long. Bound parameters never.
    #[default]
    Statement,
    /// Its kind alone: what it says stays inside.
    Kind,
}

/// What people may do in a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MayDo {
    /// Hear.
    #[default]
    Notify,
    /// Decide as well.
    Decide,
}

/// A channel of Slack's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// Its id: `C0123456789`.
    pub channel: String,
    /// The file with the app's token (`xoxb-…`), for root alone.
    pub token_file: PathBuf,
    /// The file with the app's signing secret, for root alone. Needed to decide.
    #[serde(default)]
    pub signing_secret_file: Option<PathBuf>,
    /// What people may do there.
    #[serde(default)]
    pub may: MayDo,
    /// What may be decided there: operations with no other effect. Default: any.
    #[serde(default)]
    pub decide_effects: Option<Vec<Effect>>,
    /// Where Slack answers.
    #[serde(default = "slack_api")]
    pub api: String,
    /// Who signs its certificate, in PEM. Default: whom this machine trusts.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// A channel or chat of Microsoft Teams, by a workflow that posts what it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teams {
    /// The file with the workflow's address, which is a secret: for root alone.
    pub url_file: PathBuf,
    /// Who signs its certificate, in PEM. Default: whom this machine trusts.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// Mailboxes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Email {
    /// The server that takes mail: `smtp.example.com`, `smtp.example.com:465`.
    pub server: String,
    /// How TLS begins.
    #[serde(default)]
    pub tls: MailTls,
    /// Who signs its certificate, in PEM. Default: whom this machine trusts.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// As whom the gateway logs in.
    #[serde(default)]
    pub user: Option<String>,
    /// The file with that user's password, for root alone.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// From whom: `Holdpoint <holdpoint@example.com>`.
    pub from: String,
    /// To whom.
    pub to: Vec<String>,
}

/// How TLS begins with a mail server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// By a command, which the server must have (port 587).
    #[default]
    Starttls,
    /// At once (port 465).
    Implicit,
    /// Not at all: on the loopback only (port 25).
    None,
}

/// A server of one's own, by the specification Standard Webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where it answers. Not together with `url_file`.
    #[serde(default)]
    pub url: Option<String>,
    /// The file with that address, where it is a secret: for root alone.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// Files with secrets (`whsec_…`), for root alone. Each signs, so that one can take over from another.
    pub secret_files: Vec<PathBuf>,
    /// Who signs its certificate, in PEM. Default: whom this machine trusts.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

fn slack_api() -> String {
    "https://slack.com/api".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Channel>, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_channel_says_where_it_leads_and_what_it_is_for() {
        let text = "
- name: dba
  for: { groups: dba, rules: ['schema-*', drops], effects: [schema, privilege] }
  events: [opened, approved]
  show: kind
  slack: { channel: C1, token_file: /t, signing_secret_file: /s, may: decide, decide_effects: [write] }
- { name: mail, email: { server: 'smtp:587', from: a@b.example, to: [c@d.example] } }
- { name: hook, webhook: { url: 'https://x', secret_files: [/w] } }
- { name: teams, teams: { url_file: /u } }
";
        let channels = read(text).expect("it is right");
        let slack = channels[0].slack.as_ref().expect("it is Slack");
        assert_eq!((slack.may, slack.api.as_str()), (MayDo::Decide, "https://slack.com/api"));
        assert_eq!(channels[0].about.effects, Some(vec![Effect::Schema, Effect::Privilege]));
        assert_eq!((channels[0].show, channels[1].show), (Show::Kind, Show::Statement));
        assert_eq!(channels[1].email.as_ref().map(|email| email.tls), Some(MailTls::Starttls));
        assert!(channels[3].teams.is_some() && channels[3].events.is_none());
    }

    #[test]
    fn a_key_that_is_none_is_named() {
        for (text, word) in [
            ("- { name: a, slak: {} }", "slak"),
            ("- { name: a, slack: { chanel: C1, token_file: /t } }", "chanel"),
            ("- { name: a, teams: {} }", "url_file"),
            ("- { name: a, for: { group: dba } }", "group"),
            ("- { name: a, show: all }", "statement"),
            ("- { name: a, email: { server: s, from: f, to: [t], tls: maybe } }", "starttls"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
