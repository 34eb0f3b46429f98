//! TLS on both sides: the only place that shakes hands.
//!
//! Towards clients the gateway is whoever they ask for, by a leaf of its own [`Authority`]; towards the backend it
//! verifies as the resource's [`Settings`] say. Both take a connection's two halves and give them back private, so the
//! halves stay with whoever owns them.
//!
//! # Security
//! *Invariant:* what was read before a handshake is handed in and is part of it, or the connection ends: no byte that
//! came in clear is ever read as if it had come through TLS. (CVE-2021-23214, CVE-2021-23222.)

use std::{
    fmt::Display,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::BytesMut;
use rustls::{AlertDescription, CommonState, Error, crypto::CryptoProvider, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client::TlsStream};

use super::{ReadHalf, WriteHalf};

mod authority;
mod der;
mod files;
mod serve;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod verify;

pub use authority::{Authority, AuthorityFiles};
pub use files::{certificates, private_key, public_key};
pub use serve::Server;
pub use settings::{Client, Settings, Upstream};

use authority::{Leaf, Names};
use stream::Joined;

/// What every connection's TLS shares. A cheap handle.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    authority: Option<Arc<Authority>>,
    clients: verify::Clients,
}

/// What is known of a connection's TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secured {
    /// Version and cipher suite.
    pub suite: String,
    /// The name that the client asked for.
    pub name: Option<String>,
    /// The channel binding `tls-server-end-point`, where the server's certificate has one.
    pub end_point: Option<Vec<u8>>,
    /// Whether the other side's certificate was verified.
    pub verified: bool,
}

/// How a client comes to TLS.
#[derive(Debug)]
pub struct Hello {
    /// What was read of its handshake already.
    pub prefix: BytesMut,
    /// The protocol's word in ALPN.
    pub alpn: &'static [u8],
    /// Whether it must say that word: nothing else has told what it will speak.
    pub must_name_protocol: bool,
    /// Where it meant to go.
    pub address: IpAddr,
    /// What that is called, for clients that do not say.
    pub hosts: Vec<String>,
}

impl Tls {
    /// With `authority` towards clients; without one they are told that there is no TLS.
    pub fn new(authority: Option<Authority>) -> Self {
        Self(Arc::new(Shared { authority: authority.map(Arc::new), clients: verify::Clients::default() }))
    }

    /// Whether clients can have it.
    pub fn has_authority(&self) -> bool {
        self.0.authority.is_some()
    }

    /// What clients must trust, in PEM.
    pub fn bundle(&self) -> Option<String> {
        self.0.authority.as_ref().map(|authority| authority.bundle())
    }

    /// The server's side of a handshake.
    ///
    /// # Errors
    /// The client broke it off, or it is refused; both halves are gone then.
    pub async fn accept(
        &self,
        read: ReadHalf,
        write: WriteHalf,
        hello: Hello,
    ) -> Result<(ReadHalf, WriteHalf, Secured), HandshakeError> {
        let authority = self.0.authority.clone().ok_or(HandshakeError::NoAuthority)?;
        let joined = Joined::new(read, write, hello.prefix);
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), joined);
        let mut start = start.await.map_err(HandshakeError::of_client)?;
        let asked = start.client_hello();
        let name = asked.server_name().map(str::to_owned);
        let offers = asked.alpn().is_some_and(|mut offered| offered.any(|word| word == hello.alpn));
        if hello.must_name_protocol && !offers {
            let _ = start.io.write_all(&NO_APPLICATION_PROTOCOL).await;
            let _ = start.io.flush().await;
            return Err(HandshakeError::NoProtocol { name });
        }
        let names = match &name {
            Some(name) => Names { dns: vec![name.clone()], address: None, alpn: hello.alpn },
            None => Names { dns: hello.hosts, address: Some(hello.address), alpn: hello.alpn },
        };
        let leaf = leaf(authority, names).await?;
        let stream = start.into_stream(leaf.config.clone()).await.map_err(HandshakeError::of_client)?;
        let secured =
            Secured { suite: suite(stream.get_ref().1), name, end_point: leaf.end_point.clone(), verified: false };
        let (read, write) = split(stream);
        Ok((read, write, secured))
    }

    /// The client's side of a handshake, with a backend that is called `name`.
    ///
    /// # Errors
    /// A file cannot be read, or the backend is not who it should be; both halves are gone then.
    pub async fn connect(
        &self,
        read: ReadHalf,
        write: WriteHalf,
        settings: &Settings,
        alpn: &'static [u8],
        name: &str,
    ) -> Result<(ReadHalf, WriteHalf, Secured), HandshakeError> {
        let joined = Joined::new(read, write, BytesMut::new());
        let (stream, secured) = self.connect_stream(joined, settings, alpn, name).await?;
        let (read, write) = split(stream);
        Ok((read, write, secured))
    }

    /// The same over a whole stream: for whoever asks a backend something outside of any bot's connection.
    ///
    /// # Errors
    /// As [`Tls::connect`].
    pub async fn connect_stream<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        stream: S,
        settings: &Settings,
        alpn: &'static [u8],
        name: &str,
    ) -> Result<(TlsStream<S>, Secured), HandshakeError> {
        let config = self.0.clients.of(settings, alpn)?;
        let name = settings.name.as_deref().unwrap_or(name);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| HandshakeError::BadName(name.to_owned()))?;
        let connected = TlsConnector::from(config).connect(server, stream).await;
        let stream = connected.map_err(|error| HandshakeError::of_backend(error, name))?;
        let state = stream.get_ref().1;
        let certificate = state.peer_certificates().and_then(<[_]>::first);
        let secured = Secured {
            suite: suite(state),
            name: Some(name.to_owned()),
            end_point: certificate.and_then(|certificate| der::end_point(certificate)),
            verified: settings.upstream() == Upstream::VerifyFull,
        };
        Ok((stream, secured))
    }
}

