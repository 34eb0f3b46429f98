//! Towards the backend: whom the gateway believes, and who it says that it is.
//!
//! # Security
//! Chains, dates, names and revocation lists are webpki's to judge. What is added here takes from it only what the
//! resource's mode does not ask for, and lets in one thing more: a certificate that the operator's own file holds,
//! byte for byte, which need not be fit to sign anything.

use std::{
    fmt::Display,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _,
    },
    server::ParsedCertificate,
};

use super::{
    TlsError,
    der::{self, Certificate},
    settings::{Settings, Verify},
};

/// Builds what `settings` say, reading the files that they name.
pub(super) fn client(settings: &Settings, alpn: &[u8]) -> Result<ClientConfig, TlsError> {
    let provider = super::provider();
    let verifier = Verifier::new(settings, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Library)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&settings.client_cert, &settings.client_key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::file("read", key, &error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::file("use", certificate, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error: &dyn Display| TlsError::file("read", path, error);
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| failed(&error))?;
    if read.is_empty() { Err(failed(&"there is no certificate in it")) } else { Ok(read) }
}

#[derive(Debug)]
struct Verifier {
    verify: Verify,
    /// `None` where nothing is verified.
    chains: Option<Arc<WebPkiServerVerifier>>,
    /// What the operator's file holds.
    known: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(settings: &Settings, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let verify = settings.verify();
        if verify == Verify::Nothing {
            return Ok(Self { verify, chains: None, known: Vec::new(), provider });
        }
        let known = settings.ca.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let mut roots = RootCertStore::empty();
        if settings.ca.is_some() {
            roots.add_parsable_certificates(known.iter().cloned());
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() {
            let place = settings.ca.as_deref().unwrap_or(Path::new("this machine's store of certificates"));
            return Err(TlsError::file("use", place, &"there is no certificate in it that could sign others"));
        }
        let mut chains = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        if let Some(path) = &settings.crl {
            let failed = |error: &dyn Display| TlsError::file("read", path, error);
            let lists = CertificateRevocationListDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| failed(&error))?;
            if lists.is_empty() {
                return Err(failed(&"there is no revocation list in it"));
            }
            // As with libpq: every certificate of the chain is looked up, and an old list is no list.
            chains = chains.with_crls(lists).enforce_revocation_expiration();
        }
        let place = settings.crl.as_deref().or(settings.ca.as_deref()).unwrap_or(Path::new("the trusted certificates"));
        let chains = chains.build().map_err(|error| TlsError::file("use", place, &error))?;
        Ok(Self { verify, chains: Some(chains), known, provider })
    }

    /// A certificate that is itself in the operator's file: its dates and its name are still its own.
    fn verify_known(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let read = Certificate::read(certificate).ok_or(CertificateError::BadEncoding)?;
        let [from, until] = read.validity.map(|time| der::seconds(&time).unwrap_or_default());
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < from {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > until {
            return Err(CertificateError::Expired.into());
        }
        match self.verify {
            Verify::ChainAndName => verify_server_name(&ParsedCertificate::try_from(certificate)?, name),
            Verify::Chain | Verify::Nothing => Ok(()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chains) = &self.chains else { return Ok(ServerCertVerified::assertion()) };
        if self.known.iter().any(|known| known == end_entity) {
            return self.verify_known(end_entity, name, now).map(|()| ServerCertVerified::assertion());
        }
        match chains.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            // The name is looked at last, so everything else was right.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.verify == Verify::Chain => Ok(ServerCertVerified::assertion()),
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What was built last for each resource's settings. Files that are exchanged are read again.
#[derive(Default)]
pub(super) struct Clients(std::sync::Mutex<std::collections::HashMap<(Settings, &'static [u8]), Built>>);

struct Built {
    config: Arc<ClientConfig>,
    looked: SystemTime,
    /// When the files were changed last.
    changed: Vec<Option<SystemTime>>,
}

impl Clients {
    /// What `settings` say, with the files as they are now or were a moment ago.
    pub(super) fn of(&self, settings: &Settings, alpn: &'static [u8]) -> Result<Arc<ClientConfig>, TlsError> {
        let now = SystemTime::now();
        let mut built = self.0.lock().expect("nothing panics while it holds this lock");
        let key = (settings.clone(), alpn);
        if let Some(known) = built.get_mut(&key) {
            if now < known.looked + LOOK {
                return Ok(known.config.clone());
            }
            known.looked = now;
            if known.changed == changed(settings) {
                return Ok(known.config.clone());
            }
        }
        let changed = changed(settings);
        match client(settings, alpn) {
            Ok(config) => {
                let config = Arc::new(config);
                built.insert(key, Built { config: config.clone(), looked: now, changed });
                Ok(config)
            }
            // Somebody is in the middle of exchanging them.
            Err(error) => match built.get(&key) {
                Some(known) => {
                    tracing::error!(%error, "the certificates known before stay in use");
                    Ok(known.config.clone())
                }
                None => Err(error),
            },
        }
    }
}

fn changed(settings: &Settings) -> Vec<Option<SystemTime>> {
    let files = [&settings.ca, &settings.client_cert, &settings.client_key, &settings.crl];
    let changed = |path: &Path| std::fs::metadata(path).and_then(|about| about.modified()).ok();
    files.into_iter().map(|path| path.as_deref().and_then(changed)).collect()
}

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(5);
