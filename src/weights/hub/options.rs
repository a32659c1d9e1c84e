//! Where the hub and its cache are, as the hub's own tools let users choose.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::storage::Authorities;

/// Where the hub and its cache are, and how to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubOptions {
    /// The folder of the cache, which holds folders `models--…`.
    pub cache_dir: PathBuf,
    /// The hub's address without a final slash.
    pub endpoint: String,
    /// Bearer token. It is sent to the hub, but not to the hosts that the hub redirects to.
    pub token: Option<String>,
    /// If set, no connection is ever opened.
    pub offline: bool,
    /// Longest wait for a connection, and for the next bytes.
    pub timeout: Duration,
    /// Pause before the second attempt; it doubles with every further attempt.
    pub retry_delay: Duration,
    /// Whose certificates are trusted.
    pub authorities: Authorities,
}

impl HubOptions {
    /// The options that the hub's own tools take from the environment variables `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`,
    /// `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`, which `variable` looks up.
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` name the certificates that are trusted.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| given(name).map(PathBuf::from);
        let home = path("HF_HOME").unwrap_or_else(|| {
            let user_cache = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME").or(path("USERPROFILE"))?.join(".cache")));
            user_cache.unwrap_or_else(|| PathBuf::from(".cache")).join("huggingface")
        });
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = given("HF_TOKEN").or_else(|| fs::read_to_string(token_file).ok());
        Self {
            cache_dir: path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            endpoint: given("HF_ENDPOINT")
                .unwrap_or_else(|| "https://huggingface.co".to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: given("HF_HUB_OFFLINE")
                .is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str())),
            timeout: Duration::from_secs(30),
            retry_delay: Duration::from_millis(500),
            authorities: Authorities::from_variables(&variable),
        }
    }
}
