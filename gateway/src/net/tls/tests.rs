//! Handshakes over memory, and certificates before other people's eyes.

use std::{fs, process::Command, time::Instant};

use bytes::BytesMut;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::net::split as halves;

const ALPN: &[u8] = b"postgresql";

/// A directory with an authority of its own.
struct Place {
    dir: TempDir,
    tls: Tls,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let authority = Authority::open(&dir.path().join("authority"), &dir.path().display().to_string());
        let authority = authority.expect("it can be made");
        Self { tls: Tls::new(Some(authority)), dir }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("authority/ca.crt")
    }

    fn settings(&self, yaml: &str) -> Settings {
        let yaml = yaml.replace("CA", &self.ca().display().to_string());
        Settings::read(Some(&serde_saphyr::from_str(&yaml).expect("YAML"))).expect("they are right")
    }

    async fn accept(&self, stream: DuplexStream, must_name_protocol: bool) -> Result<Ends, HandshakeError> {
        let (read, write) = halves(stream);
        let hello = Hello {
            prefix: BytesMut::new(),
            alpn: ALPN,
            must_name_protocol,
            address: [127, 0, 0, 1].into(),
            hosts: vec!["db.shop.example".into()],
        };
        self.tls.accept(read, write, hello).await
    }

    async fn connect(
        &self,
        stream: DuplexStream,
        settings: &str,
        alpn: &'static [u8],
        name: &str,
    ) -> Result<Ends, HandshakeError> {
        let (read, write) = halves(stream);
        self.tls.connect(read, write, &self.settings(settings), alpn, name).await
    }

    /// Both sides of a handshake with each other: the gateway's server is as good a backend as any.
    async fn shake(&self, settings: &str, name: &str) -> (Result<Ends, HandshakeError>, Result<Ends, HandshakeError>) {
        let (client, server) = duplex(64 * 1024);
        tokio::join!(self.connect(client, settings, ALPN, name), self.accept(server, true))
    }
}

type Ends = (ReadHalf, WriteHalf, Secured);

async fn read(half: &mut ReadHalf) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    half.read_some(&mut bytes).await.expect("readable");
    bytes.to_vec()
}

#[tokio::test]
async fn both_sides_agree_on_the_certificate_and_bytes_pass() {
    let place = Place::new();
    for (name, asked) in
        [("db.shop.example", Some("db.shop.example")), ("other.example", Some("other.example")), ("127.0.0.1", None)]
    {
        let (client, server) = place.shake("{upstream: verify-full, ca: CA}", name).await;
        let (mut client, mut server) = (client.expect("trusted"), server.expect("a handshake"));
        assert_eq!(server.2.name.as_deref(), asked);
        assert!(server.2.suite.starts_with("TLSv1.3 "), "{}", server.2.suite);
        assert_eq!(client.2.end_point.as_ref().map(Vec::len), Some(32), "SHA-256, by the authority's signature");
        assert_eq!(client.2.end_point, server.2.end_point);
        client.1.queue(b"to the server");
        client.1.flush_now().expect("there is room");
        assert_eq!(read(&mut server.0).await, b"to the server");
        server.1.queue(b"to the client");
        server.1.flush_now().expect("there is room");
        assert_eq!(read(&mut client.0).await, b"to the client");
        server.1.finish().await.expect("it ends");
        assert_eq!(read(&mut client.0).await, b"");
    }
}

/// More than the library and the pipe hold: what TLS holds back is still to be sent.
#[tokio::test]
async fn what_the_library_holds_back_is_still_queued() {
    let place = Place::new();
    let (client, server) = place.shake("{upstream: require}", "x.example").await;
    let (mut client, mut server) = (client.expect("a handshake"), server.expect("a handshake"));
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    client.1.queue(&sent);
    client.1.flush_now().expect("part of it");
    assert!(client.1.queued() > 0);
    let write = async {
        while client.1.queued() > 0 {
            client.1.flush_some().await.expect("the server reads");
        }
    };
    let listen = async {
        let mut got = BytesMut::new();
        while got.len() < sent.len() {
            assert_ne!(server.0.read_some(&mut got).await.expect("readable"), 0);
        }
        got
    };
    let ((), got) = tokio::join!(write, listen);
    assert!(got == sent);
}

