//! Everybody who may have a say, by every way in which they come.

use std::{collections::BTreeMap, path::Path};

use nix::unistd::{Uid, User};
use tokio::sync::Semaphore;

use super::{
    AccountError, Accounts, Buckets, Ceremonies, Directory, Once, Person, PersonId, ProgramError, Programs, Purpose,
    Role, Session, Sessions, Subject, Token, oidc, saml,
};
use crate::{
    config::{Console, RoleName, Vouchers},
    passkey::{self, Assertion, Expected, PasskeyError},
};

/// Everybody who may have a say.
pub struct People {
    directory: Directory,
    /// Whom the gateway itself knows.
    pub accounts: Accounts,
    /// Which programs may ask.
    pub programs: Programs,
    /// Who is signed in.
    pub sessions: Sessions,
    /// What passkeys were asked.
    pub ceremonies: Ceremonies,
    /// Who tries to sign in too often.
    pub attempts: Buckets,
    /// Who vouches for people.
    pub providers: oidc::Providers,
    /// Who vouches for people by SAML.
    pub saml: saml::Providers,
    /// Whoever is at a provider to sign in.
    pub away: oidc::Waiting,
    /// Sign-ins on terminals that were begun, each with its provider's name.
    pub devices: Once<(String, oidc::Device)>,
    /// How many of those may be waited for at once.
    pub terminals: Semaphore,
    roles: BTreeMap<Role, Vec<String>>,
    /// What the console is called; `None` where there is none.
    pub origin: Option<Origin>,
}

/// What the console is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whole: `https://holdpoint.example:8443`.
    pub url: String,
    /// Its host, for which passkeys sign.
    pub host: String,
    /// Host and port as browsers send them in `Host`.
    pub authority: String,
    /// Whether it is https.
    pub tls: bool,
}

/// Why nobody can be known.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Accounts.
    #[error(transparent)]
    Accounts(#[from] AccountError),
    /// Programs.
    #[error(transparent)]
    Programs(#[from] ProgramError),
    /// Providers.
    #[error(transparent)]
    Providers(#[from] oidc::SettingsError),
    /// Providers that speak SAML.
    #[error(transparent)]
    Saml(#[from] saml::SettingsError),
}

/// Why somebody is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The passkey's word does not count.
    #[error(transparent)]
    Passkey(#[from] PasskeyError),
    /// Nobody asked that.
    #[error("this question was not asked here, or more than five minutes ago; load the page again")]
    NotAsked,
    /// A passkey that nobody here has.
    #[error("this passkey belongs to nobody here; ask an administrator for a link to enrol it")]
    Stranger,
    /// Their account is gone or disabled.
    #[error("this account may not sign in; an administrator can say why")]
    Barred,
    /// Accounts.
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl Origin {
    /// Reads what the settings say.
    ///
    /// # Errors
    /// In words: it is none, or browsers would not take it for private.
    pub fn read(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("`{url}` cannot be the console's `url`: {why}"));
        let (tls, authority) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(authority), _) => (true, authority.trim_end_matches('/')),
            (_, Some(authority)) => (false, authority.trim_end_matches('/')),
            _ => return wrong("it must begin with https:// (or be http://localhost:PORT)"),
        };
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_ascii_lowercase();
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host) {
            return wrong("it must have a host's name and nothing behind it");
        }
        if host.parse::<std::net::IpAddr>().is_ok() {
            return wrong("passkeys belong to a host's name, and this is an address");
        }
        if !tls && host != "localhost" {
            return wrong("without TLS browsers give passkeys to `localhost` only; use https://");
        }
        let authority = authority.to_ascii_lowercase();
        let scheme = if tls { "https" } else { "http" };
        let shown = authority.trim_end_matches(if tls { ":443" } else { ":80" });
        Ok(Self { url: format!("{scheme}://{shown}"), host, authority: shown.to_owned(), tls })
    }
}

