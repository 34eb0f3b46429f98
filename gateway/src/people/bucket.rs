//! How often an address may try to sign in.

use std::{collections::HashMap, net::IpAddr, sync::Mutex, time::Duration};

use tokio::time::Instant;

/// One bucket for each address: [`BURST`] attempts, and another every [`PAUSE`].
#[derive(Default)]
pub struct Buckets(Mutex<HashMap<IpAddr, Instant>>);

impl Buckets {
    /// Whether this address may try once more now; counted.
    pub fn take(&self, address: IpAddr) -> bool {
        let now = Instant::now();
        let mut all = self.0.lock().expect("nothing panics while it holds this lock");
        if all.len() >= MOST {
            all.retain(|_, full| *full > now);
        }
        // The moment at which the bucket would be full again.
        let full = all.get(&address).copied().unwrap_or(now).max(now) + PAUSE;
        if full > now + PAUSE * BURST {
            return false;
        }
        all.insert(address, full);
        true
    }
}

/// Attempts at once.
const BURST: u32 = 20;

/// Between attempts after that.
const PAUSE: Duration = Duration::from_secs(3);

/// Addresses after which those whose bucket is full are forgotten.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_may_try_so_often_and_others_still_may() {
        let (buckets, one, other) = (Buckets::default(), [127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        assert_eq!((0..100).filter(|_| buckets.take(one)).count(), 20);
        assert!(buckets.take(other));
        tokio::time::advance(PAUSE * 2).await;
        assert_eq!((0..100).filter(|_| buckets.take(one)).count(), 2);
    }
}
