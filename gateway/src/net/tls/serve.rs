//! TLS for the gateway's own pages.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Tls, TlsError, authority::Names};

/// Shakes hands with browsers.
pub struct Server(Config);

enum Config {
    Brought(Arc<ServerConfig>),
    /// Signed by the gateway's own authority, anew before it is too old.
    Own(Tls, Names),
}

impl Server {
    /// With a certificate and a key from files in PEM.
    ///
    /// # Errors
    /// They cannot be read or used.
    pub fn brought(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| TlsError::file("read", certificate, &error))?;
        let der = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::file("read", key, &error))?;
        let mut config = ServerConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Library)?
            .with_no_client_auth()
            .with_single_cert(chain, der)
            .map_err(|error| TlsError::file("use", certificate, &error))?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        Ok(Self(Config::Brought(Arc::new(config))))
    }

    /// With a certificate for `host` of the gateway's own authority.
    pub fn own(tls: &Tls, host: &str) -> Self {
        Self(Config::Own(tls.clone(), Names { dns: vec![host.to_owned()], address: None, alpn: ALPN[1] }))
    }

    /// A handshake.
    ///
    /// # Errors
    /// The browser broke it off, or has no version or cipher in common.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = match &self.0 {
            Config::Brought(config) => config.clone(),
            Config::Own(tls, names) => {
                let authority = tls.0.authority.clone().ok_or_else(|| io::Error::other("there is no authority"))?;
                let leaf = super::leaf(authority, names.clone()).await.map_err(io::Error::other)?;
                leaf.config.clone()
            }
        };
        TlsAcceptor::from(config).accept(stream).await
    }
}

/// What browsers are offered.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
