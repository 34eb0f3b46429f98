//! Redaction of values, pure: bytes in, bytes out. Where the values lie in a reply is each protocol's to know.
