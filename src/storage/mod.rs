//! Where the bytes of files come from: memory, this machine's disk, or other machines over HTTP.
//!
//! [`ByteSource`] is what file formats read from. Everything that is fetched goes through one [`Client`], which bounds each
//! wait and each answer and asks only hosts that its [`RemotePolicy`] names.
//!
//! A server that fetches what its clients name can be made to fetch what only the server can see (OWASP: server-side request
//! forgery). Hence hosts are on a list, and addresses inside private networks are refused when a name is looked up, at every
//! hop of a redirect.

mod authorities;
mod aws_profile;
mod block_cache;
mod bucket;
mod byte_source;
mod client;
mod content_coding;
mod credentials;
mod error;
mod guard;
mod headers;
mod host_limiter;
mod http_file;
mod object_stores;
mod parallel;
mod policy;
mod retry;
mod store_http;
mod url;
mod validators;

pub use authorities::Authorities;
pub use bucket::{Bucket, BucketError};
pub use byte_source::{ByteSource, FileBytes};
pub use client::{Client, ClientOptions};
pub use error::{ReadError, RemoteError};
pub use guard::is_private;
pub(crate) use headers::content_range;
pub use http_file::HttpBytes;
pub use object_stores::{ObjectStores, is_remote};
pub(crate) use parallel::in_parallel;
pub use policy::RemotePolicy;
pub(crate) use retry::Retries;
pub use url::RemoteUrl;
