//! The gateway's own certificate authority: made once, kept with the state, or brought by the operator; and the leaves
//! that it signs for whatever name a guarded client asks for.
//!
//! # Security
//! The authority's key is on disk, for root alone; the leaves' key is in memory only and new with every start. Whoever
//! trusts the authority trusts this node: what it signs is presented to guarded clients of this node and nobody else.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    digest,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{
    ServerConfig, SignatureScheme,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};

use super::{
    TlsError,
    der::{self, Certificate, element, oid, tag},
};

/// Where an authority's certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityFiles {
    /// The certificate; behind it, up to the root, those that signed it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Signs leaves.
pub struct Authority {
    /// The signing certificate first, the root last.
    chain: Vec<CertificateDer<'static>>,
    /// What the leaves say of their issuer.
    subject: Vec<u8>,
    key_identifier: Option<Vec<u8>>,
    key: Arc<dyn SigningKey>,
    leaf_key: Arc<dyn SigningKey>,
    leaf_public: Vec<u8>,
    leaves: quick_cache::sync::Cache<Names, Arc<Leaf>>,
}

/// Whom a leaf is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Names {
    pub(super) dns: Vec<String>,
    pub(super) address: Option<IpAddr>,
    /// The word for the protocol in ALPN.
    pub(super) alpn: &'static [u8],
}

/// What one handshake needs.
pub(super) struct Leaf {
    pub(super) config: Arc<ServerConfig>,
    /// The channel binding `tls-server-end-point`.
    pub(super) end_point: Option<Vec<u8>>,
    stale: SystemTime,
}

impl Authority {
    /// The one in `directory`, made now if there is none.
    ///
    /// # Errors
    /// It cannot be written, or what is there is no authority.
    pub fn open(directory: &Path, node: &str) -> Result<Self, TlsError> {
        let files = AuthorityFiles { certificate: directory.join("ca.crt"), key: directory.join("ca.key") };
        if !files.key.exists() && !files.certificate.exists() {
            make(directory, &files, node).map_err(|error| TlsError::file("write", &files.key, &error))?;
        }
        Self::brought(&files)
    }

