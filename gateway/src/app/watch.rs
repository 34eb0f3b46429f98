//! Looks after what the gateway keeps in the kernel, until the gateway stops.
//!
//! # Correctness
//! It must end before another gateway may take over: two that put their own programs back would never come to rest.

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use crate::{damage::Damages, intercept::Interceptor};

/// Looks until it is dropped.
pub(super) struct Watch {
    stop: Option<mpsc::Sender<()>>,
    looking: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins.
    pub(super) fn start(interceptor: Arc<Interceptor>, damages: Damages) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let look = move || {
            while stopped.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                interceptor.look_after().into_iter().for_each(|damage| damages.note(damage));
            }
        };
        let looking = std::thread::Builder::new().name("watch".into()).spawn(look)?;
        Ok(Self { stop: Some(stop), looking: Some(looking) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(looking) = self.looking.take() {
            // A panic there was printed when it happened.
            let _ = looking.join();
        }
    }
}

/// How often: health has to tell of damage within two seconds, and a guard that is gone guards nobody for so long.
/// One look costs some forty system calls per guarded cgroup.
const LOOK: Duration = Duration::from_millis(250);
