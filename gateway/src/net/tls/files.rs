//! Certificates and keys in files, for what is signed outside of TLS.
//!
//! Nothing here says whom to trust: whoever names a certificate's file trusts its key.

use std::{fs, path::Path};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};

use super::{TlsError, der};

/// The certificates in a file in PEM, in DER.
///
/// # Errors
/// It cannot be read, or has none.
pub fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, TlsError> {
    let failed = |why: &dyn std::fmt::Display| TlsError::file("read", path, why);
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(&error))?;
    if all.is_empty() {
        return Err(failed(&"it has no certificate in PEM"));
    }
    Ok(all.into_iter().map(|certificate| certificate.to_vec()).collect())
}

/// The private key in a file in PEM, as PKCS #8 in DER.
///
/// # Errors
/// Others than the gateway's user may read it, it cannot be read, or is none.
pub fn private_key(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, TlsError> {
    use std::os::unix::fs::MetadataExt as _;
    let failed = |why: &dyn std::fmt::Display| TlsError::file("read", path, why);
    let about = fs::metadata(path).map_err(|error| failed(&error))?;
    if about.mode() & 0o077 != 0 || about.uid() != nix::unistd::geteuid().as_raw() {
        return Err(failed(&"others than the gateway's user may read it; `chmod 600` it, and `chown` it"));
    }
    let pem = zeroize::Zeroizing::new(fs::read(path).map_err(|error| failed(&error))?);
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| {
        failed(&"it has no private key of the kind `BEGIN PRIVATE KEY`; `openssl pkcs8 -topk8 -nocrypt` writes one")
    })?;
    Ok(zeroize::Zeroizing::new(key.secret_pkcs8_der().to_vec()))
}

/// The public key (`SubjectPublicKeyInfo`) in a certificate. `None` where it is none.
pub fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    der::subject_public_key(certificate)
}
