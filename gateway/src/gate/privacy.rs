//! TLS on a connection's two sides: the gate has the write halves, so the gate exchanges them for private ones.

use bytes::{Bytes, BytesMut};

use super::{Broken, Gate, RecordError};
use crate::{
    net::{
        ReadHalf, WriteHalf,
        tls::{Client, HandshakeError, Hello, Secured, Settings},
    },
    record::entry::Body,
};

/// Why a side of a connection is not private. That side's stream is gone.
#[derive(Debug, thiserror::Error)]
pub enum Insecure {
    /// No handshake.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// What was said before it did not get through.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// It cannot be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Gate {
    /// What the resource says about TLS.
    pub fn tls(&self) -> &Settings {
        &self.tls
    }

    /// Whether a client that asks for TLS gets it.
    pub fn offers_tls(&self) -> bool {
        self.tls.client != Client::Off && self.services.tls.has_authority()
    }

    /// Shakes hands with the client, as the server that it asks for. `prefix` is what was read of its handshake already;
    /// `must_name_protocol`, whether the handshake must say what is spoken inside.
    ///
    /// # Errors
    /// There is no TLS: the connection must be closed.
    pub async fn secure_client(
        &mut self,
        read: ReadHalf,
        prefix: BytesMut,
        alpn: &'static [u8],
        must_name_protocol: bool,
    ) -> Result<(ReadHalf, Secured), Insecure> {
        while self.client.queued() > 0 {
            self.client.flush_some().await.map_err(Broken::Client)?;
        }
        let resource = self.connection.resource.as_ref();
        let hosts = resource.into_iter().flat_map(|resource| &resource.endpoints);
        let hello = Hello {
            prefix,
            alpn,
            must_name_protocol,
            address: self.connection.destination.0.ip(),
            hosts: hosts
                .filter(|one| one.addresses.is_empty() || one.host == "localhost")
                .map(|one| one.host.clone())
                .collect(),
        };
        let write = std::mem::replace(&mut self.client, WriteHalf::closed());
        let (read, write, secured) = self.services.tls.accept(read, write, hello).await?;
        self.client = write;
        self.note_tls("client", &secured).await?;
        Ok((read, secured))
    }

    /// Shakes hands with the backend, and verifies it as the resource says.
    ///
    /// # Errors
    /// There is no TLS: the connection must be closed.
    pub async fn secure_upstream(
        &mut self,
        read: ReadHalf,
        alpn: &'static [u8],
    ) -> Result<(ReadHalf, Secured), Insecure> {
        let Some(write) = self.upstream.replace(WriteHalf::closed()) else {
            return Err(Broken::Upstream(std::io::ErrorKind::NotConnected.into()).into());
        };
        let name = self.connection.host.clone().unwrap_or_else(|| self.connection.destination.0.ip().to_string());
        let (read, write, secured) = self.services.tls.connect(read, write, &self.tls, alpn, &name).await?;
        self.upstream = Some(write);
        self.note_tls("backend", &secured).await?;
        Ok((read, secured))
    }

    async fn note_tls(&mut self, with: &str, secured: &Secured) -> Result<(), RecordError> {
        let name = secured.name.as_ref().map_or_else(String::new, |name| format!(", for {name}"));
        let what = format!("TLS with the {with}: {}{name}", secured.suite);
        self.written(Body::Control { what, wire: Bytes::new() }).await.map(drop)
    }
}