impl People {
    /// Those of `directory`, and of the accounts and programs that are kept in the directory `state`.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn open(
        directory: Directory,
        state: &Path,
        vouchers: &Vouchers,
        console: Option<(&Console, Origin)>,
    ) -> Result<Self, OpenError> {
        let url = console.as_ref().map_or("", |(_, origin)| origin.url.as_str());
        let (mut providers, mut saml) = Default::default();
        if !url.is_empty() {
            providers = oidc::Providers::from_config(&vouchers.oidc, url)?;
            saml = saml::Providers::from_config(&vouchers.saml, url)?;
        }
        let others: Vec<_> = providers.iter().map(|provider| (provider.name(), provider.issuer())).collect();
        saml.beside(&others)?;
        let (idle, absolute) =
            console.as_ref().map(|(console, _)| (console.idle, console.absolute)).unwrap_or_default();
        Ok(Self {
            directory,
            accounts: Accounts::open(&state.join("people.json"))?,
            programs: Programs::open(&state.join("tokens.json"))?,
            sessions: Sessions::new(idle, absolute),
            ceremonies: Ceremonies::default(),
            attempts: Buckets::default(),
            providers,
            saml,
            away: oidc::Waiting::default(),
            devices: Once::default(),
            terminals: Semaphore::new(TERMINALS),
            roles: vouchers.roles.iter().map(|(role, groups)| (role_of(*role), groups.clone())).collect(),
            origin: console.map(|(_, origin)| origin),
        })
    }

    /// The person with this user id on this machine: the account that says so, else the user.
    pub fn of_machine(&self, uid: u32) -> Person {
        let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        let machine = self.directory.person(uid);
        let Some(mut person) = name.and_then(|name| self.accounts.of_user(&name)) else {
            return self.with_roles(machine);
        };
        person.groups.extend(machine.groups);
        person.roles.extend(machine.roles);
        self.with_roles(person)
    }

    /// The person with this e-mail address, for which somebody else vouches.
    pub fn of_email(&self, email: &str) -> Option<Person> {
        self.accounts.of_email(email).map(|person| self.with_extra_groups(person))
    }

    /// The session of a cookie's value, with the person as they are now.
    pub fn session(&self, cookie: &str) -> Option<Session> {
        let session = self.sessions.find(cookie)?;
        let person = match &session.person.id {
            PersonId::Local(name) => self.accounts.person(name).map(|mut person| {
                // What a provider said at sign-in of somebody who has an account as well.
                let said = session.person.groups.iter().filter(|_| session.vouched);
                let more: Vec<_> = said.filter(|group| !person.groups.contains(group)).cloned().collect();
                person.groups.extend(more);
                person
            }),
            _ => Some(session.person.clone()),
        };
        match person {
            Some(person) => Some(Session { person: self.with_roles(self.with_extra_groups(person)), ..session }),
            None => {
                self.sessions.end(cookie);
                None
            }
        }
    }

    /// Signs somebody in by what their passkey signed.
    ///
    /// # Errors
    /// It does not count.
    pub fn sign_in(&self, key: &[u8], assertion: &Assertion<'_>) -> Result<(Token, Person), SignInError> {
        let challenge = passkey::challenge(assertion.client)?;
        match self.ceremonies.take(&challenge_token(&challenge)) {
            Some(Purpose::SignIn) => {}
            _ => return Err(SignInError::NotAsked),
        }
        let passkey = self.accounts.passkey(key).ok_or(SignInError::Stranger)?;
        passkey::verify(&passkey.public, assertion, &self.expected(&challenge)?)?;
        let name = passkey.person.strip_prefix("local:").ok_or(SignInError::Barred)?;
        let person = self.accounts.person(name).ok_or(SignInError::Barred)?;
        Ok((self.sessions.begin(person.clone()), person))
    }

    /// Enrols a passkey by an administrator's link, and signs its owner in; gives the passkey's two halves of a name too.
    ///
    /// # Errors
    /// It does not count, or the link is good no more.
    pub fn enrol(
        &self,
        link: &str,
        attestation: &[u8],
        client: &[u8],
    ) -> Result<(Token, Person, passkey::Registered), SignInError> {
        let challenge = passkey::challenge(client)?;
        match self.ceremonies.take(&challenge_token(&challenge)) {
            Some(Purpose::Enrol(of)) if of == link => {}
            _ => return Err(SignInError::NotAsked),
        }
        let registered = passkey::register(attestation, client, &self.expected(&challenge)?)?;
        let person = self.accounts.enrol(link, registered.key.clone(), registered.public.clone())?;
        Ok((self.sessions.begin(person.clone()), person, registered))
    }

    /// Signs somebody in for whom a provider vouches: as the account that has their address, if there is one.
    pub fn vouched(&self, subject: Subject) -> (Token, Person) {
        let account = subject.email.as_deref().and_then(|email| self.accounts.of_email(email));
        let mut person = account.unwrap_or_else(|| Person {
            id: subject.id(),
            name: subject.name.clone(),
            also: subject.email.iter().cloned().collect(),
            uid: None,
            email: subject.email.clone(),
            groups: Vec::new(),
            roles: [Role::Approver].into(),
        });
        person.groups.extend(subject.groups.iter().cloned());
        (self.sessions.begin_with(person.clone(), Some(subject)), person)
    }

    /// With what their groups may use.
    fn with_roles(&self, mut person: Person) -> Person {
        let theirs = |groups: &Vec<String>| groups.iter().any(|group| person.groups.contains(group));
        let given: Vec<_> = self.roles.iter().filter(|(_, groups)| theirs(groups)).map(|(role, _)| *role).collect();
        person.roles.extend(given);
        person
    }

    /// What must be so for a passkey's word to count here.
    ///
    /// # Errors
    /// There is no console.
    pub fn expected<'a>(&'a self, challenge: &'a [u8]) -> Result<Expected<'a>, SignInError> {
        let origin = self.origin.as_ref().ok_or(SignInError::NotAsked)?;
        Ok(Expected { party: &origin.host, origin: Some(&origin.url), challenge })
    }

    fn with_extra_groups(&self, mut person: Person) -> Person {
        if let Some(user) = person.uid {
            person.groups.extend(self.directory.person(user).groups);
        }
        person
    }
}

fn role_of(name: RoleName) -> Role {
    match name {
        RoleName::Viewer => Role::Viewer,
        RoleName::Approver => Role::Approver,
        RoleName::Auditor => Role::Auditor,
        RoleName::Admin => Role::Admin,
    }
}

/// The question that a challenge is.
fn challenge_token(challenge: &[u8]) -> Token {
    Token::returned(std::str::from_utf8(challenge).unwrap_or_default())
}

/// People who sign in on terminals at once: each keeps a thread waiting.
const TERMINALS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_browsers_take_for_private() {
        let read = |url| Origin::read(url).map(|origin| (origin.url, origin.host, origin.authority));
        let whole =
            |url: &str, host: &str, authority: &str| Ok((url.to_owned(), host.to_owned(), authority.to_owned()));
        assert_eq!(read("https://Desk.example/"), whole("https://desk.example", "desk.example", "desk.example"));
        assert_eq!(read("https://a.example:8443"), whole("https://a.example:8443", "a.example", "a.example:8443"));
        assert_eq!(read("https://a.example:443"), whole("https://a.example", "a.example", "a.example"));
        assert_eq!(read("http://localhost:9000"), whole("http://localhost:9000", "localhost", "localhost:9000"));
        for wrong in
            ["desk.example", "http://desk.example", "https://127.0.0.1:8443", "https://", "https://a b", "https://a/b"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
