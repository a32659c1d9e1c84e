//! The short closed list of reasons for which anything here can fail, and the one error that every option shares.
//!
//! Every module has its own error enum; each of them says its [`ErrorKind`], and the HTTP layer alone turns kinds into
//! status codes.

/// Why something failed, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A value is malformed or out of range (400).
    Invalid,
    /// The named model, task, source or tile does not exist (404).
    NotFound,
    /// The wanted output format cannot be had (406).
    NotAcceptable,
    /// The thing exists already or may not be changed (409).
    Conflict,
    /// More bytes or pixels than the limit (413).
    TooLarge,
    /// The media type is not understood (415).
    UnsupportedMedia,
    /// The raster or the weights were read but do not fit (422).
    Unusable,
    /// The queue is full (429).
    Overloaded,
    /// A fault of this program (500).
    Internal,
    /// Something this server depends on failed (502).
    Upstream,
    /// Loading or stopping (503).
    Unavailable,
    /// It took too long (504).
    TimedOut,
}

/// A value of an option that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: found {found:?}; {needed} is needed")]
pub struct InvalidValue {
    /// The option, by the name that query parameters and flags share.
    pub option: &'static str,
    /// The start of what was found.
    pub found: String,
    /// What the option takes.
    pub needed: String,
}

impl InvalidValue {
    /// `found` may be any text of a client; its start is kept.
    pub fn new(option: &'static str, found: &str, needed: impl Into<String>) -> Self {
        const MAX_CHARS: usize = 100;
        Self { option, found: found.chars().take(MAX_CHARS).collect(), needed: needed.into() }
    }
}
