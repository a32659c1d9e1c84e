//! What can be wrong with the configuration.

use std::path::PathBuf;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// The file is no TOML, or a value has the wrong form.
    #[error("the configuration file {} is malformed: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A key that is no setting.
    #[error("the configuration file {} has the unknown key {key:?}; the keys are {known}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key found.
        key: String,
        /// The keys there are.
        known: String,
    },
    /// A value that cannot be used.
    #[error("{key}: found {found}; {needed} is needed")]
    Invalid {
        /// The setting.
        key: &'static str,
        /// The value found.
        found: String,
        /// What can be used.
        needed: String,
    },
    /// The configuration in use cannot be written as TOML.
    #[error("the configuration cannot be printed: {reason}")]
    Print {
        /// What the writer says.
        reason: String,
    },
}
