//! Memory for the weights of models: reserved before a model is loaded, and given back when its last user lets go.
//!
//! Loads that start together would otherwise all find the memory free and exceed it together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes in the unit of reservations.
pub(super) const MIB: usize = 1 << 20;

/// Between looks at what is free or could be evicted, while others hold the memory.
const PAUSE: Duration = Duration::from_millis(20);

/// The memory that all networks may take, loaded and loading.
#[derive(Clone, Debug)]
pub(super) struct ModelMemory {
    free_mib: Arc<Semaphore>,
    total_mib: u32,
}

/// Memory that a network takes, or will take. It is given back on drop.
#[derive(Debug)]
pub(super) struct Reservation {
    permit: OwnedSemaphorePermit,
    total_mib: u32,
}

impl ModelMemory {
    pub(super) fn new(mib: u64) -> Self {
        let most = Semaphore::MAX_PERMITS.try_into().unwrap_or(u32::MAX);
        let total_mib = u32::try_from(mib).unwrap_or(most).min(most);
        Self { free_mib: Arc::new(Semaphore::new(total_mib as usize)), total_mib }
    }

    pub(super) fn total_mib(&self) -> u32 {
        self.total_mib
    }

    /// Reserves memory for a network of so many bytes, or all of it for one that is larger. While there is too little, `evict` is
    /// asked to make room for so many MiB; what running requests and other loads hold is waited for. A large network keeps no
    /// small one waiting behind it.
    pub(super) async fn reserve<Evicted: Future<Output = ()>>(
        &self,
        bytes: usize,
        mut evict: impl FnMut(u32) -> Evicted,
    ) -> Reservation {
        let wanted = mib(bytes).min(self.total_mib);
        loop {
            if let Some(permit) = self.take(wanted) {
                return Reservation { permit, total_mib: self.total_mib };
            }
            let free = self.free_mib.available_permits().try_into().unwrap_or(u32::MAX);
            evict(wanted.saturating_sub(free)).await;
            if let Some(permit) = self.take(wanted) {
                return Reservation { permit, total_mib: self.total_mib };
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn take(&self, mib: u32) -> Option<OwnedSemaphorePermit> {
        self.free_mib.clone().try_acquire_many_owned(mib).ok()
    }
}

impl Reservation {
    pub(super) fn mib(&self) -> u32 {
        self.permit.num_permits().try_into().unwrap_or(u32::MAX)
    }

    /// Corrects the estimate once the network is there. What was reserved in vain is given back; what is missing is taken if it is
    /// free.
    pub(super) fn settle(&mut self, bytes: usize) {
        let (held, needed) = (self.mib(), mib(bytes).min(self.total_mib));
        if needed < held {
            drop(self.permit.split((held - needed) as usize));
        } else if let Ok(more) = self.permit.semaphore().clone().try_acquire_many_owned(needed - held) {
            self.permit.merge(more);
        }
    }
}

fn mib(bytes: usize) -> u32 {
    bytes.div_ceil(MIB).try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use super::*;

    #[tokio::test]
    async fn what_is_held_is_never_more_than_there_is() {
        let memory = ModelMemory::new(10);
        let (most, now) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let load = async |size: u32| {
            let held = memory.reserve(size as usize * MIB, |_| ready(())).await;
            now.set(now.get() + held.mib());
            most.set(most.get().max(now.get()));
            tokio::time::sleep(Duration::from_millis(1)).await;
            now.set(now.get() - held.mib());
        };
        futures::future::join_all((0..28).map(|i| load(1 + i % 7))).await;
        assert!((7..=10).contains(&most.get()), "{}", most.get());
        let larger = memory.reserve(99 * MIB, |_| ready(())).await;
        assert_eq!((larger.mib(), memory.free_mib.available_permits()), (10, 0));
        drop(larger);
        assert_eq!(memory.free_mib.available_permits(), 10);
    }

    #[tokio::test]
    async fn room_is_made_only_when_it_is_needed() {
        let memory = ModelMemory::new(10);
        let mut idle = Some(memory.reserve(6 * MIB, |_| -> Ready<()> { panic!("there was room") }).await);
        let evict = |_| {
            idle = None;
            ready(())
        };
        let loaded = memory.reserve(5 * MIB, evict).await;
        assert_eq!((loaded.mib(), idle.is_none()), (5, true));
    }

    #[tokio::test]
    async fn an_estimate_is_corrected() {
        let memory = ModelMemory::new(10);
        let mut reservation = memory.reserve(6 * MIB, |_| ready(())).await;
        for (actual, held) in [(4, 4), (8, 8), (99, 10), (1, 1)] {
            reservation.settle(actual * MIB);
            assert_eq!((reservation.mib(), memory.free_mib.available_permits()), (held, 10 - held as usize));
        }
    }
}
