//! The closed list of reasons why an operation can fail, the one error that all options share, and texts that may be shown.
//!
//! Every module has its own error type, which has a method `kind`. Only the HTTP layer turns kinds into status codes.

/// Why an operation failed, as far as it matters to the caller. Numbers are the HTTP status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A value is malformed or out of range (400).
    Invalid,
    /// The named model, task, source or tile does not exist (404).
    NotFound,
    /// The task has no answer in the requested format (406).
    NotAcceptable,
    /// The named thing already exists, or cannot be changed in its present state (409).
    Conflict,
    /// There are more bytes or pixels than the limit (413).
    TooLarge,
    /// The media type is not supported (415).
    UnsupportedMedia,
    /// The raster or the weights can be read but not used (422).
    Unusable,
    /// A queue is full (429).
    Overloaded,
    /// This program or its machine is at fault (500).
    Internal,
    /// A host that this server depends on failed (502).
    Upstream,
    /// This server lacks something that waiting does not bring: weights that it was not given and may not download (501).
    NotProvided,
    /// What is needed is not there now: a source that is being opened, or a server that is stopping (503).
    Unavailable,
    /// The operation took too long (504).
    TimedOut,
}

/// An option has a value that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: found {found:?}; {needed} is needed")]
pub struct InvalidValue {
    /// The option's name, which query parameters and flags share.
    pub option: &'static str,
    /// The value; a long text is cut.
    pub found: String,
    /// What the option takes.
    pub needed: String,
}

impl InvalidValue {
    /// `found` may be any text of a client; a long one is cut.
    pub fn new(option: &'static str, found: &str, needed: impl Into<String>) -> Self {
        const MAX_CHARS: usize = 100;
        Self { option, found: found.chars().take(MAX_CHARS).collect(), needed: needed.into() }
    }
}

/// A text with its control characters escaped. Names in files may hold some that move a terminal's cursor or forge lines of a log.
pub fn printable(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() || c == '\n';
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_plain(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[31m\r\u{9b}b\nä"), "a\\u{1b}[31m\\r\\u{9b}b\nä");
    }
}
