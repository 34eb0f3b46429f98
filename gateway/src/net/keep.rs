//! Listening sockets in the service manager's keeping, so that they outlive this process.
//!
//! Where systemd starts the gateway with room in its store (`FileDescriptorStoreMax=`), it gets a copy of every listener.
//! Then nobody is refused while a gateway ends and the next one starts: connections wait in the sockets' backlogs.
//! Without it, or without room there, everything here does nothing.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::{OnceLock, mpsc},
};

use sd_notify::NotifyState;

use super::NamespaceId;

/// Gives copies of the listeners in the namespace `id`.
pub fn store(id: NamespaceId, listeners: &[impl AsFd]) {
    let copies: io::Result<Vec<OwnedFd>> = listeners.iter().map(|one| one.as_fd().try_clone_to_owned()).collect();
    tell(move || {
        let copies = copies?;
        let fds: Vec<BorrowedFd<'_>> = copies.iter().map(AsFd::as_fd).collect();
        sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(&name(id))], &fds)
    });
}

/// Takes them back: nobody is left in the namespace.
pub fn forget(id: NamespaceId) {
    tell(move || sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name(id))]));
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

type Word = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// One after the other and on a thread of its own: a manager that is slow to listen keeps whoever tells it something waiting,
/// and namespaces are to be guarded meanwhile.
fn tell(word: impl FnOnce() -> io::Result<()> + Send + 'static) {
    static TELLER: OnceLock<Option<mpsc::Sender<Word>>> = OnceLock::new();
    let teller = TELLER.get_or_init(|| {
        std::env::var_os("NOTIFY_SOCKET")?;
        let (tell, words) = mpsc::channel::<Word>();
        let speak = move || words.iter().for_each(|word| heard(word()));
        std::thread::Builder::new()
            .name("manager".into())
            .spawn(speak)
            .map(|_| tell)
            .map_err(|error| heard(Err(error)))
            .ok()
    });
    if let Some(teller) = teller {
        // The thread ends with the process.
        let _always = teller.send(Box::new(word));
    }
}

fn heard(told: io::Result<()>) {
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager does not hear about a listener");
    }
}
