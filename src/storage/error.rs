//! What can go wrong on the way to a remote file. Addresses are shown without their secrets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::RemoteUrl;
use crate::error::ErrorKind;

/// Why something remote could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// No address this program can ask.
    #[error("{shown:?} cannot be fetched: {needed}")]
    BadUrl {
        /// The text without what may be secret.
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
    /// Nothing came in time.
    #[error("{url} did not answer within {} s", timeout.as_secs_f64())]
    TimedOut {
        /// The address.
        url: RemoteUrl,
        /// How long was waited.
        timeout: Duration,
    },
    /// No answer, or only a part of one.
    #[error("{url} cannot be fetched: {reason}")]
    Failed {
        /// The address.
        url: RemoteUrl,
        /// What went wrong.
        reason: String,
    },
    /// Another file is there by now.
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
        /// Most bytes.
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
            Self::Status { .. } | Self::Failed { .. } | Self::Changed { .. } => ErrorKind::Upstream,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
        }
    }

    /// A text that is no address; what may be secret in it is left out.
    pub(crate) fn bad_url(text: &str, needed: &'static str) -> Self {
        Self::BadUrl { shown: shown(text), needed }
    }

    /// A host that sends whole files only.
    pub(super) fn no_ranges(url: &RemoteUrl) -> Self {
        let reason = "its host sends whole files only; one that answers range requests (Accept-Ranges: bytes) is needed";
        Self::Failed { url: url.clone(), reason: reason.to_owned() }
    }

    /// A host that sends another part than was asked for.
    pub(super) fn wrong_range(url: &RemoteUrl) -> Self {
        Self::Failed { url: url.clone(), reason: "its host sent another range than was asked for".to_owned() }
    }

    /// Whether the host says that there is no such file.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404 | 410, .. })
    }
}

/// An address that may not even be one, without what may be secret.
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
