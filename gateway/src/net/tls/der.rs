//! As much DER as certificates need here: writing the two that this gateway makes, and reading the few fields of
//! another's that it must know. (X.690; RFC 5280, section 4.1.)
//!
//! Verifying certificates is webpki's, never this file's.

use aws_lc_rs::digest;

/// Tags, as X.690 numbers them.
pub(super) mod tag {
    pub(in crate::net::tls) const BOOLEAN: u8 = 0x01;
    pub(in crate::net::tls) const INTEGER: u8 = 0x02;
    pub(in crate::net::tls) const BIT_STRING: u8 = 0x03;
    pub(in crate::net::tls) const OCTET_STRING: u8 = 0x04;
    pub(in crate::net::tls) const OID: u8 = 0x06;
    pub(in crate::net::tls) const UTF8_STRING: u8 = 0x0c;
    pub(in crate::net::tls) const UTC_TIME: u8 = 0x17;
    pub(in crate::net::tls) const GENERALIZED_TIME: u8 = 0x18;
    pub(in crate::net::tls) const SEQUENCE: u8 = 0x30;
    pub(in crate::net::tls) const SET: u8 = 0x31;
    /// Constructed, context-specific: `[0]`, `[3]`.
    pub(in crate::net::tls) const fn explicit(number: u8) -> u8 {
        0xa0 | number
    }
    /// Primitive, context-specific.
    pub(in crate::net::tls) const fn implicit(number: u8) -> u8 {
        0x80 | number
    }
}

/// Object identifiers, encoded.
pub(super) mod oid {
    pub(in crate::net::tls) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    pub(in crate::net::tls) const SUBJECT_KEY: &[u8] = &[0x55, 0x1d, 0x0e];
    pub(in crate::net::tls) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    pub(in crate::net::tls) const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    pub(in crate::net::tls) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    pub(in crate::net::tls) const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
    pub(in crate::net::tls) const EXTENDED_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    pub(in crate::net::tls) const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
}

/// One element: its tag, its length, `parts` one after another.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    match u8::try_from(length) {
        Ok(short @ 0..0x80) => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | u8::try_from(digits.len()).expect("a length has at most eight digits"));
            out.extend_from_slice(digits);
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// An element in the bytes that hold it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    /// What is in it.
    pub(super) content: &'a [u8],
    /// It, as it stands there.
    pub(super) whole: &'a [u8],
}

/// Takes elements off the front of some bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    /// The next; `None` at the end, and where the rest is none.
    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Element { tag, content, whole })
    }
}

/// What this gateway must know of a certificate that another made.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// `signatureAlgorithm`, its content.
    algorithm: &'a [u8],
    /// The issuer's `Name`.
    pub(super) issuer: &'a [u8],
    /// The subject's `Name`.
    pub(super) subject: &'a [u8],
    /// `notBefore` and `notAfter`.
    pub(super) validity: [Element<'a>; 2],
    extensions: Elements<'a>,
}

impl<'a> Certificate<'a> {
    /// Reads it. `None` where it is none of version 3.
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut outer = Elements(Elements(der).next().filter(|outer| outer.tag == tag::SEQUENCE)?.content);
        let (signed, algorithm) = (outer.next()?, outer.next()?);
        let mut fields = Elements(signed.content);
        // Version, serial number, algorithm.
        fields.next().filter(|version| version.tag == tag::explicit(0))?;
        let mut fields = fields.skip(2);
        let issuer = fields.next()?.whole;
        let mut times = Elements(fields.next()?.content);
        let subject = fields.next()?.whole;
        let extensions = fields.find(|field| field.tag == tag::explicit(3));
        let extensions = extensions.and_then(|field| Elements(field.content).next());
        Some(Self {
            algorithm: algorithm.content,
            issuer,
            subject,
            validity: [times.next()?, times.next()?],
            extensions: Elements(extensions.map_or(&[][..], |list| list.content)),
        })
    }

    /// The content of an extension's `OCTET STRING`.
    fn extension(&self, oid: &[u8]) -> Option<&'a [u8]> {
        let mut found = self.extensions.filter_map(|extension| {
            let mut parts = Elements(extension.content);
            (parts.next()?.content == oid).then(|| parts.last())?
        });
        found.next().map(|value| value.content)
    }

    /// Whether it may sign others.
    pub(super) fn is_authority(&self) -> bool {
        let constraints = self.extension(oid::BASIC_CONSTRAINTS).and_then(|value| Elements(value).next());
        let is_authority = constraints.and_then(|constraints| Elements(constraints.content).next());
        is_authority.is_some_and(|one| one.tag == tag::BOOLEAN && one.content == [0xff])
    }

    /// Its subject key's identifier.
    pub(super) fn key_identifier(&self) -> Option<&'a [u8]> {
        self.extension(oid::SUBJECT_KEY).and_then(|value| Elements(value).next()).map(|value| value.content)
    }
}

