//! One question to somebody else's server over HTTP/1.1: a connection of its own, bounded, in TLS that is verified.
//!
//! # Security
//! A request goes to the host that the settings name and nowhere else: no redirection is followed and no proxy used.
//! Only the loopback is spoken to in clear. No error here has anything of the request in it, nor of the address's path.

use std::{fmt, net::IpAddr, path::PathBuf, pin::pin};

use http_body_util::{BodyExt as _, Full, Limited};
pub use hyper::{
    HeaderMap, Method, StatusCode,
    header::{HeaderName, HeaderValue},
};
use hyper::{Request, Uri, body::Bytes, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use zeroize::Zeroizing;

use super::tls::{HandshakeError, Settings, Tls};

/// Where a server is, and how it is told from others.
pub struct Client {
    host: String,
    port: u16,
    /// Host and port, as `Host` says them: the scheme's own port is left out.
    authority: String,
    /// Path and query of the address itself, as the server is asked for them.
    path: String,
    /// `None`: in clear, which only the loopback is spoken to.
    tls: Option<(Tls, Settings)>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some addresses are secrets from the path on.
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Zeroizing<Vec<u8>>,
}

impl Client {
    /// For the server at `address`, an `https://` URL, or `http://` on the loopback. `ca` says who signs its certificate
    /// where this machine does not trust them, `name` for whom it is where that is not the address's host.
    ///
    /// # Errors
    /// What is wrong with the address, to be put behind its name; the address itself is not repeated.
    pub fn new(address: &str, ca: Option<PathBuf>, name: Option<String>) -> Result<Self, &'static str> {
        let uri: Uri = address.parse().map_err(|_| "is no address; expected one such as https://HOST:PORT")?;
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
        let authority = authority.ok_or("names no host; expected one such as https://HOST:PORT")?;
        if authority.as_str().contains('@') {
            return Err("is more than an address: leave out the user before the `@`");
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let tls = match scheme {
            "https" => Some((Tls::new(None), Settings::verified(ca, name))),
            "http" if is_loopback(&host) => None,
            "http" => return Err("would be spoken to in clear; say https://, since it is not on the loopback"),
            _ => return Err("is neither https:// nor http://"),
        };
        let usual = if tls.is_some() { 443 } else { 80 };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let port = authority.port_u16().unwrap_or(usual);
        let named = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = if port == usual { named } else { format!("{named}:{port}") };
        Ok(Self { host, port, authority, path, tls })
    }

    /// Path and query of the address.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The port that is asked.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Asks for `path`, and reads the answer up to `longest` bytes. How long it may take is the caller's to say.
    ///
    /// # Errors
    /// In words: it cannot be reached, is not who it should be, or does not answer as HTTP does.
    pub async fn send(
        &self,
        method: &Method,
        path: &str,
        headers: HeaderMap,
        body: Zeroizing<Vec<u8>>,
        longest: usize,
    ) -> Result<Answer, String> {
        let request = Request::builder().method(method).uri(path).header(HOST, &self.authority);
        let request = request.body(Full::new(Bytes::from_owner(body)));
        let mut request = request.map_err(|_| "it cannot be asked: the path is none".to_owned())?;
        request.headers_mut().extend(headers);
        let stream = self.connect().await?;
        match &self.tls {
            None => exchange(stream, request, longest).await,
            Some((tls, settings)) => {
                let shaken = tls.connect_stream(stream, settings, b"http/1.1", &self.host).await;
                exchange(shaken.map_err(|error| not_it(&error))?.0, request, longest).await
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let unreachable = |error: std::io::Error| format!("it cannot be reached: {error}");
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(unreachable)?;
        let mut last = std::io::Error::other("its name has no address");
        for address in found {
            if self.tls.is_none() && !address.ip().is_loopback() {
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(unreachable(last))
    }
}

/// Sends one request and reads the whole answer, within bounds.
async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin>(
    stream: S,
    request: Request<Full<Bytes>>,
    longest: usize,
) -> Result<Answer, String> {
    let broken = |error: hyper::Error| format!("the connection to it broke: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut asked = pin!(async move {
        let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
        let body = Limited::new(body, longest).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error}"))?;
        let body = Zeroizing::new(body.to_bytes().to_vec());
        Ok(Answer { status: head.status, headers: head.headers, body })
    });
    tokio::select! {
        done = &mut asked => done,
        // Over, perhaps with an answer that was not read to its end.
        _ = connection => asked.await,
    }
}

fn not_it(error: &HandshakeError) -> String {
    match error {
        HandshakeError::Refused { why, .. } => format!(
            "its certificate is refused: {why}; `ca:` says who signs it, `server_name:` for whom it is if not for the \
             address's host"
        ),
        HandshakeError::Backend(error) => format!("the TLS handshake with it failed: {error}"),
        other => other.to_string(),
    }
}

/// Whether this host is this machine, whatever a name server says.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_is_spoken_to_in_clear() {
        let port = |address| Client::new(address, None, None).map(|client| client.port);
        for (address, expected) in
            [("https://vault:8200", 8200), ("https://[::1]", 443), ("http://127.0.0.1:1", 1), ("http://localhost/", 80)]
        {
            assert_eq!(port(address), Ok(expected), "{address}");
        }
        let authority = |address| Client::new(address, None, None).map(|client| client.authority);
        for (address, expected) in [
            ("https://a.example", "a.example"),
            ("https://a.example:443/x", "a.example"),
            ("https://[::1]:8", "[::1]:8"),
        ] {
            assert_eq!(authority(address).as_deref(), Ok(expected), "{address}");
        }
        for (address, word) in [
            ("http://vault:8200", "in clear"),
            ("http://127.0.0.1.example:8200", "in clear"),
            ("ftp://vault", "neither"),
            ("vault:8200", "neither"),
            ("https://user:canary@vault", "more than"),
            ("", "https://"),
        ] {
            let error = port(address).expect_err(address);
            assert!(error.contains(word) && !error.contains("canary"), "{address}: {error}");
        }
    }

    #[test]
    fn what_is_asked_for_is_the_addresss_own_path() {
        let client = Client::new("https://hooks.example/a/b?c=d", None, None).expect("an address");
        assert_eq!(client.path(), "/a/b?c=d");
        assert_eq!(format!("{client:?}"), "hooks.example:443", "and no log has it");
    }
}
