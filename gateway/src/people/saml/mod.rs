//! Signing in with a provider of SAML 2.0, of which there may be several. The sibling of `oidc`.
//!
//! [`Providers::begin`] gives the address to which a browser is sent; [`Providers::answer`] reads what it posts when it
//! comes back, and [`Providers::finish`] says who signed in, to the browser that began. Nothing here keeps sessions or
//! serves a page.
//!
//! # Correctness
//! What is checked is data: one list for how an answer is put together ([`layout`]), one for its signatures
//! ([`signature`]), one for what it says of itself ([`answer`]), one for how an assertion is encrypted ([`encryption`]), one
//! for the assertion ([`assertion`]) and one for what it says of the person ([`profile`]). Tests leave each check out in
//! turn, and see what it refuses get through.
//!
//! # Security
//! *Invariant:* what is read is the very text that was verified, put into the canonical form and read anew
//! (`reading.rs`); nothing is looked up in the message by a name that stands in it. So a signature cannot be made to vouch
//! for another element than the one that is read, whatever is wrapped around it.
//!
//! Keys come from the settings, never from an answer. Only answers to a question of ours count, each once, and only in the
//! browser that began (`pending.rs`).

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use aws_lc_rs::{encoding::AsDer as _, rsa::KeyPair, signature::KeyPair as _};
use zeroize::Zeroizing;

use super::{Subject, Token, check, check::verify};
use crate::{
    config::SamlProvider,
    net::tls::{certificates, private_key, public_key},
};

mod answer;
mod assertion;
mod c14n;
mod descriptor;
mod encryption;
mod error;
mod form;
mod layout;
mod pending;
mod profile;
mod reading;
mod request;
mod signature;
mod xml;

#[cfg(test)]
mod tests;

use self::{
    assertion::Assertion,
    descriptor::Descriptor,
    pending::{Asked, Used, Waiting},
    profile::Profile,
    reading::{RULES, Reader, Rules},
    request::{Own, Request},
};
pub use error::{SamlError, Why};
pub use pending::PATIENCE;

/// One thing that must be so of some evidence.
type Check<E> = check::Check<E, Why>;

/// The providers, by name, and whoever is at one of them.
#[derive(Default)]
pub struct Providers {
    all: Vec<Arc<Provider>>,
    waiting: Waiting,
}

/// One provider.
pub struct Provider {
    settings: SamlProvider,
    /// What it calls itself: for good, since people are known by it.
    entity_id: String,
    /// What the gateway is called there.
    own_entity_id: String,
    /// Where answers arrive.
    acs: String,
    keys: Option<Keys>,
    used: Mutex<Used>,
}

/// The gateway's own key.
struct Keys {
    /// In DER.
    certificate: Vec<u8>,
    /// PKCS #8.
    private: Zeroizing<Vec<u8>>,
}

/// A sign-in that was begun.
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// What it keeps meanwhile.
    pub cookie: Token,
}

/// What was expected of an answer. Times are seconds since 1970.
#[derive(Debug, Clone)]
struct Expected {
    /// The provider.
    entity_id: String,
    acs: String,
    /// The gateway.
    audience: String,
    /// The request's `ID`.
    request: String,
    /// The kind of name.
    format: String,
    /// Since when people must have shown who they are.
    shown_since: Option<u64>,
    contexts: Vec<String>,
    encrypted: bool,
    now: u64,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
#[error("`people: saml:` {name}: {why}")]
pub struct SettingsError {
    /// The provider's name.
    pub name: String,
    /// What.
    pub why: String,
}

impl Providers {
    /// Those of the settings; `console` is what the console is called.
    ///
    /// # Errors
    /// One of them cannot be meant, or a file cannot be read.
    pub fn from_config(all: &[SamlProvider], console: &str) -> Result<Self, SettingsError> {
        let each = all.iter().map(|one| {
            let named = |why| SettingsError { name: one.name.clone(), why };
            Provider::new(one.clone(), console).map(Arc::new).map_err(named)
        });
        let own = Self { all: each.collect::<Result<_, _>>()?, waiting: Waiting::default() };
        for (at, one) in own.all.iter().enumerate() {
            one.differs(own.all[..at].iter().map(|other| (other.name(), other.entity_id())))?;
        }
        Ok(own)
    }

    /// Checks that none of these providers of another kind (name, issuer) could be taken for one of them.
    ///
    /// # Errors
    /// One could.
    pub fn beside(&self, others: &[(&str, &str)]) -> Result<(), SettingsError> {
        self.all.iter().try_for_each(|one| one.differs(others.iter().copied()))
    }

    /// The one of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Provider>> {
        self.all.iter().find(|provider| provider.name() == name)
    }

