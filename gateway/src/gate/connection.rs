//! Whose operations pass a gate, what all gates share, and how a connection breaks.

use std::{io, sync::Arc};

use crate::{
    config::ReadDurability,
    credentials::Vault,
    hold::Desk,
    mask::Salt,
    net::{ClientAddr, OriginalDst, tls::Tls},
    operation::{ProtocolName, SessionId},
    policy::{Policies, Resource},
    record::Recorder,
    workload::{Process, Workload},
};

/// A guarded connection whose caller and destination are known.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The session: one connection, one recording.
    pub id: SessionId,
    /// Who.
    pub workload: Workload,
    /// The process that connected.
    pub process: Process,
    /// The client's own address.
    pub client: ClientAddr,
    /// Where it meant to go.
    pub destination: OriginalDst,
    /// What the resource calls that place; `None` where it names the address itself.
    pub host: Option<String>,
    /// The resource there; `None` where policy names none.
    pub resource: Option<Arc<Resource>>,
    /// Whether only an answer for a name, which the bot may have had from anybody, says that the resource is there: no
    /// secret goes there unless the backend proves who it is.
    pub learnt: bool,
    /// The protocol spoken.
    pub protocol: ProtocolName,
}

/// What every connection's gate shares.
#[derive(Clone)]
pub struct Services {
    /// Where everything is recorded.
    pub recorder: Recorder,
    /// Where people are asked.
    pub desk: Desk,
    /// What is allowed.
    pub policies: Arc<Policies>,
    /// The key of the node's masking hashes.
    pub salt: Salt,
    /// TLS, on both sides.
    pub tls: Tls,
    /// What the gateway logs in with in bots' place.
    pub vault: Vault,
    /// How durable a read must be before it is forwarded.
    pub durability: ReadDurability,
}

/// A stream broke, and whose it was.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The client's.
    #[error("the client's connection broke: {0}")]
    Client(io::Error),
    /// The backend's.
    #[error("the backend's connection broke: {0}")]
    Upstream(io::Error),
}
