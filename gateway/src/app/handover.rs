//! Handing over to the gateway that comes after, so that an upgrade refuses nobody.
//!
//! ```text
//! new: whose state is this?  ──►  old: the same; here is every listener (SCM_RIGHTS)
//! new: I have them           ──►  old: accepts no more, refuses what is held, lets running operations end,
//!                                      closes the record, ends; the end of the stream says so
//! ```
//! Both hold the same listening sockets for a while, so whoever connects in between waits in their backlog. The new
//! gateway has read its settings and policies before it says the first word, and until it has said the last one the old
//! one serves as if nothing had been asked.
//!
//! # Security
//! The socket is root's alone, by its mode and by the peer's credentials: who has the listeners is the gateway.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{
            fs::{MetadataExt, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, getsockopt, recvmsg, sendmsg, sockopt,
};
use tokio::{net::TcpListener, sync::mpsc};

use crate::config::Config;

/// Waits for a gateway that wants to take over.
pub(super) struct Handover {
    successor: mpsc::Receiver<UnixStream>,
}

/// Which gateway: by the directories that only one can have at a time, whatever they are called where it runs.
type Identity = [u8; 32];

impl Handover {
    /// Listens for one. `listeners` are asked for when it comes.
    pub(super) fn listen(
        config: &Config,
        listeners: impl Fn() -> Vec<Arc<TcpListener>> + Send + 'static,
    ) -> Result<Self> {
        let path = socket(config);
        let failed = || format!("cannot make the socket {}", path.display());
        let identity = identity(config).with_context(failed)?;
        let _none = fs::remove_file(&path);
        let asked = UnixListener::bind(&path).with_context(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(failed)?;
        let (found, successor) = mpsc::channel(1);
        let serve = move || {
            for stream in asked.incoming().map_while(Result::ok) {
                match hand_over(&stream, &identity, &listeners) {
                    Ok(()) => return drop(found.blocking_send(stream)),
                    Err(error) => tracing::warn!(%error, "a gateway wanted to take over and did not; this one goes on"),
                }
            }
        };
        std::thread::Builder::new().name("handover".into()).spawn(serve)?;
        Ok(Self { successor })
    }

    /// Waits until a successor has every listener. The stream is to be kept until everything is closed.
    pub(super) async fn asked(&mut self) -> UnixStream {
        match self.successor.recv().await {
            Some(stream) => stream,
            None => std::future::pending().await,
        }
    }
}

fn hand_over(mut stream: &UnixStream, own: &Identity, listeners: impl Fn() -> Vec<Arc<TcpListener>>) -> Result<()> {
    let peer = getsockopt(stream, sockopt::PeerCredentials).context("the peer has no credentials")?;
    if peer.uid() != 0 {
        bail!("user {} may not take over, only root", peer.uid());
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut asked = [0; GREETING.len() + size_of::<Identity>()];
    stream.read_exact(&mut asked).context("it said nothing")?;
    if asked[..GREETING.len()] != *GREETING || asked[GREETING.len()..] != *own {
        stream.write_all(&[OTHER])?;
        bail!("it has another state directory, or speaks another version");
    }
    let listeners = listeners();
    for some in listeners.chunks(AT_ONCE) {
        let fds: Vec<RawFd> = some.iter().map(|listener| listener.as_raw_fd()).collect();
        let (word, rights) = ([SOME], [ControlMessage::ScmRights(&fds)]);
        sendmsg::<UnixAddr>(stream.as_raw_fd(), &[IoSlice::new(&word)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    }
    stream.write_all(&[ALL])?;
    let mut taken = [0];
    stream.read_exact(&mut taken).context("it ended before it had the listeners")?;
    tracing::info!(pid = peer.pid(), listeners = listeners.len(), "handing over to another gateway");
    Ok(())
}

/// Takes over from the gateway that runs: every listener that it had. `None` where none runs, or one from a version
/// that does not hand over. `rehearse` says whether this one could serve, before the other is told to end. Returns when it
/// has ended.
pub(super) fn take_over(config: &Config, rehearse: impl FnOnce() -> Result<()>) -> Result<Option<Vec<OwnedFd>>> {
    // One that has never run here has nothing to take over.
    let Ok(identity) = identity(config) else { return Ok(None) };
    let Ok(mut stream) = UnixStream::connect(socket(config)) else { return Ok(None) };
    tracing::info!("another gateway runs here: taking over");
    rehearse().context("the gateway that runs goes on")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[&GREETING[..], &identity].concat())?;
    let listeners = receive(&stream).context("the gateway that runs does not hand over")?;
    let Some(listeners) = listeners else { return Ok(None) };
    stream.write_all(&[ALL])?;
    // It may let operations run for as long as its own settings say.
    stream.set_read_timeout(None)?;
    // An error is an end too: it was killed.
    let _ended = stream.read_to_end(&mut Vec::new());
    Ok(Some(listeners))
}

/// What the old gateway sends; `None` when it belongs to another state directory.
fn receive(stream: &UnixStream) -> Result<Option<Vec<OwnedFd>>> {
    let mut listeners = Vec::new();
    loop {
        let mut word = [0];
        let mut rights = nix::cmsg_space!([RawFd; AT_ONCE]);
        let mut iov = [IoSliceMut::new(&mut word)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut iov, Some(&mut rights), flags)?;
        let count = message.bytes;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                // SAFETY: the kernel has just made these descriptors for us alone.
                listeners.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        match (count, word[0]) {
            (1, SOME) => {}
            (1, ALL) => return Ok(Some(listeners)),
            (1, OTHER) => return Ok(None),
            _ => bail!("it ended in the middle"),
        }
    }
}

/// By device and inode, since a directory may have another path in another container.
fn identity(config: &Config) -> io::Result<Identity> {
    let mut identity = Identity::default();
    for (half, directory) in identity.chunks_exact_mut(16).zip([&config.state, &config.bpffs]) {
        let found = fs::metadata(directory)?;
        half[..8].copy_from_slice(&found.dev().to_be_bytes());
        half[8..].copy_from_slice(&found.ino().to_be_bytes());
    }
    Ok(identity)
}

/// Where the running gateway can be asked.
fn socket(config: &Config) -> std::path::PathBuf {
    Path::join(&config.run, "handover.sock")
}

/// The first word, with the version of all this.
const GREETING: &[u8; 8] = b"HOLDPT\0\x01";
/// Some listeners come with this byte.
const SOME: u8 = b'L';
/// That was all of them; or: I have them all.
const ALL: u8 = b'.';
/// Another state directory, or version.
const OTHER: u8 = b'!';
/// How many descriptors go with one message; the kernel takes 253.
const AT_ONCE: usize = 128;
/// How long one side waits for the other's next word. Loading the kernel programs once is part of it.
const PATIENCE: Duration = Duration::from_secs(20);