    /// The one that an operator brings.
    ///
    /// # Errors
    /// It cannot be read, is none, or key and certificate do not belong together.
    pub fn brought(files: &AuthorityFiles) -> Result<Self, TlsError> {
        let wrong = |why: &str| TlsError::file("use", &files.certificate, &why);
        let chain = CertificateDer::pem_file_iter(&files.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| TlsError::file("read", &files.certificate, &error))?;
        let key =
            PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::file("read", &files.key, &error))?;
        let key = any_supported_type(&key).map_err(|error| TlsError::file("use", &files.key, &error))?;
        let first = chain.first().ok_or_else(|| wrong("there is no certificate in it"))?;
        let read = Certificate::read(first).ok_or_else(|| wrong("it is no X.509 certificate of version 3"))?;
        if !read.is_authority() {
            return Err(wrong("it may not sign certificates (basicConstraints does not say CA:TRUE)"));
        }
        CertifiedKey::new(chain.clone(), key.clone())
            .keys_match()
            .map_err(|_| wrong("its key is another than the one given with it"))?;
        let (subject, key_identifier) = (read.subject.to_vec(), read.key_identifier().map(<[u8]>::to_vec));
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| TlsError::file("make a key for", &files.certificate, &"there are no random numbers"))?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| wrong("the leaves' key cannot be written"))?;
        let leaf_key = any_supported_type(&PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()).into())
            .map_err(|error| TlsError::file("make a key for", &files.certificate, &error))?;
        Ok(Self {
            chain,
            subject,
            key_identifier,
            key,
            leaf_key,
            leaf_public: public_key(&pair),
            leaves: quick_cache::sync::Cache::new(LEAVES),
        })
    }

    /// What clients must trust: the root, in PEM.
    pub fn bundle(&self) -> String {
        self.chain.last().map(|root| pem("CERTIFICATE", root)).unwrap_or_default()
    }

    /// The leaf for `names`, from the cache or signed now: some tens of microseconds with a key on a curve.
    pub(super) fn leaf(&self, names: &Names) -> Result<Arc<Leaf>, TlsError> {
        if let Some(leaf) = self.cached(names) {
            return Ok(leaf);
        }
        let leaf = Arc::new(self.sign(names)?);
        self.leaves.insert(names.clone(), leaf.clone());
        Ok(leaf)
    }

    /// The leaf for `names`, if it has been signed and is good for a while.
    pub(super) fn cached(&self, names: &Names) -> Option<Arc<Leaf>> {
        self.leaves.get(names).filter(|leaf| SystemTime::now() < leaf.stale)
    }

    fn sign(&self, names: &Names) -> Result<Leaf, TlsError> {
        let now = SystemTime::now();
        let certificate = self.mint(names, now)?;
        let end_point = der::end_point(&certificate);
        let mut chain = vec![CertificateDer::from(certificate)];
        // A root need not be sent: who trusts it has it.
        let is_root = |der: &[u8]| Certificate::read(der).is_some_and(|read| read.issuer == read.subject);
        chain.extend(self.chain.iter().filter(|one| !is_root(one)).cloned());
        let key = CertifiedKey::new(chain, self.leaf_key.clone());
        let mut config = ServerConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Library)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        // As PostgreSQL does: a connection here is long, and what is not kept cannot be stolen.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![names.alpn.to_vec()];
        Ok(Leaf { config: Arc::new(config), end_point, stale: now + LIFE / 2 })
    }

    /// A certificate for `names`. (RFC 5280, section 4.1; the extensions are those that strict verifiers ask for.)
    pub(super) fn mint(&self, names: &Names, now: SystemTime) -> Result<Vec<u8>, TlsError> {
        let now = unix(now);
        let mut alternatives: Vec<Vec<u8>> =
            names.dns.iter().map(|name| element(tag::implicit(2), &[name.as_bytes()])).collect();
        alternatives.extend(names.address.map(|address| match address {
            IpAddr::V4(address) => element(tag::implicit(7), &[&address.octets()]),
            IpAddr::V6(address) => element(tag::implicit(7), &[&address.octets()]),
        }));
        let alternatives: Vec<&[u8]> = alternatives.iter().map(Vec::as_slice).collect();
        let mut extensions = vec![
            extension(oid::BASIC_CONSTRAINTS, true, &element(tag::SEQUENCE, &[])),
            // digitalSignature.
            extension(oid::KEY_USAGE, true, &element(tag::BIT_STRING, &[&[7, 0x80]])),
            extension(oid::EXTENDED_USAGE, false, &element(tag::SEQUENCE, &[&element(tag::OID, &[oid::SERVER_AUTH])])),
            extension(oid::ALTERNATIVE_NAME, false, &element(tag::SEQUENCE, &alternatives)),
        ];
        extensions.extend(self.key_identifier.as_ref().map(|identifier| {
            let identifier = element(tag::implicit(0), &[identifier]);
            extension(oid::AUTHORITY_KEY, false, &element(tag::SEQUENCE, &[&identifier]))
        }));
        let first = names.dns.first().cloned().or_else(|| names.address.map(|address| address.to_string()));
        // A common name has at most 64 characters; verifiers read the alternative names.
        let subject = name(first.as_deref().filter(|first| first.len() <= 64).unwrap_or("holdpoint"));
        let times = [now - unix_duration(SKEW), now + unix_duration(LIFE)];
        signed(&*self.key, &self.subject, times, &subject, &self.leaf_public, &extensions)
    }
}

impl std::fmt::Debug for Authority {
    /// Without keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// A new authority's files, the key first: a certificate without its key would be no authority.
fn make(directory: &Path, files: &AuthorityFiles, node: &str) -> std::io::Result<()> {
    let failed = |why: &str| std::io::Error::other(why.to_owned());
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| failed("no random numbers"))?;
    let pkcs8 = pair.to_pkcs8v1().map_err(|_| failed("the key cannot be written"))?;
    let key = any_supported_type(&PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec()).into())
        .map_err(|error| failed(&error.to_string()))?;
    let node: String = node.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
    let subject = name(&format!("Holdpoint authority of {node}"));
    let public = public_key(&pair);
    let identifier = digest::digest(&digest::SHA256, pair.public_key().as_ref());
    let extensions = [
        // An authority that signs leaves only.
        extension(
            oid::BASIC_CONSTRAINTS,
            true,
            &element(tag::SEQUENCE, &[&element(tag::BOOLEAN, &[&[0xff]]), &element(tag::INTEGER, &[&[0]])]),
        ),
        // keyCertSign, cRLSign.
        extension(oid::KEY_USAGE, true, &element(tag::BIT_STRING, &[&[1, 0x06]])),
        extension(oid::SUBJECT_KEY, false, &element(tag::OCTET_STRING, &[&identifier.as_ref()[..20]])),
    ];
    let now = unix(SystemTime::now());
    let times = [now - unix_duration(SKEW), now + unix_duration(AUTHORITY_LIFE)];
    let certificate =
        signed(&*key, &subject, times, &subject, &public, &extensions).map_err(|error| failed(&error.to_string()))?;
    std::fs::create_dir_all(directory)?;
    super::write_private(&files.key, pem("PRIVATE KEY", pkcs8.as_ref()).as_bytes())?;
    std::fs::write(&files.certificate, pem("CERTIFICATE", &certificate))
}

