//! Listening sockets in the service manager's keeping, so that they outlive this process.
//!
//! Where systemd starts the gateway with room in its store (`FileDescriptorStoreMax=`), it gets a copy of every listener.
//! Then nobody is refused while a gateway ends and the next one starts: connections wait in the sockets' backlogs.
//! Without it, or without room there, everything here does nothing.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

use sd_notify::NotifyState;

use super::NamespaceId;

/// Gives copies of the listeners in the namespace `id`.
pub fn store(id: NamespaceId, listeners: &[impl AsFd]) {
    let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    tell(sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(&name(id))], &fds));
}

/// Takes them back: nobody is left in the namespace.
pub fn forget(id: NamespaceId) {
    tell(sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name(id))]));
}

/// What was kept while no gateway ran. The answer is given once.
///
/// # Errors
/// The service manager's words (`LISTEN_FDS`, `LISTEN_PID`) are none.
pub fn kept() -> io::Result<Vec<OwnedFd>> {
    static TAKEN: std::sync::Once = std::sync::Once::new();
    let mut kept = Vec::new();
    let mut failed = None;
    TAKEN.call_once(|| match sd_notify::listen_fds() {
        // SAFETY: the service manager has put them there for us, and nobody else asks for them: this runs once.
        Ok(fds) => kept = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect(),
        Err(error) => failed = Some(error),
    });
    failed.map_or(Ok(kept), Err)
}

fn name(NamespaceId(id): NamespaceId) -> String {
    format!("netns-{id}")
}

fn tell(told: io::Result<()>) {
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager does not hear about a listener");
    }
}
