//! Area jobs that servers and workers share through a database.
//!
//! [`submit`] plans a job and puts a message for each of its blocks into a [`BlockQueue`]; any number of [`Worker`]s lease messages,
//! make the blocks with [`areas`](crate::areas) and acknowledge them. Whoever acknowledges the last block puts one more message into
//! the queue: to write the collection and the mosaic. Everything a message asks for may be done twice, as files are put under their
//! names once, so a lease that ends early costs time and nothing else.
//!
//! | file | what it does |
//! | --- | --- |
//! | `queue` | the trait, jobs, leases, and the rules that both databases share |
//! | `postgres`, `connection`, `schema` | PostgreSQL with pgmq, for many machines |
//! | `sqlite` | a file, for the workers of one machine |
//! | `database_url` | which of them a URL names |
//! | `documents` | sources and models that servers share |
//! | `submit` | from a plan to a job in the queue |
//! | `prepared` | what a worker keeps of the jobs it works on |
//! | `worker`, `renewal` | leasing, making, acknowledging, giving up |

mod connection;
mod database_url;
mod documents;
mod error;
mod postgres;
mod prepared;
mod queue;
mod renewal;
mod schema;
mod sqlite;
mod submit;
mod worker;

pub use database_url::DatabaseUrl;
pub use error::FleetError;
pub use prepared::JobReader;
pub use queue::{
    BlockQueue, FleetJob, FleetJobState, JobId, Lease, MAX_ATTEMPTS, Message, NewFleetJob, SendProgress, StoredJob, fail,
    hand_back,
};
pub use submit::{Submitted, submit, submit_plan};
pub use worker::{Worker, WorkerOptions, WorkerStatus};
