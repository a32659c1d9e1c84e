//! Ids that are being registered or removed, so that each has one who works on it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::sync::IgnorePoison;

/// The ids that are taken.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    ids: Mutex<BTreeSet<String>>,
    freed: Notify,
}

/// An id that is taken until this value is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    all: Arc<Reservations>,
    id: String,
}

impl Reservations {
    /// Takes an id; `None` if somebody else has it.
    pub(super) fn take(self: &Arc<Self>, id: &str) -> Option<Reservation> {
        let is_free = self.ids.lock().ignore_poison().insert(id.to_owned());
        is_free.then(|| Reservation { all: self.clone(), id: id.to_owned() })
    }

    /// Takes an id as soon as it is free.
    pub(super) async fn wait(self: &Arc<Self>, id: &str) -> Reservation {
        loop {
            // Made before the look, so that no release in between is missed.
            let freed = self.freed.notified();
            if let Some(reservation) = self.take(id) {
                return reservation;
            }
            freed.await;
        }
    }

    /// How many ids are taken.
    pub(super) fn count(&self) -> usize {
        self.ids.lock().ignore_poison().len()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.all.ids.lock().ignore_poison().remove(&self.id);
        self.all.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_id_has_one_who_works_on_it() {
        let all = Arc::new(Reservations::default());
        let first = all.take("a").expect("it is free");
        assert!(all.take("a").is_none() && all.take("b").is_some());
        let waiting = tokio::spawn({
            let all = all.clone();
            async move { all.wait("a").await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        let second = waiting.await.expect("no panic");
        assert_eq!(all.count(), 1);
        drop(second);
        assert_eq!(all.count(), 0);
    }
}
