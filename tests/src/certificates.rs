//! Certificates for backends.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::Lab;

/// An authority, and what it has signed: `ca.crt`, `server.crt` (for `localhost` and the loopbacks) and `server.key`,
/// `client.crt` (for role `app_cert`) and `client.key`, and `other.crt`, an authority that has signed nothing.
pub struct Certificates {
    dir: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// Makes them in the lab's directory.
    pub fn make(lab: &Lab) -> Self {
        let dir = lab.path("certificates");
        fs::create_dir(&dir).expect("the lab's directory is ours");
        let own = Self { dir, authority: authority("the test's authority ca") };
        own.write("ca", &own.authority.pem(), own.authority.key());
        let other = authority("the test's authority other");
        own.write("other", &other.pem(), other.key());
        own.leaf("server", "localhost", &["localhost", "127.0.0.1", "::1"], ExtendedKeyUsagePurpose::ServerAuth);
        own.leaf("client", "app_cert", &[], ExtendedKeyUsagePurpose::ClientAuth);
        own
    }

    /// Where one of them is.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// A revocation list of the authority, which has the server's certificate on it.
    pub fn revocations(&self) -> String {
        let now = OffsetDateTime::now_utc();
        let server = RevokedCertParams {
            serial_number: serial("server"),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - Duration::HOUR,
            next_update: now + Duration::DAY,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![server],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.authority).and_then(|list| list.pem()).expect("it can be signed");
        fs::write(self.dir.join("list.crl"), list).expect("the lab's directory is ours");
        self.path("list.crl")
    }

    fn leaf(&self, name: &str, common: &str, names: &[&str], usage: ExtendedKeyUsagePurpose) {
        let mut leaf = params(common, names);
        leaf.serial_number = Some(serial(name));
        leaf.extended_key_usages = vec![usage];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("there are random numbers");
        let certificate = leaf.signed_by(&key, &self.authority).expect("it can be signed");
        self.write(name, &certificate.pem(), &key);
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) {
        fs::write(self.dir.join(format!("{name}.crt")), certificate).expect("the lab's directory is ours");
        fs::write(self.dir.join(format!("{name}.key")), key.serialize_pem()).expect("the lab's directory is ours");
    }
}

fn authority(common: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut own = params(common, &[]);
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    own.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(own, KeyPair::generate().expect("there are random numbers")).expect("it can be signed")
}

fn params(common: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("the names are names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, common);
    params.not_before = OffsetDateTime::now_utc() - Duration::HOUR;
    params.not_after = OffsetDateTime::now_utc() + 2 * Duration::DAY;
    params
}

/// A leaf's serial number is its name, so that a list can revoke it.
fn serial(name: &str) -> SerialNumber {
    SerialNumber::from_slice(name.as_bytes())
}