/// A certificate, signed.
fn signed(
    key: &dyn SigningKey,
    issuer: &[u8],
    [from, until]: [i64; 2],
    subject: &[u8],
    public: &[u8],
    extensions: &[Vec<u8>],
) -> Result<Vec<u8>, TlsError> {
    let offered: Vec<_> = ALGORITHMS.iter().map(|(scheme, _)| *scheme).collect();
    let signer = key.choose_scheme(&offered);
    let signer =
        signer.ok_or(TlsError::Library(rustls::Error::General("the authority's key is of no known kind".into())))?;
    let algorithm = ALGORITHMS.iter().find(|(scheme, _)| *scheme == signer.scheme());
    let algorithm = algorithm.map_or(&[][..], |(_, algorithm)| *algorithm);
    let mut serial = [0; 16];
    getrandom::fill(&mut serial)
        .map_err(|error| TlsError::Library(rustls::Error::General(format!("no random numbers: {error}"))))?;
    // Positive, and of full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
    let fields = element(
        tag::SEQUENCE,
        &[
            &element(tag::explicit(0), &[&element(tag::INTEGER, &[&[2]])]),
            &element(tag::INTEGER, &[&serial]),
            algorithm,
            issuer,
            &element(tag::SEQUENCE, &[&der::time(from), &der::time(until)]),
            subject,
            public,
            &element(tag::explicit(3), &[&element(tag::SEQUENCE, &extensions)]),
        ],
    );
    let signature = signer.sign(&fields).map_err(TlsError::Library)?;
    Ok(element(tag::SEQUENCE, &[&fields, algorithm, &element(tag::BIT_STRING, &[&[0], &signature])]))
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { element(tag::BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    element(tag::SEQUENCE, &[&element(tag::OID, &[oid]), &critical, &element(tag::OCTET_STRING, &[value])])
}

/// A `Name` with a common name and nothing else.
fn name(common: &str) -> Vec<u8> {
    let value = element(tag::UTF8_STRING, &[common.as_bytes()]);
    let pair = element(tag::SEQUENCE, &[&element(tag::OID, &[oid::COMMON_NAME]), &value]);
    element(tag::SEQUENCE, &[&element(tag::SET, &[&pair])])
}

/// The `SubjectPublicKeyInfo` of a key on P-256.
fn public_key(pair: &EcdsaKeyPair) -> Vec<u8> {
    const ALGORITHM: &[u8] = &[
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        0x03, 0x01, 0x07,
    ];
    element(tag::SEQUENCE, &[ALGORITHM, &element(tag::BIT_STRING, &[&[0], pair.public_key().as_ref()])])
}

/// PEM, as everybody reads it: 64 characters a line. (RFC 7468.)
fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().copied().map(char::from));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    unix_duration(since)
}

fn unix_duration(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 4)
}

/// How a signature is named in a certificate. (RFC 5758, RFC 4055, RFC 8410.)
const ALGORITHMS: [(SignatureScheme, &[u8]); 5] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]),
    (SignatureScheme::ECDSA_NISTP384_SHA384, &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03]),
    (SignatureScheme::ECDSA_NISTP521_SHA512, &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04]),
    (
        SignatureScheme::RSA_PKCS1_SHA256,
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00],
    ),
    (SignatureScheme::ED25519, &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70]),
];

/// How many leaves are kept. A bot may ask for as many names as it likes.
const LEAVES: usize = 1024;

/// How long a leaf is good; half of it is served.
const LIFE: Duration = Duration::from_secs(14 * 24 * 3600);

/// How long an authority is good: longer than a machine's life, since every client's trust hangs on it.
const AUTHORITY_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// How far a client's clock may be behind. It is a clock of this machine, unless a container has its own.
const SKEW: Duration = Duration::from_secs(3600);
