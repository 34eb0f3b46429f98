//! E-mail over SMTP, in plain text and HTML; a request is one thread.
//!
//! # Security
//! Without TLS only the loopback is spoken to, and a server that should have STARTTLS and has not gets nothing. Headers
//! are made by a library that encodes them, from text without a line break; the HTML names nothing that would be fetched.

use std::{fmt::Write as _, path::Path, time::Duration};

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, MultiPart, header},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
        extension::ClientId,
    },
};

use super::{
    Failed,
    card::{Card, Look},
    event::{Event, What},
    secret::Secret,
};
use crate::{
    config::{self, MailTls},
    net::http::is_loopback,
    visible::visible_start,
};

/// Some mailboxes.
pub(super) struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    look: Look,
}

impl Mail {
    /// # Errors
    /// What is wrong with the settings.
    pub(super) fn new(settings: &config::Email, look: Look) -> Result<Self, String> {
        let config::Email { server, tls, ca, user, password_file, from, to } = settings;
        let (host, port) = place(server, *tls)?;
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&host)
            .port(port)
            .timeout(Some(LIMIT))
            .hello_name(hello(&look.node))
            .tls(match tls {
                MailTls::Starttls => Tls::Required(parameters(&host, ca.as_deref())?),
                MailTls::Implicit => Tls::Wrapper(parameters(&host, ca.as_deref())?),
                MailTls::None if is_loopback(&host) => Tls::None,
                MailTls::None => return Err("has `tls: none`, which only a server on the loopback may have".to_owned()),
            });
        match (user, password_file) {
            (Some(user), Some(file)) => {
                transport = transport.credentials(Credentials::new(user.clone(), Secret::read(file)?.to_string()));
            }
            (None, None) => {}
            _ => return Err("needs `user:` and `password_file:` together, or neither".to_owned()),
        }
        if to.is_empty() {
            return Err("needs somebody in `to:`".to_owned());
        }
        let to = to.iter().map(|address| mailbox("to", address)).collect::<Result<_, _>>()?;
        Ok(Self { transport: transport.build(), from: mailbox("from", from)?, to, look })
    }

    /// Tells an event.
    pub(super) async fn tell(&self, event: &Event) -> Result<(), Failed> {
        let card = Card::of(&event.now, event.what, &self.look);
        self.send(&self.message(event, &card)?).await.map(drop)
    }

    /// Sends a message that says nothing.
    pub(super) async fn test(&self, id: &str) -> Result<String, Failed> {
        let text = format!("A test of this channel by node {}: nothing waits for you.\n", self.look.node);
        let message = self.head("A test of this channel", &self.name(id)).body(text);
        self.send(&message.map_err(unsendable)?).await
    }

    fn message(&self, event: &Event, card: &Card) -> Result<Message, Failed> {
        // The same for every message of the thread, as mail programs want it.
        let subject = format!("{}: {}", event.now.requested.request.short(), card.summary);
        let first = self.name(&event.now.requested.request.to_string());
        let message = match event.what {
            What::Opened => self.head(&subject, &first),
            _ => {
                self.head(&format!("Re: {subject}"), &self.name(&event.id)).in_reply_to(first.clone()).references(first)
            }
        };
        message.multipart(MultiPart::alternative_plain_html(plain(card), html(card))).map_err(unsendable)
    }

    fn head(&self, subject: &str, id: &str) -> lettre::message::MessageBuilder {
        let automatic = header::HeaderName::new_from_ascii_str("Auto-Submitted");
        let message = Message::builder()
            .from(self.from.clone())
            .subject(format!("[Holdpoint] {subject}"))
            .message_id(Some(id.to_owned()))
            .raw_header(header::HeaderValue::new(automatic, "auto-generated".to_owned()))
            .date_now();
        self.to.iter().cloned().fold(message, lettre::message::MessageBuilder::to)
    }

    /// A message's name in the sender's domain.
    fn name(&self, id: &str) -> String {
        format!("<{id}.holdpoint@{}>", self.from.email.domain())
    }

    async fn send(&self, message: &Message) -> Result<String, Failed> {
        match self.transport.send(message.clone()).await {
            Ok(answer) => {
                let said = answer.message().collect::<Vec<_>>().join(" ");
                Ok(format!("it answers {}: {}", answer.code(), visible_start(said.as_bytes(), WORDS)))
            }
            Err(error) => {
                let why = visible_start(words(&error).as_bytes(), WORDS);
                Err(if error.is_permanent() { Failed::Refused { why } } else { Failed::Later { why, after: None } })
            }
        }
    }
}

