//! The database that a URL names.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_postgres::config::Host;

use super::connection::Connection;
use super::documents::PostgresDocuments;
use super::postgres::PostgresQueue;
use super::sqlite::SqliteQueue;
use super::{BlockQueue, FleetError};
use crate::engine::DocumentStore;
use crate::error::InvalidValue;
use crate::storage::Authorities;

/// `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:FILE`. Serialised with its secrets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseUrl {
    text: String,
    database: Database,
}

#[derive(Clone)]
enum Database {
    /// PostgreSQL with pgmq.
    Postgres(Box<tokio_postgres::Config>),
    /// A file, which is made if it does not exist.
    Sqlite(PathBuf),
}

impl FromStr for DatabaseUrl {
    type Err = InvalidValue;

    /// What cannot be read is not repeated: it may hold a password.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let needed = "postgres://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:FILE";
        let invalid = |found: &str, reason: String| InvalidValue::new("database-url", found, format!("{needed}{reason}"));
        let of = |database| Self { text: text.to_owned(), database };
        match text.split_once(':') {
            Some(("sqlite", file)) if !file.is_empty() => Ok(of(Database::Sqlite(file.trim_start_matches("//").into()))),
            Some(("postgres" | "postgresql", _)) => {
                // Certificates and names are always checked, so the stricter modes are this one.
                let plain = ["verify-full", "verify-ca"]
                    .iter()
                    .fold(text.to_owned(), |text, mode| text.replace(&format!("sslmode={mode}"), "sslmode=require"));
                let parsed = plain.parse().map_err(|error| invalid("postgres://…", format!(" ({error})")))?;
                Ok(of(Database::Postgres(Box::new(parsed))))
            }
            Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
                Err(invalid(&format!("{scheme}:…"), String::new()))
            }
            _ => Err(invalid("no URL", String::new())),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    /// Without what may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.database {
            Database::Postgres(config) => write!(f, "postgres://{:?}/{:?}", config.get_hosts(), config.get_dbname()),
            Database::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
        }
    }
}

impl DatabaseUrl {
    /// What servers share of what clients register, which is connected to at the first question. `None` in a file, which is for the
    /// jobs of one machine.
    ///
    /// # Errors
    /// If there can be no TLS.
    pub fn documents(&self) -> Result<Option<Arc<dyn DocumentStore>>, FleetError> {
        match &self.database {
            Database::Postgres(config) => Ok(Some(Arc::new(PostgresDocuments::new(connection(config)?)))),
            Database::Sqlite(_) => Ok(None),
        }
    }

    /// The URL without user and password, for people.
    pub fn hidden(&self) -> Self {
        let text = match &self.database {
            Database::Sqlite(_) => self.text.clone(),
            // As it was understood: what stands before the host or among the parameters may be a password.
            Database::Postgres(config) => {
                // One for all hosts, or one for each, or none.
                let port = |number: usize| config.get_ports().get(number).or(config.get_ports().last());
                let host = |(number, host): (usize, &Host)| match host {
                    Host::Tcp(name) => port(number).map_or_else(|| name.clone(), |port| format!("{name}:{port}")),
                    #[cfg(unix)]
                    Host::Unix(path) => path.display().to_string(),
                };
                let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(host).collect();
                let has_login = config.get_user().is_some() || config.get_password().is_some();
                let login = if has_login { "********@" } else { "" };
                format!("postgres://{login}{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
            }
        };
        Self { text, ..self.clone() }
    }

    /// Connects, and makes the tables that are missing.
    ///
    /// # Errors
    /// If it cannot be reached or used.
    pub async fn open(&self) -> Result<Arc<dyn BlockQueue>, FleetError> {
        match &self.database {
            Database::Postgres(config) => Ok(Arc::new(PostgresQueue::open(connection(config)?).await?)),
            Database::Sqlite(file) => Ok(Arc::new(SqliteQueue::open(file.clone()).await?)),
        }
    }
}

fn connection(config: &tokio_postgres::Config) -> Result<Connection, FleetError> {
    Connection::new(config, &Authorities::from_variables(|name| std::env::var(name).ok()))
}

impl TryFrom<String> for DatabaseUrl {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<DatabaseUrl> for String {
    fn from(url: DatabaseUrl) -> String {
        url.text
    }
}

impl PartialEq for DatabaseUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_database_and_errors_name_no_password() {
        for (text, path) in [("sqlite:a/b.db", "a/b.db"), ("sqlite:///a/b.db", "/a/b.db")] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert!(matches!(&url.database, Database::Sqlite(file) if file.as_os_str() == path), "{url:?}");
            assert!(url.documents().unwrap().is_none());
        }
        for text in ["postgres://u:secret@h:5433/d?sslmode=require", "postgresql://u:secret@h/d?sslmode=verify-full"] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert!(!format!("{url:?}").contains("secret"), "{url:?}");
            let hidden = String::from(url.hidden());
            assert!(hidden.contains("********@h") && !hidden.contains("secret"), "{hidden}");
            assert_eq!(String::from(url), text);
        }
        let hidden = "postgres://u@h,i:7/d?password=sec@ret".parse::<DatabaseUrl>().map(|url| String::from(url.hidden()));
        assert!(hidden.is_ok_and(|hidden| !hidden.contains("ret") && hidden.contains("/d")));
        for text in ["", "jobs.db", "sqlite:", "mysql://u:secret@h", "postgres://u:secret@h:x", "u:secret@h"] {
            let error = text.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.contains("sqlite:FILE") && !error.contains("secret"), "{error}");
        }
    }
}