#[tokio::test]
async fn each_mode_verifies_what_it_says() {
    let place = Place::new();
    let stranger = Place::new();
    let other = stranger.ca().display().to_string();
    for (settings, name, why) in [
        ("{upstream: require}", "x.example", None),
        ("{upstream: require, ca: CA}", "x.example", None),
        ("{upstream: require, ca: OTHER}", "x.example", Some("nobody who signed it is trusted")),
        ("{upstream: verify-ca, ca: OTHER}", "x.example", Some("nobody who signed it is trusted")),
        ("{upstream: verify-full, ca: OTHER}", "x.example", Some("nobody who signed it is trusted")),
        // An address is never in SNI, so the server's certificate is for where it was dialled.
        ("{upstream: verify-ca, ca: CA}", "127.0.0.9", None),
        ("{upstream: verify-full, ca: CA}", "127.0.0.9", Some("it is not for \"127.0.0.9\"")),
        ("{upstream: verify-full, ca: CA, name: y.example}", "127.0.0.9", None),
        ("{upstream: verify-full}", "x.example", Some("nobody who signed it is trusted")),
        ("{upstream: verify-full, ca: /nonexistent/ca.pem}", "x.example", Some("/nonexistent/ca.pem")),
    ] {
        let (client, server) = place.shake(&settings.replace("OTHER", &other), name).await;
        match (client, why) {
            (Ok(_), None) => drop(server.expect("a handshake")),
            (Err(error), Some(why)) => {
                assert!(error.to_string().contains(why), "{settings}: {error}");
                assert!(server.is_err());
            }
            (client, why) => panic!("{settings}: {:?} instead of {why:?}", client.map(|ends| ends.2)),
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_trust_says_so_and_is_told_how() {
    let (place, stranger) = (Place::new(), Place::new());
    let (client, server) = duplex(64 * 1024);
    let wanted = "{upstream: verify-full, ca: CA}";
    let (client, server) = tokio::join!(stranger.connect(client, wanted, ALPN, "x"), place.accept(server, false));
    assert!(client.is_err());
    let error = server.map(|ends| ends.2).expect_err("the client broke it off").to_string();
    assert!(error.contains("unknown_ca") && error.contains("holdpoint trust"), "{error}");
}

#[tokio::test]
async fn n9_tls_that_does_not_name_the_protocol_is_refused() {
    let place = Place::new();
    for (alpn, must_name, accepted) in
        [(b"http/1.1" as &[u8], true, false), (b"http/1.1", false, false), (ALPN, true, true)]
    {
        let (client, server) = duplex(64 * 1024);
        let wanted = "{upstream: require}";
        let (client, server) = tokio::join!(place.connect(client, wanted, alpn, "x"), place.accept(server, must_name));
        assert_eq!((client.is_ok(), server.is_ok()), (accepted, accepted));
        if let (true, Err(error)) = (must_name, server) {
            assert!(error.to_string().contains("for \"x\"") && error.to_string().contains("ALPN"), "{error}");
        }
    }
}

#[tokio::test]
async fn v9_what_comes_in_clear_is_no_part_of_the_handshake() {
    let place = Place::new();
    let (mut client, server) = duplex(64 * 1024);
    // A whole query that a server without this rule would find in its buffer after the handshake.
    client.write_all(b"Q\0\0\0\x0dSELECT 1\0").await.expect("there is room");
    let error = place.accept(server, false).await.map(|ends| ends.2).expect_err("it is no handshake");
    assert!(matches!(error, HandshakeError::Client(_)), "{error}");
    let mut alert = Vec::new();
    client.read_to_end(&mut alert).await.expect("readable");
    assert_eq!(alert.first(), Some(&0x15), "an alert, and nothing else: {alert:?}");
}

#[test]
fn openssl_finds_nothing_wrong_with_the_certificates() {
    let place = Place::new();
    let authority = Authority::open(&place.dir.path().join("authority"), "lab").expect("it is there");
    for names in [
        Names { dns: vec!["db.shop.example".into()], address: None, alpn: ALPN },
        Names { dns: vec!["a.example".into(), "b.example".into()], address: Some([10, 0, 3, 7].into()), alpn: ALPN },
        Names { dns: Vec::new(), address: Some("fd00::1".parse().expect("an address")), alpn: ALPN },
        Names { dns: vec![format!("{}.example", "x".repeat(63))], address: None, alpn: ALPN },
    ] {
        let leaf = authority.mint(&names, std::time::SystemTime::now()).expect("it can be signed");
        let file = place.dir.path().join("leaf.der");
        fs::write(&file, &leaf).expect("written");
        let openssl = |arguments: &[&str]| {
            let ran = Command::new("openssl").args(arguments).arg(&file).output().expect("openssl is installed");
            let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
            assert!(ran.status.success(), "{names:?}: {said}");
            said
        };
        let ca = place.ca().display().to_string();
        let mut verify = vec!["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", &ca];
        let address = names.address.map(|address| address.to_string());
        match (names.dns.last(), &address) {
            (Some(name), _) => verify.extend(["-verify_hostname", name]),
            (None, Some(address)) => verify.extend(["-verify_ip", address]),
            (None, None) => unreachable!("each has a name"),
        }
        openssl(&verify);
        let shown = openssl(&["x509", "-noout", "-text", "-in"]);
        assert!(shown.contains("CA:FALSE") && shown.contains("TLS Web Server Authentication"), "{shown}");
    }
    let key = fs::metadata(place.dir.path().join("authority/ca.key")).expect("it is there");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    assert_eq!(place.tls.bundle(), fs::read_to_string(place.ca()).ok(), "the same authority, opened twice");
}

/// `openssl` makes a certificate that signs itself, as an operator would; nothing of the machine's own configuration of
/// it is used. The files are `own.crt` and `own.key`.
fn self_signed(dir: &Path, key: &str, subject: &str, extensions: &[&str]) -> AuthorityFiles {
    let files = AuthorityFiles { certificate: dir.join("own.crt"), key: dir.join("own.key") };
    let config = dir.join("own.cnf");
    let sections = "[req]\ndistinguished_name = subject\nx509_extensions = own\n[subject]\n[own]\n";
    fs::write(&config, format!("{sections}subjectKeyIdentifier = hash\n{}\n", extensions.join("\n"))).expect("written");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "2", "-subj", subject, "-newkey"]).args(key.split(' '));
    openssl.arg("-config").arg(config).arg("-keyout").arg(&files.key).arg("-out").arg(&files.certificate);
    let made = openssl.output().expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    files
}

fn brought(dir: &Path, key: &str, authority: bool) -> Result<Authority, TlsError> {
    let constraints = format!("basicConstraints = critical, CA:{authority}");
    // Directories name their authorities so: the same attribute more than once.
    Authority::brought(&self_signed(dir, key, "/DC=example/DC=shop/O=Shop/CN=Shop authority", &[&constraints]))
}

#[tokio::test]
async fn an_operators_authority_of_any_kind_signs() {
    for (kind, binding) in [
        ("rsa:2048", Some(32)),
        ("ec -pkeyopt ec_paramgen_curve:P-384", Some(48)),
        // Its signatures have no hash of their own, so there is no channel binding by it.
        ("ed25519", None),
    ] {
        let place = Place::new();
        let tls = Tls::new(Some(brought(place.dir.path(), kind, true).expect("it is one")));
        let place = Place { tls, ..place };
        let ca = place.dir.path().join("own.crt");
        let (client, server) = place.shake(&format!("{{ca: {}}}", ca.display()), "x.example").await;
        let secured = server.expect("a handshake").2;
        assert_eq!(client.expect("trusted").2.end_point, secured.end_point);
        assert_eq!(secured.end_point.map(|hash| hash.len()), binding, "{kind}");
    }
    let dir = TempDir::new().expect("a temporary directory");
    let error = brought(dir.path(), "rsa:2048", false).expect_err("it may not sign").to_string();
    assert!(error.contains("CA:TRUE"), "{error}");
    let place = Place::new();
    let files =
        AuthorityFiles { certificate: dir.path().join("own.crt"), key: place.dir.path().join("authority/ca.key") };
    assert!(Authority::brought(&files).is_err(), "a key of another certificate");
}

/// The backend's certificate is in the operator's file itself: `openssl req -x509` makes such ones, with `CA:TRUE`.
#[tokio::test]
async fn a_known_certificate_is_believed_for_its_own_name() {
    let place = Place::new();
    let extensions = ["basicConstraints = CA:TRUE", "subjectAltName = DNS:db.shop.example"];
    let files = self_signed(place.dir.path(), "rsa:2048", "/CN=db", &extensions);
    let (certificate, key) = (files.certificate.display(), &files.key);
    for (name, known) in [("db.shop.example", true), ("other.example", false)] {
        let (client, server) = duplex(64 * 1024);
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                rustls::pki_types::pem::PemObject::pem_file_iter(&files.certificate)
                    .expect("a file")
                    .map(|one| one.expect("PEM"))
                    .collect(),
                rustls::pki_types::pem::PemObject::from_pem_file(key).expect("a key"),
            )
            .expect("they belong together");
        let accept = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(server);
        let settings = format!("{{ca: {certificate}}}");
        let (client, _server) = tokio::join!(place.connect(client, &settings, ALPN, name), accept);
        assert_eq!(client.is_ok(), known, "{name}: {:?}", client.map(|ends| ends.2));
    }
}

#[test]
#[ignore = "a measurement: cargo test -p gateway --lib what_a_leaf_costs -- --ignored --nocapture"]
fn what_a_leaf_costs() {
    let dir = TempDir::new().expect("a temporary directory");
    let own = Authority::open(&dir.path().join("authority"), "lab").expect("it can be made");
    let rsa = brought(dir.path(), "rsa:4096", true).expect("it is one");
    for (kind, authority, rounds) in [("P-256", own, 2000_u32), ("RSA 4096", rsa, 50)] {
        let began = Instant::now();
        for round in 0..rounds {
            let names = Names { dns: vec![format!("{round}.example")], address: None, alpn: ALPN };
            drop(authority.leaf(&names).expect("signed"));
        }
        let each = began.elapsed() / rounds;
        let names = Names { dns: vec!["0.example".into()], address: None, alpn: ALPN };
        drop(authority.leaf(&names));
        let again = Instant::now();
        drop(authority.leaf(&names));
        println!("{kind}: a leaf takes {each:?}, from the cache {:?}", again.elapsed());
    }
}
