//! Who asks for a prediction, and until when the answer is of use.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a prediction is for. The more interactive classes come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// A tile of a map that somebody looks at.
    Tile,
    /// Uploaded rasters, for a client that waits for the answer.
    Upload,
    /// Background work.
    Job,
}

impl Class {
    /// Every class, the most interactive first.
    pub(super) const ALL: [Class; 3] = [Class::Tile, Class::Upload, Class::Job];

    /// The class's part of the device's time when all classes want it, as a weight.
    pub(super) fn share(self) -> f64 {
        match self {
            Class::Tile => 6.0,
            Class::Upload => 2.0,
            Class::Job => 1.0,
        }
    }
}

/// One of those between whom a class's time is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(u64);

impl ClientId {
    /// The client with this name: an API key, or an address.
    pub fn named(name: impl Hash) -> Self {
        // Seeded by the system, so that nobody can choose a name that stands for somebody else.
        static NAMES: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(NAMES.hash_one(name))
    }

    /// A client unlike all others.
    pub fn unique() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self::named(("unique", COUNT.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Who asks, what for, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// What the prediction is for.
    pub class: Class,
    /// Who shares with whom.
    pub client: ClientId,
    /// When the request came. All its passes are queued by this time, so what has been begun is finished first.
    pub arrived: Instant,
    /// An answer that comes later is of no use.
    pub deadline: Option<Instant>,
}

impl Caller {
    /// A client whose request has just come and must be answered within `limit`.
    pub fn waiting(class: Class, client: ClientId, limit: Duration) -> Self {
        let arrived = Instant::now();
        Self { class, client, arrived, deadline: arrived.checked_add(limit) }
    }

    /// Somebody who waits for as long as it takes, and shares with all others of the class.
    pub fn patient(class: Class) -> Self {
        Self { class, client: ClientId::unique(), arrived: Instant::now(), deadline: None }
    }

    /// The same caller, asking for a prediction of another class.
    pub fn of(self, class: Class) -> Self {
        Self { class, ..self }
    }
}
