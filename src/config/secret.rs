//! Options whose values hold secrets: an error says what is wrong and does not repeat the value, as clap does.

use std::ffi::OsStr;
use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};

/// Reads a `T` whose errors name no secret.
pub(crate) struct SecretValue<T>(PhantomData<fn() -> T>);

impl<T> SecretValue<T> {
    /// The parser of an option.
    pub(crate) fn parser() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for SecretValue<T> {
    fn clone(&self) -> Self {
        Self::parser()
    }
}

impl<T> TypedValueParser for SecretValue<T>
where
    T: FromStr<Err: Display> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, command: &Command, option: Option<&Arg>, value: &OsStr) -> Result<T, Error> {
        let read = value.to_str().ok_or_else(|| "found bytes that are no UTF-8".to_owned());
        let read = read.and_then(|text| text.parse().map_err(|error: T::Err| error.to_string()));
        read.map_err(|reason| {
            let option = option.map_or_else(|| "a value".to_owned(), ToString::to_string);
            Error::raw(ErrorKind::ValueValidation, format!("invalid value for '{option}': {reason}\n")).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::DatabaseUrl;
    use crate::shared_cache::RedisUrl;

    #[test]
    fn an_error_names_the_option_and_not_its_value() {
        let command = Command::new("test")
            .arg(Arg::new("database").long("database-url").value_parser(SecretValue::<DatabaseUrl>::parser()))
            .arg(Arg::new("redis").long("redis-url").value_parser(SecretValue::<RedisUrl>::parser()));
        for (option, value) in [
            ("--database-url", "postgres://satlas:hunter2@127.0.0.1:99999/jobs"),
            ("--database-url", "postgres://satlas:hunter2@h/jobs?sslmode=foo"),
            ("--database-url", "mysql://satlas:hunter2@h"),
            ("--database-url", "host=h password=hunter2"),
            ("--redis-url", "rediss//:hunter2@127.0.0.1:6379/0"),
            ("--redis-url", "redis://:hunter2@h:port/0"),
        ] {
            let error = command.clone().try_get_matches_from(["test", option, value]).unwrap_err().to_string();
            assert!(error.contains(option) && error.contains("needed") && !error.contains("hunter2"), "{error}");
        }
        let read = command.try_get_matches_from(["test", "--database-url", "sqlite:jobs.db"]).unwrap();
        assert!(read.get_one::<DatabaseUrl>("database").is_some());
    }
}
