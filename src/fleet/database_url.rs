//! The database that a URL names.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::connection::Connection;
use super::postgres::PostgresQueue;
use super::sqlite::SqliteQueue;
use super::{BlockQueue, FleetError};
use crate::error::InvalidValue;
use crate::storage::Authorities;

/// `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:FILE`.
#[derive(Clone)]
pub enum DatabaseUrl {
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
        match text.split_once(':') {
            Some(("sqlite", file)) if !file.is_empty() => Ok(Self::Sqlite(file.trim_start_matches("//").into())),
            Some(("postgres" | "postgresql", _)) => {
                // Certificates and names are always checked, so the stricter modes are this one.
                let text = ["verify-full", "verify-ca"]
                    .iter()
                    .fold(text.to_owned(), |text, mode| text.replace(&format!("sslmode={mode}"), "sslmode=require"));
                let parsed = text.parse().map_err(|error| invalid("postgres://…", format!(" ({error})")))?;
                Ok(Self::Postgres(Box::new(parsed)))
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
        match self {
            Self::Postgres(config) => write!(f, "postgres://{:?}/{:?}", config.get_hosts(), config.get_dbname()),
            Self::Sqlite(file) => write!(f, "sqlite:{}", file.display()),
        }
    }
}

impl DatabaseUrl {
    /// Connects, and makes the tables that are missing.
    ///
    /// # Errors
    /// If it cannot be reached or used.
    pub async fn open(&self) -> Result<Arc<dyn BlockQueue>, FleetError> {
        match self {
            Self::Postgres(config) => {
                let authorities = Authorities::from_variables(|name| std::env::var(name).ok());
                Ok(Arc::new(PostgresQueue::open(Connection::new(config, &authorities)?).await?))
            }
            Self::Sqlite(file) => Ok(Arc::new(SqliteQueue::open(file.clone()).await?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_database_and_errors_name_no_password() {
        assert!(matches!("sqlite:a/b.db".parse(), Ok(DatabaseUrl::Sqlite(file)) if file.as_os_str() == "a/b.db"));
        assert!(matches!("sqlite:///a/b.db".parse(), Ok(DatabaseUrl::Sqlite(file)) if file.as_os_str() == "/a/b.db"));
        for text in ["postgres://u:secret@h:5433/d?sslmode=require", "postgresql://u:secret@h/d?sslmode=verify-full"] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert!(!format!("{url:?}").contains("secret"), "{url:?}");
        }
        for text in ["", "jobs.db", "sqlite:", "mysql://u:secret@h", "postgres://u:secret@h:x", "u:secret@h"] {
            let error = text.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.contains("sqlite:FILE") && !error.contains("secret"), "{error}");
        }
    }
}
