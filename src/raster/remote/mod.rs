//! Imagery over HTTP: one client for everything that is fetched, and the rules of what may be fetched.
//!
//! A server that fetches what its clients name can be made to fetch what only the server can see (OWASP: server-side request
//! forgery). Hence hosts are on a list, and addresses inside private networks are refused when a name is looked up, at every
//! hop of a redirect.

mod address;
mod client;
mod error;
mod file;
mod gate;
mod policy;
mod signature;
mod storage;
mod url;

pub use address::is_private;
pub use client::{Client, ClientOptions};
pub use error::RemoteError;
pub use file::HttpBytes;
pub(in crate::raster) use file::in_parallel;
pub use policy::RemotePolicy;
pub use storage::{Storage, is_remote};
pub use url::RemoteUrl;
