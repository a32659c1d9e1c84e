//! What can go wrong on the way to a remote file. Addresses are shown without their secrets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::RemoteUrl;
use crate::error::ErrorKind;

/// Why something could not be fetched from another machine.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// Not an address that can be fetched.
    #[error("{shown:?} cannot be fetched: {needed}")]
    BadUrl {
        /// The text without possible secrets.
        shown: String,
        /// What is needed.
        needed: &'static str,
    },
    /// The operator has not allowed the host.
    #[error("host {host} is not allowed; the server has to be started with --allow-host {host}")]
    HostNotAllowed {
        /// The host.
        host: String,
    },
    /// The host lies in a private network.
    #[error(
        "host {host} is in a private network; the server has to be started with --allow-private-hosts to fetch from it"
    )]
    PrivateHost {
        /// The host.
        host: String,
    },
    /// The host answered, but not with the file.
    #[error("{url} was answered with {status}{}", advice(*.status))]
    Status {
        /// The address.
        url: RemoteUrl,
        /// The status code.
        status: u16,
    },
    /// No complete answer in time.
    #[error("{url} did not answer within {} s", timeout.as_secs_f64())]
    TimedOut {
        /// The address.
        url: RemoteUrl,
        /// The time that was allowed.
        timeout: Duration,
    },
    /// No answer, or an unusable one.
    #[error("{url} cannot be fetched: {reason}")]
    Failed {
        /// The address.
        url: RemoteUrl,
        /// What went wrong.
        reason: String,
    },
    /// The host sends the file packed, so that parts of it cannot be read.
    #[error("{url} is stored packed ({coding}); a host that sends the file itself is needed")]
    Packed {
        /// The address.
        url: RemoteUrl,
        /// The coding that its host names.
        coding: String,
    },
    /// The file was replaced after it was opened.
    #[error("{url} has changed since it was opened; it has to be opened again")]
    Changed {
        /// The address.
        url: RemoteUrl,
    },
    /// More bytes than are accepted.
    #[error("{url} has more than the {limit} bytes accepted")]
    TooLarge {
        /// The address.
        url: RemoteUrl,
        /// The limit.
        limit: u64,
    },
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => ": it may not be read without credentials, or a signature has expired",
        404 | 410 => ": there is no such file",
        429 => ": too many requests",
        _ => "",
    }
}

impl RemoteError {
    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadUrl { .. } | Self::HostNotAllowed { .. } | Self::PrivateHost { .. } => ErrorKind::Invalid,
            Self::Status { .. } | Self::Failed { .. } | Self::Packed { .. } | Self::Changed { .. } => ErrorKind::Upstream,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
        }
    }

    /// [`RemoteError::BadUrl`] for a text, leaving out possible secrets.
    pub(crate) fn bad_url(text: &str, needed: &'static str) -> Self {
        Self::BadUrl { shown: shown(text), needed }
    }

    /// The host ignores range requests.
    pub(super) fn no_ranges(url: &RemoteUrl) -> Self {
        let reason = "its host sends whole files only; one that answers range requests (Accept-Ranges: bytes) is needed";
        Self::Failed { url: url.clone(), reason: reason.to_owned() }
    }

    /// The host sent another part than was asked for.
    pub(super) fn wrong_range(url: &RemoteUrl) -> Self {
        Self::Failed { url: url.clone(), reason: "its host sent another range than was asked for".to_owned() }
    }

    /// True if the host says that there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404 | 410, .. })
    }
}

/// A text without what would be secret if it were an address: user name, password and query.
fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let text = match text.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find('/').unwrap_or(rest.len());
            let start = rest[..end].rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[start..])
        }
        None => text.to_owned(),
    };
    text.chars().take(200).collect()
}

/// Why the bytes of a file cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The file ends earlier.
    #[error("{len} bytes are needed at offset {offset}, but the file ends at {file_len}")]
    BeyondEnd {
        /// First byte.
        offset: u64,
        /// Bytes wanted.
        len: usize,
        /// Bytes of the file.
        file_len: u64,
    },
    /// The disk fails.
    #[error(transparent)]
    Io(Arc<io::Error>),
    /// Another machine fails.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}