/// An error with those below it.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(below) = source {
        if !words.contains(&below.to_string()) {
            let _ = write!(words, ": {below}");
        }
        source = below.source();
    }
    words
}

fn unsendable(error: lettre::error::Error) -> Failed {
    Failed::Refused { why: format!("the message cannot be made: {error}") }
}

fn place(server: &str, tls: MailTls) -> Result<(String, u16), String> {
    let usual = match tls {
        MailTls::Starttls => 587,
        MailTls::Implicit => 465,
        MailTls::None => 25,
    };
    let wrong = || format!("`server: {server}` is no server; expected one such as smtp.example.com:587");
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !host.is_empty() => (host, port.parse().map_err(|_| wrong())?),
        _ => (server, usual),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(fits) {
        return Err(wrong());
    }
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

fn parameters(host: &str, ca: Option<&Path>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(ca) = ca {
        let pem = std::fs::read(ca).map_err(|error| format!("`ca: {}` cannot be read: {error}", ca.display()))?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|_| format!("`ca: {}` has no certificate", ca.display()))?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| format!("has no TLS: {}", words(&error)))
}

fn mailbox(key: &str, address: &str) -> Result<Mailbox, String> {
    let wrong = |why: &dyn std::fmt::Display| {
        format!("`{key}: {address}` is no address ({why}); expected one such as Name <user@example.com>")
    };
    let mailbox: Mailbox = address.parse().map_err(|error: lettre::address::AddressError| wrong(&error))?;
    match address.contains(char::is_control) {
        true => Err(wrong(&"it has control characters")),
        false => Ok(mailbox),
    }
}

/// As whom the gateway greets: its node's name, where that can be a host's.
fn hello(node: &str) -> ClientId {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    match !node.is_empty() && node.bytes().all(fits) {
        true => ClientId::Domain(node.to_owned()),
        false => ClientId::default(),
    }
}

fn plain(card: &Card) -> String {
    let mut out = format!("{}\n\n{}\n\n", card.headline, card.summary);
    for (name, value) in &card.facts {
        let _ = writeln!(out, "{:<13}{value}", format!("{name}:"));
    }
    if let Some(statement) = &card.statement {
        out.push_str("\nThe bot's words:\n");
        statement.text.lines().for_each(|line| out.extend(["  | ", line, "\n"]));
        out.extend(card.rest().map(|rest| format!("({rest})\n")));
    }
    out.extend(card.cautions.iter().map(|caution| format!("\nTake care: it {caution}.\n")));
    let place = card.link.as_ref().unwrap_or(&card.command);
    let _ = writeln!(out, "\nLook at it and decide: {place}");
    out
}

fn html(card: &Card) -> String {
    let mut out = String::from("<!doctype html><html><body style=\"font-family:sans-serif\">");
    let _ = write!(out, "<h2>{}</h2><p>{}</p><table>", escaped(&card.headline), escaped(&card.summary));
    for (name, value) in &card.facts {
        let _ = write!(
            out,
            "<tr><th style=\"text-align:left;vertical-align:top;padding-right:1em\">{name}</th><td>{}</td></tr>",
            escaped(value)
        );
    }
    out.push_str("</table>");
    if let Some(statement) = &card.statement {
        let _ = write!(
            out,
            "<p><b>The bot&#39;s words:</b></p><pre style=\"background:#eee;padding:1em;white-space:pre-wrap\">{}</pre>",
            escaped(&statement.text)
        );
        out.extend(card.rest().map(|rest| format!("<p>({})</p>", escaped(&rest))));
    }
    for caution in &card.cautions {
        let _ = write!(out, "<p><b>Take care:</b> it {}.</p>", escaped(caution));
    }
    let _ = match &card.link {
        Some(link) => write!(out, "<p><a href=\"{0}\">Look at it and decide</a></p>", escaped(link)),
        None => write!(out, "<p><code>{}</code></p>", escaped(&card.command)),
    };
    out + "</body></html>"
}

