//! Where a shared cache is.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use serde::{Deserialize, Serialize};

/// `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://…` over TLS. Serialised with its secrets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RedisUrl {
    text: String,
    host: String,
    port: u16,
    has_tls: bool,
    login: RedisConnectionInfo,
}

impl RedisUrl {
    /// Name or address of the host, and its port.
    pub(super) fn endpoint(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Whether TLS is spoken.
    pub(super) fn has_tls(&self) -> bool {
        self.has_tls
    }

    /// User, password and number of the database.
    pub(super) fn login(&self) -> &RedisConnectionInfo {
        &self.login
    }

    /// The URL without user and password, for people.
    pub fn hidden(&self) -> Self {
        let scheme = if self.has_tls { "rediss" } else { "redis" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let has_login = self.login.username().is_some() || self.login.password().is_some();
        let login = if has_login { ":********@" } else { "" };
        let text = format!("{scheme}://{login}{host}:{}/{}", self.port, self.login.db());
        Self { text, ..self.clone() }
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    /// What cannot be read is not repeated: it may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = |found: &str, reason: String| {
            format!("found {found}; redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS, is needed{reason}")
        };
        let (has_tls, rest) = match text.split_once("://") {
            Some(("redis" | "valkey", rest)) => (false, rest),
            Some(("rediss" | "valkeys", rest)) => (true, rest),
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') => {
                return Err(invalid(&format!("{scheme}://…"), String::new()));
            }
            _ => return Err(invalid("no URL", String::new())),
        };
        // The crate knows TLS as a kind of connection; here it is spoken over one.
        let parsed = format!("redis://{rest}").into_connection_info();
        let info: ConnectionInfo = parsed.map_err(|error| invalid("redis://…", format!(" ({error})")))?;
        let ConnectionAddr::Tcp(host, port) = info.addr().clone() else { return Err(invalid("no host", String::new())) };
        let login = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(Self { text: text.to_owned(), host, port, has_tls, login })
    }
}

impl TryFrom<String> for RedisUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RedisUrl> for String {
    fn from(url: RedisUrl) -> String {
        url.text
    }
}

impl PartialEq for RedisUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hidden().text)
    }
}

impl fmt::Display for RedisUrl {
    /// Without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hidden().text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_and_show_no_password() {
        for (text, host, port, has_tls, shown) in [
            ("redis://cache", "cache", 6379, false, "redis://cache:6379/0"),
            ("valkey://127.0.0.1:7000/2", "127.0.0.1", 7000, false, "redis://127.0.0.1:7000/2"),
            (
                "rediss://me:secret@cache.example.org",
                "cache.example.org",
                6379,
                true,
                "rediss://:********@cache.example.org:6379/0",
            ),
            ("redis://:secret@[::1]:1", "::1", 1, false, "redis://:********@[::1]:1/0"),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!((url.endpoint(), url.has_tls()), ((host, port), has_tls), "{text}");
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
            assert_eq!(String::from(url.clone()), text);
            assert!(shown.parse::<RedisUrl>().is_ok(), "{shown}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for text in [
            "",
            "cache:6379",
            "http://cache",
            "redis://",
            "redis://u:secret@h:x",
            "redis://u:secret@h/first",
            "unix:///run/x",
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err();
            assert!(error.contains("rediss://") && !error.contains("secret"), "{text}: {error}");
        }
    }
}