/// The `SubjectPublicKeyInfo` of a certificate of any version. `None` where it is none.
pub(super) fn subject_public_key(der: &[u8]) -> Option<&[u8]> {
    let outer = Elements(der).next().filter(|outer| outer.tag == tag::SEQUENCE)?;
    let signed = Elements(outer.content).next().filter(|signed| signed.tag == tag::SEQUENCE)?;
    // Serial number, algorithm, issuer, validity, subject; a version before them from 2 on.
    let key = Elements(signed.content).skip_while(|field| field.tag == tag::explicit(0)).nth(5)?;
    (key.tag == tag::SEQUENCE).then_some(key.whole)
}

/// The channel binding `tls-server-end-point` of a connection whose server showed `certificate`: its hash, by the hash of
/// its own signature, or SHA-256 where that is older. (RFC 5929, section 4.1.) `None` where the signature has no such hash.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = Certificate::read(certificate)?.algorithm;
    let mut parts = Elements(algorithm);
    let oid = parts.next()?.content;
    let hash = match oid {
        // RSA: MD5, SHA-1; SHA-256, SHA-384, SHA-512.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, number] => match number {
            0x04 | 0x05 | 0x0b => &digest::SHA256,
            0x0c => &digest::SHA384,
            0x0d => &digest::SHA512,
            // RSASSA-PSS names its hash in its parameters; without one it is SHA-1.
            0x0a => {
                let parameters = parts.next().map_or(&[][..], |parameters| parameters.content);
                let sha2 = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
                let at = parameters.windows(sha2.len()).position(|window| window == sha2);
                match at.and_then(|at| parameters.get(at + sha2.len())) {
                    Some(2) => &digest::SHA384,
                    Some(3) => &digest::SHA512,
                    _ => &digest::SHA256,
                }
            }
            _ => return None,
        },
        // ECDSA with SHA-1; with SHA-256, SHA-384, SHA-512.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => &digest::SHA256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, number] => match number {
            2 => &digest::SHA256,
            3 => &digest::SHA384,
            4 => &digest::SHA512,
            _ => return None,
        },
        _ => return None,
    };
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}

/// A point in time, as certificates have it.
pub(super) fn time(seconds: i64) -> Vec<u8> {
    let at = jiff::Timestamp::from_second(seconds).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
    // From 2050 on the year has four digits, in another type. (RFC 5280, section 4.1.2.5.)
    match at.year() {
        ..2050 => element(tag::UTC_TIME, &[at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()]),
        _ => element(tag::GENERALIZED_TIME, &[at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()]),
    }
}

/// The seconds since 1970 of a point in time.
pub(super) fn seconds(time: &Element<'_>) -> Option<i64> {
    let digits = std::str::from_utf8(time.content).ok()?.strip_suffix('Z')?;
    let digits = match time.tag {
        // Years from 50 on are of the last century.
        tag::UTC_TIME if digits.as_bytes().first()? >= &b'5' => format!("19{digits}"),
        tag::UTC_TIME => format!("20{digits}"),
        _ => digits.to_owned(),
    };
    let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", &digits).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_elements_have_long_lengths() {
        for (length, header) in [(0x7f, 2), (0x80, 3), (0xff, 3), (0x100, 4), (0x1_0000, 5)] {
            let body = vec![7; length];
            let der = element(tag::OCTET_STRING, &[&body]);
            assert_eq!(der.len(), length + header);
            let read = Elements(&der).next().expect("an element");
            assert_eq!((read.tag, read.content, read.whole), (tag::OCTET_STRING, &body[..], &der[..]));
        }
        for wrong in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 1], &[0x30, 0x82, 1], &[0x30, 0x85, 0, 0, 0, 0, 0]] {
            assert!(Elements(wrong).next().is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for at in [0, 1_700_000_000, 2_524_607_999, 2_524_608_000, 4_000_000_000] {
            let der = time(at);
            assert_eq!(seconds(&Elements(&der).next().expect("an element")), Some(at));
        }
        assert_eq!(time(2_524_607_999)[0], tag::UTC_TIME);
        assert_eq!(time(2_524_608_000)[0], tag::GENERALIZED_TIME);
    }
}