/// As text of HTML, in attributes too.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// How long a server may take over each of its answers.
const LIMIT: Duration = Duration::from_secs(20);

/// Of a statement, characters.
pub(super) const LONGEST: usize = 4_000;

/// The longest that a server's words are repeated, in characters.
const WORDS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channels::{card::tests::look, event::tests::opened},
        config::Show,
    };

    fn settings(server: &str, tls: MailTls) -> config::Email {
        config::Email {
            server: server.to_owned(),
            tls,
            ca: None,
            user: None,
            password_file: None,
            from: "Holdpoint <holdpoint@a.example>".to_owned(),
            to: vec!["dba@b.example".to_owned()],
        }
    }

    #[test]
    fn only_the_loopback_gets_mail_in_clear() {
        let new = |server, tls| Mail::new(&settings(server, tls), look(Show::Statement)).map(drop);
        assert_eq!(new("127.0.0.1:25", MailTls::None), Ok(()));
        assert_eq!(new("[::1]:25", MailTls::None), Ok(()));
        for (server, tls, word) in [
            ("smtp.example", MailTls::None, "loopback"),
            ("smtp.example:x", MailTls::Starttls, "smtp.example.com:587"),
            ("", MailTls::Implicit, "smtp.example.com:587"),
        ] {
            let error = new(server, tls).expect_err(server);
            assert!(error.contains(word), "{error}");
        }
        for (from, to, word) in [("nobody", "a@b.example", "from"), ("a@b.example", "x\r\nBcc: y@z.example", "to")] {
            let settings = config::Email {
                from: from.to_owned(),
                to: vec![to.to_owned()],
                ..settings("localhost", MailTls::None)
            };
            let error = Mail::new(&settings, look(Show::Statement)).map(drop).expect_err(from);
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_hostile_request_is_one_harmless_mail_and_its_end_answers_it() {
        let mut event =
            opened(b"SELECT '<img src=http://evil.example/x><script>' -- \r\nBcc: victim@c.example\r\n.\r\n");
        event.now.requested.resource = "shop\nX-Evil: yes".to_owned();
        event.then = event.now.clone();
        let mail = Mail::new(&settings("localhost", MailTls::None), look(Show::Statement)).expect("it is right");
        let formatted = |event: &Event| {
            let message =
                mail.message(event, &Card::of(&event.now, event.what, &mail.look)).map_err(|_| ()).expect("made");
            String::from_utf8(message.formatted()).expect("ASCII")
        };
        let text = formatted(&event);
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let names: Vec<_> = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t'])).collect();
        for name in ["bcc", "x-evil"] {
            assert!(!names.iter().any(|line| line.to_ascii_lowercase().starts_with(name)), "{head}");
        }
        assert!(names.contains(&"Auto-Submitted: auto-generated"), "{head}");
        let id = "<33333333-3333-3333-3333-333333333333.holdpoint@a.example>";
        assert!(head.contains(&format!("Message-ID: {id}")), "{head}");
        let (plain, html) = body.split_once("Content-Type: text/html").expect("both parts");
        assert!(plain.contains("  | Bcc: victim"), "every line of a bot's is marked as one: {plain}");
        assert!(html.contains("&lt;img") && !html.contains("<img") && !html.contains("<script"), "{html}");
        assert_eq!(
            mail.message(&event, &Card::of(&event.now, event.what, &mail.look))
                .map_err(|_| ())
                .expect("made")
                .envelope()
                .to()
                .len(),
            1,
            "nobody else gets it"
        );
        event.what = What::Expired;
        let reply = formatted(&event);
        assert!(
            reply.contains(&format!("In-Reply-To: {id}")) && reply.contains(&format!("References: {id}")),
            "{reply}"
        );
        assert!(reply.contains("Message-ID: <node-7.holdpoint@a.example>"), "{reply}");
    }
}