/// Signing is not for the threads that move bytes: an operator's RSA key takes milliseconds.
async fn leaf(authority: Arc<Authority>, names: Names) -> Result<Arc<Leaf>, HandshakeError> {
    if let Some(leaf) = authority.cached(&names) {
        return Ok(leaf);
    }
    let signed = tokio::task::spawn_blocking(move || authority.leaf(&names)).await;
    Ok(signed.map_err(|error| HandshakeError::Broken(io::Error::other(error)))??)
}

fn split<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: S) -> (ReadHalf, WriteHalf) {
    let (read, write) = super::split(stream);
    (ReadHalf { private: true, ..read }, write)
}

fn suite(state: &CommonState) -> String {
    let version = state.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS");
    let suite = state.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown cipher");
    format!("{} {suite}", version.replace('_', "."))
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
}

/// Writes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let aside = path.with_extension("new");
    let _ = fs::remove_file(&aside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(aside, path)
}

/// What this machine can be wrong about: always the operator's files or the library.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("cannot {what} {path}: {why}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The library's own.
    #[error("TLS: {0}")]
    Library(Error),
}

impl TlsError {
    fn file(what: &'static str, path: &Path, why: &dyn Display) -> Self {
        Self::File { what, path: path.to_owned(), why: why.to_string() }
    }
}

/// Why there is no TLS on a connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The gateway has no authority.
    #[error("the client wants TLS, and this gateway has no authority to sign a certificate with")]
    NoAuthority,
    /// The client does not believe the gateway.
    #[error(
        "the client does not trust this gateway's certificate (it said: {0}); give it the bundle that `holdpoint trust` prints"
    )]
    Distrusted(&'static str),
    /// The client went away.
    #[error(
        "the client ended the TLS handshake without a word; if it does not trust this gateway, give it the bundle that `holdpoint trust` prints"
    )]
    Abandoned,
    /// What the client will speak inside TLS is unknown.
    #[error(
        "the client starts with TLS{} and does not say that it speaks the resource's protocol (ALPN); nothing is tunnelled unread",
        name.as_ref().map_or_else(String::new, |name| format!(" for {name:?}"))
    )]
    NoProtocol {
        /// The name that it asked for.
        name: Option<String>,
    },
    /// The client's handshake is none.
    #[error("the client's TLS handshake failed: {0}")]
    Client(Error),
    /// The backend is not who it should be.
    #[error("the backend's certificate is refused: {why}{hint}")]
    Refused {
        /// Why.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The backend's handshake is none, or it refuses the gateway.
    #[error("the TLS handshake with the backend failed: {0}")]
    Backend(Error),
    /// A name that no certificate can be for.
    #[error("{0:?} is no name for a certificate; say `tls: {{ name: … }}` in the resource")]
    BadName(String),
    /// A file.
    #[error(transparent)]
    Files(#[from] TlsError),
    /// The stream broke.
    #[error("the connection broke during the TLS handshake: {0}")]
    Broken(io::Error),
}

impl HandshakeError {
    fn of_client(error: io::Error) -> Self {
        match library(error) {
            Ok(Error::AlertReceived(alert)) => match distrust(alert) {
                Some(word) => Self::Distrusted(word),
                None => Self::Client(Error::AlertReceived(alert)),
            },
            Ok(error) => Self::Client(error),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Self::Abandoned,
            Err(error) => Self::Broken(error),
        }
    }

    fn of_backend(error: io::Error, name: &str) -> Self {
        use rustls::CertificateError as Wrong;
        let hint = |wrong: &Wrong| match wrong {
            Wrong::UnknownIssuer | Wrong::BadSignature => {
                "; name who signs it with `tls: { ca: FILE }` in the resource"
            }
            Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
                "; if that name is right, say `tls: { name: … }` in the resource"
            }
            Wrong::UnknownRevocationStatus => "; the file of `crl` has no list of one of its signers",
            _ => "",
        };
        match library(error) {
            Ok(Error::InvalidCertificate(wrong)) => {
                let hint = hint(&wrong);
                let why = match wrong {
                    Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => format!("it is not for {name:?}"),
                    Wrong::UnknownIssuer | Wrong::BadSignature => "nobody who signed it is trusted".to_owned(),
                    wrong => wrong.to_string(),
                };
                Self::Refused { why, hint }
            }
            Ok(error) => Self::Backend(error),
            Err(error) => Self::Broken(error),
        }
    }
}

/// The library's own error inside a stream's.
fn library(error: io::Error) -> Result<Error, io::Error> {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => Ok(inner.clone()),
        None => Err(error),
    }
}

/// The alerts of a client that does not believe a certificate. (RFC 8446, section 6.2.)
fn distrust(alert: AlertDescription) -> Option<&'static str> {
    match alert {
        AlertDescription::UnknownCA => Some("unknown_ca"),
        AlertDescription::BadCertificate => Some("bad_certificate"),
        AlertDescription::CertificateUnknown => Some("certificate_unknown"),
        // What the signature is checked with is another authority's of the same name.
        AlertDescription::DecryptError => Some("decrypt_error"),
        AlertDescription::UnsupportedCertificate => Some("unsupported_certificate"),
        _ => None,
    }
}

/// A fatal alert, `no_application_protocol`. (RFC 7301, section 3.2.)
const NO_APPLICATION_PROTOCOL: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 120];
