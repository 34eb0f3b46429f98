//! What a provider says of somebody who signed in there, whichever language it speaks.

use std::time::SystemTime;

use super::{PersonId, Token};

/// Somebody who signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The provider's name here.
    pub provider: String,
    /// Its issuer or entity id.
    pub issuer: String,
    /// What it calls them for good.
    pub subject: String,
    /// What they are called here.
    pub name: String,
    /// Their e-mail address, where the provider has verified it.
    pub email: Option<String>,
    /// Their groups, by our names.
    pub groups: Vec<String>,
    /// Their session there.
    pub sid: Option<String>,
    /// When they last showed the provider who they are.
    pub auth_time: Option<SystemTime>,
    /// How sure the provider is of that.
    pub acr: Option<String>,
    /// By which means they showed it.
    pub amr: Vec<String>,
    /// Until when the provider's word is good.
    pub until: SystemTime,
    /// When the provider wants their session here to end at the latest, where it says so.
    pub ends: Option<SystemTime>,
    /// The provider's word itself, to be shown to it when they sign out; SAML has no such thing.
    pub id_token: Option<Token>,
}

impl Subject {
    /// Which human.
    pub fn id(&self) -> PersonId {
        PersonId::Provider { issuer: self.issuer.clone(), subject: self.subject.clone() }
    }
}
