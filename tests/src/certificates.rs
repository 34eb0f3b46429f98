//! Certificates for backends, made by `openssl` as an operator would.

use std::{fs, path::PathBuf};

use crate::{Lab, python};

/// An authority, and what it has signed: `ca.crt`, `server.crt` (for `localhost` and the loopbacks) and `server.key`,
/// `client.crt` (for role `app_cert`) and `client.key`, and `other.crt`, an authority that has signed nothing.
#[derive(Debug)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Makes them in the lab's directory.
    ///
    /// # Panics
    /// When `openssl` is missing; the message has the command.
    pub fn make(lab: &Lab) -> Self {
        let own = Self { dir: lab.path("certificates") };
        fs::create_dir(&own.dir).expect("the lab's directory is ours");
        own.authority("ca");
        own.authority("other");
        own.leaf("server", "localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1");
        own.leaf("client", "app_cert", "extendedKeyUsage=clientAuth");
        own
    }

    /// Where one of them is.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// A revocation list of the authority, which has the server's certificate on it or nothing.
    pub fn revocations(&self, server: bool) -> String {
        let (config, list) = (self.path("revoke.cnf"), self.path("list.crl"));
        let (index, number) = (self.path("index.txt"), self.path("number"));
        // Of version 2, which has a number.
        let section = format!(
            "[own]\ndatabase = {index}\ncrlnumber = {number}\ndefault_md = sha256\ndefault_crl_days = 2\ncrl_extensions = of\n"
        );
        let section = format!("{section}[of]\nauthorityKeyIdentifier = keyid\n");
        fs::write(number, "01\n").expect("the lab's directory is ours");
        fs::write(&config, format!("[ca]\ndefault_ca = own\n{section}")).expect("the lab's directory is ours");
        fs::write(self.path("index.txt"), "").expect("the lab's directory is ours");
        let (certificate, key, revoked) = (self.path("ca.crt"), self.path("ca.key"), self.path("server.crt"));
        let authority = ["openssl", "ca", "-config", &config, "-cert", &certificate, "-keyfile", &key];
        if server {
            python::must_run(&[&authority[..], &["-revoke", &revoked]].concat());
        }
        python::must_run(&[&authority[..], &["-gencrl", "-out", &list]].concat());
        list
    }

    fn authority(&self, name: &str) {
        let (key, certificate) = (self.path(&format!("{name}.key")), self.path(&format!("{name}.crt")));
        let subject = format!("/CN=the test's authority {name}");
        let made = ["-subj", &subject, "-keyout", &key, "-out", &certificate];
        python::must_run(&[&["openssl", "req", "-x509", "-days", "2"], &KEY[..], &made].concat());
    }

    fn leaf(&self, name: &str, common: &str, extensions: &str) {
        let [key, request, certificate, file] =
            ["key", "csr", "crt", "ext"].map(|kind| self.path(&format!("{name}.{kind}")));
        fs::write(&file, extensions).expect("the lab's directory is ours");
        let subject = format!("/CN={common}");
        python::must_run(
            &[&["openssl", "req"], &KEY[..], &["-subj", &subject, "-keyout", &key, "-out", &request]].concat(),
        );
        let (ca, ca_key) = (self.path("ca.crt"), self.path("ca.key"));
        let sign = ["-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-extfile", &file, "-out", &certificate];
        python::must_run(&[&["openssl", "x509", "-req", "-days", "2", "-in", &request], &sign[..]].concat());
    }
}

/// A new key on P-256, without a passphrase.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
