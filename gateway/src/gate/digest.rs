//! What an approver approves, as one SHA-256: change any of it and the approval is for something else.

use sha2::{Digest as _, Sha256};

use super::Connection;
use crate::operation::{Digest, Frame, Operation, RequestId, Shape};

/// For an operation that waits in its connection: bound to this connection and, by the request, to this one time.
pub(super) fn of_waiting(connection: &Connection, operation: &Operation, frame: &Frame, nonce: RequestId) -> Digest {
    let mut sum = Sum::new(b"holdpoint wait 1");
    sum.add(connection.id.as_bytes());
    sum.add(nonce.as_bytes());
    sum.about(connection, operation, frame);
    sum.finish()
}

/// For an operation that will be sent again: the same for the same workload, user, executable, resource, bytes, session
/// state and past. Where the executable or the past is not known, only on the same connection.
pub(super) fn of_retrying(
    connection: &Connection,
    operation: &Operation,
    frame: &Frame,
    past: Option<Digest>,
) -> Digest {
    let mut sum = Sum::new(b"holdpoint retry 2");
    sum.about(connection, operation, frame);
    sum.add(past.as_ref().map_or(b"".as_slice(), |past| &past.0));
    if past.is_none() || connection.process.sha256.is_none() {
        sum.add(connection.id.as_bytes());
    }
    sum.finish()
}

/// For operations of one shape: the same for the same workload, user, executable, resource and session state, whatever
/// values they have.
pub(super) fn of_grant(connection: &Connection, operation: &Operation, shape: &Shape) -> Digest {
    let mut sum = Sum::new(b"holdpoint grant 1");
    sum.caller(connection);
    sum.add(operation.kind.as_bytes());
    sum.add(shape.fingerprint.as_bytes());
    sum.add(&shape.form.0);
    sum.state(operation);
    sum.finish()
}

/// A hash over fields, each with its length before it, so that no two lists of fields give the same bytes.
struct Sum(Sha256);

impl Sum {
    fn new(purpose: &[u8]) -> Self {
        let mut sum = Self(Sha256::new());
        sum.add(purpose);
        sum
    }

    fn add(&mut self, field: &[u8]) {
        self.0.update((field.len() as u64).to_be_bytes());
        self.0.update(field);
    }

    fn caller(&mut self, connection: &Connection) {
        self.add(connection.protocol.as_str().as_bytes());
        self.add(connection.destination.0.to_string().as_bytes());
        self.add(connection.resource.as_ref().map_or(b"".as_slice(), |resource| resource.name.as_bytes()));
        self.add(connection.workload.name.as_bytes());
        self.add(connection.workload.unit.as_deref().unwrap_or_default().as_bytes());
        self.add(&connection.process.uid.to_be_bytes());
        self.add(connection.process.sha256.as_ref().map_or(b"".as_slice(), |digest| &digest.0));
    }

    fn about(&mut self, connection: &Connection, operation: &Operation, frame: &Frame) {
        self.caller(connection);
        self.add(operation.kind.as_bytes());
        self.add(&operation.text);
        self.add(frame.wire());
        self.add(&(operation.parameters.len() as u64).to_be_bytes());
        for parameter in &operation.parameters {
            self.add(parameter.kind.as_bytes());
            self.add(&[u8::from(parameter.binary), u8::from(parameter.value.is_none())]);
            self.add(parameter.value.as_deref().unwrap_or_default());
        }
        self.state(operation);
    }

    fn state(&mut self, operation: &Operation) {
        self.add(&(operation.state.len() as u64).to_be_bytes());
        for (name, value) in operation.state.iter() {
            self.add(name.as_bytes());
            self.add(value.as_bytes());
        }
    }

    fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