    /// All, in the order of the settings.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.all.iter()
    }

    /// Begins a sign-in.
    ///
    /// # Errors
    /// A file that the settings name cannot be used any more.
    pub fn begin(&self, provider: &Provider) -> Result<Begun, SamlError> {
        provider.named(self.try_begin(provider))
    }

    /// Reads what a browser brings back: the form that the provider made it post. Whoever comes with the cookie of the one
    /// that began is then signed in by [`Self::finish`].
    ///
    /// # Errors
    /// Whatever of it does not count.
    pub fn answer(&self, provider: &Provider, form: &[u8]) -> Result<(), SamlError> {
        provider.named(self.try_answer(provider, form))
    }

    /// Who came back to the browser with this cookie, once.
    pub fn finish(&self, provider: &Provider, cookie: &str) -> Option<Subject> {
        self.waiting.fetch(cookie).filter(|subject| subject.provider == provider.name())
    }

    fn try_begin(&self, provider: &Provider) -> Result<Begun, Why> {
        let there = provider.descriptor()?;
        let settings = &provider.settings;
        // A name in XML must not begin with a digit.
        let (id, cookie) = (format!("_{}", Token::random().reveal()), Token::random());
        let request = Request {
            id: &id,
            issued: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            to: &there.sso_url,
            issuer: &provider.own_entity_id,
            acs: &provider.acs,
            format: settings.name_id,
            contexts: &settings.require.context,
            force_authn: settings.force_authn,
        };
        let relay = self.waiting.keep(Asked::new(provider.name(), id.clone(), now(), &cookie));
        let key = provider.keys.as_ref().filter(|_| settings.sign_requests).and_then(Keys::pair);
        let url = request.url(relay.reveal(), key.as_ref());
        let url = url.ok_or_else(|| Why::Settings("the request cannot be written or signed".to_owned()))?;
        Ok(Begun { url, cookie })
    }

    fn try_answer(&self, provider: &Provider, form: &[u8]) -> Result<(), Why> {
        let [said, relay] = form::read(form, ["SAMLResponse", "RelayState"])?;
        let said = said.ok_or_else(|| Why::Malformed("the form has no `SAMLResponse`".to_owned()))?;
        // Used up, whatever it is: who guesses has one try.
        let asked = relay.and_then(|relay| self.waiting.take(&relay)).ok_or(Why::NotAsked)?;
        if asked.provider != provider.name() {
            return Err(Why::OtherProvider);
        }
        let text = String::from_utf8(signature::decoded(&said)?)
            .map_err(|_| Why::Malformed("it is no text in UTF-8".to_owned()))?;
        let cookie = asked.cookie;
        let subject = provider.read(RULES, &text, provider.expected(&asked.request, asked.begun))?;
        self.waiting.arrive(cookie, subject);
        Ok(())
    }
}

impl Provider {
    fn new(settings: SamlProvider, console: &str) -> Result<Self, String> {
        let name = &settings.name;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) || name.starts_with('.') {
            return Err("its name may have letters, digits, `.`, `_` and `-`, at most 64 of them".to_owned());
        }
        let there = Descriptor::of(&settings)?;
        let at = |path: String| format!("{}{path}", console.trim_end_matches('/'));
        let own_entity_id = settings.own_entity_id.clone().unwrap_or_else(|| at(metadata_path(name)));
        let keys = match (&settings.certificate, &settings.key) {
            (Some(certificate), Some(key)) => Some(Keys::read(certificate, key)?),
            (None, None) => None,
            _ => return Err("`certificate` and `key` belong together; one of them is missing".to_owned()),
        };
        if keys.is_none() && (settings.sign_requests || settings.require.encrypted) {
            return Err("`sign_requests` and `require: { encrypted: true }` need `certificate` and `key`".to_owned());
        }
        let (acs, entity_id) = (at(acs_path(name)), there.entity_id);
        Ok(Self { acs, entity_id, own_entity_id, keys, settings, used: Mutex::default() })
    }

    /// Its name here.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What it calls itself.
    pub fn entity_id(&self) -> &str {
        &self.entity_id
    }

    /// What the gateway says of itself, for whoever registers it there.
    pub fn metadata(&self) -> String {
        let own = Own {
            entity_id: &self.own_entity_id,
            acs: &self.acs,
            format: self.settings.name_id,
            certificate: self.keys.as_ref().map(|keys| keys.certificate.as_slice()),
            signs: self.settings.sign_requests,
        };
        own.metadata()
    }

    fn differs<'a>(&self, mut others: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), SettingsError> {
        let same = others.find(|(name, issuer)| *name == self.name() || *issuer == self.entity_id);
        let why = match same {
            None => return Ok(()),
            Some((name, _)) if name == self.name() => "there are two of that name",
            // By one it may call people otherwise than by another: one human could count twice.
            Some(_) => "another one has the same issuer or entity id; one of them is enough",
        };
        Err(SettingsError { name: self.name().to_owned(), why: why.to_owned() })
    }

    /// Who it is, as the files say now.
    fn descriptor(&self) -> Result<Descriptor, Why> {
        let there = Descriptor::of(&self.settings).map_err(Why::Settings)?;
        if there.entity_id != self.entity_id {
            let why = "its metadata names another entity id than when the gateway started; restart it if that is meant";
            return Err(Why::Settings(why.to_owned()));
        }
        Ok(there)
    }

    fn expected(&self, request: &str, begun: u64) -> Expected {
        let SamlProvider { require, name_id, force_authn, .. } = &self.settings;
        Expected {
            entity_id: self.entity_id.clone(),
            acs: self.acs.clone(),
            audience: self.own_entity_id.clone(),
            request: request.to_owned(),
            format: request::uri_of(*name_id).to_owned(),
            shown_since: force_authn.then_some(begun),
            contexts: require.context.clone(),
            encrypted: require.encrypted,
            now: now(),
        }
    }

    fn read(&self, rules: Rules<'_>, text: &str, expected: Expected) -> Result<Subject, Why> {
        let there = self.descriptor()?;
        let now = expected.now;
        let mut used = self.used.lock().expect("nothing panics while it holds this lock");
        let own = self.keys.as_ref().map(|keys| keys.private.as_slice());
        let said = Reader { rules, keys: &there.keys, own, used: &used, expected }.read(text)?;
        let until = said.until().saturating_add(2 * check::LEEWAY);
        let id = said.id.clone();
        let subject = self.subject(rules, said)?;
        used.add(id, until, now);
        Ok(subject)
    }

    /// Who the assertion is of.
    fn subject(&self, rules: Rules<'_>, said: Assertion) -> Result<Subject, Why> {
        let SamlProvider { claims, groups, require, name_id, .. } = &self.settings;
        let until = said.until();
        let statement = said.statements.into_iter().next().ok_or(Why::Statement)?;
        let profile = Profile {
            name_id: said.name_id.ok_or(Why::Nobody)?.0,
            format: *name_id,
            attributes: said.attributes,
            names: claims.clone(),
            groups: groups.clone(),
            domains: require.email_domain.clone(),
        };
        verify(rules.profile, &profile)?;
        let time = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        Ok(Subject {
            provider: self.name().to_owned(),
            issuer: self.entity_id.clone(),
            name: profile.name().unwrap_or(&profile.name_id).to_owned(),
            email: profile.email().map(str::to_owned),
            groups: profile.groups().into_iter().collect(),
            subject: profile.name_id,
            sid: statement.session,
            auth_time: time(statement.instant),
            acr: statement.context,
            amr: Vec::new(),
            until: time(until).ok_or(Why::Expired)?,
            ends: statement.session_ends.and_then(time),
            id_token: None,
        })
    }

    fn named<T>(&self, done: Result<T, Why>) -> Result<T, SamlError> {
        done.map_err(|why| SamlError { provider: self.name().to_owned(), why })
    }
}

impl Keys {
    fn read(certificate: &std::path::Path, key: &std::path::Path) -> Result<Self, String> {
        let wrong = |why: &str| format!("`certificate: {}` and `key: {}`: {why}", certificate.display(), key.display());
        let all = certificates(certificate).map_err(|error| error.to_string())?;
        let own = Self {
            certificate: all.into_iter().next().unwrap_or_default(),
            private: private_key(key).map_err(|error| error.to_string())?,
        };
        let pair = own.pair().ok_or_else(|| wrong("expected an RSA key of 2048 bits or more"))?;
        let public = pair.public_key().as_der().map_err(|_| wrong("the key has no public half"))?;
        if public_key(&own.certificate) != Some(public.as_ref()) {
            return Err(wrong("the certificate is of another key"));
        }
        Ok(own)
    }

    fn pair(&self) -> Option<KeyPair> {
        KeyPair::from_pkcs8(&self.private).ok()
    }
}

/// Whether these bytes can be read as an answer, whether it counts or not: for fuzzing.
pub fn decodes(bytes: &[u8]) -> bool {
    let rules = Rules { layout: &[], signature: &[], answer: &[], sealed: &[], assertion: &[], profile: &[] };
    let empty = String::new;
    let expected = Expected {
        entity_id: empty(),
        acs: empty(),
        audience: empty(),
        request: empty(),
        format: empty(),
        shown_since: None,
        contexts: Vec::new(),
        encrypted: false,
        now: 0,
    };
    let reader = Reader { rules, keys: &[], own: None, used: &Used::default(), expected };
    std::str::from_utf8(bytes).is_ok_and(|text| reader.read(text).is_ok())
}

/// Where a provider's answers arrive at the console.
fn acs_path(name: &str) -> String {
    format!("/signin/saml/{name}/acs")
}

/// Where the console says what the gateway is called at a provider.
fn metadata_path(name: &str) -> String {
    format!("/signin/saml/{name}/metadata")
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
