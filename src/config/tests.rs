//! The order of a value's sources, and what is refused.

use clap::{Args, FromArgMatches};

use super::*;

fn command() -> clap::Command {
    Given::<ServerSettings>::augment_args(Given::<EngineSettings>::augment_args(clap::Command::new("satlas-serve")))
}

fn parse(flags: &[&str]) -> (Given<EngineSettings>, Given<ServerSettings>) {
    let command = command();
    let matches = command.try_get_matches_from([&["satlas-serve"], flags].concat()).expect("the flags are known");
    let engine = Given::from_arg_matches(&matches).expect("the values fit");
    (engine, Given::from_arg_matches(&matches).expect("the values fit"))
}

fn resolve(flags: &[&str]) -> Result<Config, ConfigError> {
    let (engine, server) = parse(flags);
    Config::resolve(engine, server)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let file = file("port = 9000\nqueue = 3\nsource = [\"a=/tmp/a.tif\"]\nrequest-timeout = \"5s\"\n");
    let path = file.path().to_str().unwrap();
    let config = resolve(&["--config", path, "--queue", "7"]).unwrap();
    assert_eq!((config.address().port(), config.server.queue), (9000, 7));
    assert_eq!(config.sources, [("a".to_owned(), vec!["/tmp/a.tif".into()])]);
    assert_eq!((config.server.request_timeout, config.server.window), (Span::seconds(5), 512));
}

#[test]
fn a_misspelt_key_in_the_file_is_an_error_that_lists_the_keys() {
    let file = file("prot = 9000\n");
    let error = resolve(&["--config", file.path().to_str().unwrap()]).unwrap_err().to_string();
    assert!(error.contains("\"prot\"") && error.contains("port") && error.contains("model-memory"), "{error}");
}

#[test]
fn values_that_cannot_be_used_are_named() {
    for (flags, word) in [
        (&["--queue", "0"][..], "queue"),
        (&["--max-jobs", "0"], "max-jobs"),
        (&["--parallel-jobs", "65"], "1 to 64"),
        (&["--window", "500"], "multiple of 512"),
        (&["--halo", "7"], "multiple of 32"),
        (&["--source", "only-a-path.tif"], "ID=PLACE"),
        (&["--source", "a@june=b.tif"], "2024-06-01T10:00:00Z"),
        (&["--source", "a@=b.tif"], "2024-06-01T10:00:00Z"),
        (&["--api-key", "short"], "8 or more"),
        (&["--cors", "example.org"], "https://"),
        (&["--allow-host", "https://example.org/"], "*.example.org"),
        (&["--allow-host", "example.*"], "*.example.org"),
        (&["--source-root", "/no/such/directory"], "/no/such/directory"),
        (&["--request-timeout", "0"], "request-timeout"),
        (&["--config", "/no/such/file.toml"], "/no/such/file.toml"),
    ] {
        let error = resolve(flags).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn the_printed_configuration_can_be_read_again_and_hides_keys() {
    let config = resolve(&["--api-key", "correct-horse", "--models-dir", "/models", "--weights", "synthetic:7"]).unwrap();
    let printed = config.to_toml().unwrap();
    assert!(!printed.contains("correct-horse"), "{printed}");
    let signed = resolve(&["--source", "far=https://a.org/b.tif?sig=correct-horse"]).unwrap().to_toml().unwrap();
    assert!(signed.contains("https://a.org/b.tif?") && !signed.contains("correct-horse"), "{signed}");
    let shared = resolve(&["--redis-url", "redis://me:correct-horse@cache:6379/1"]).unwrap().to_toml().unwrap();
    assert!(shared.contains("redis://:********@cache:6379/1") && !shared.contains("correct-horse"), "{shared}");
    let database = resolve(&["--database-url", "postgres://me:correct-horse@db/satlas"]).unwrap().to_toml().unwrap();
    assert!(database.contains("postgres://********@db:5432/satlas") && !database.contains("correct-horse"), "{database}");
    let again = resolve(&["--config", file(&printed).path().to_str().unwrap()]).unwrap();
    let server = ServerSettings { api_key: config.server.api_key.clone(), ..again.server };
    assert_eq!(Config { server, ..again }, config);
}

#[test]
fn the_time_of_a_capture_can_be_named_and_is_printed() {
    let flags = ["--source", "a@2024-06-01=b.tif", "--source", "a@2024-07-01T12:00:00+02:00=c@2020=d.tif"];
    let config = resolve(&flags).unwrap();
    let (id, locations) = &config.sources[0];
    let named: Vec<(&str, String)> =
        locations.iter().map(|location| (location.place.as_str(), location.datetime.unwrap().to_string())).collect();
    assert_eq!(id, "a");
    assert_eq!(named, [("b.tif", "2024-06-01T00:00:00Z".to_owned()), ("c@2020=d.tif", "2024-07-01T10:00:00Z".to_owned())]);
    let again = resolve(&["--config", file(&config.to_toml().unwrap()).path().to_str().unwrap()]).unwrap();
    assert_eq!(again.sources, config.sources);
}

#[test]
fn a_value_of_the_wrong_type_in_the_file_is_named_even_where_a_flag_wins() {
    for (text, key) in [("port = \"x\"", "port"), ("remote-memory = 5", "remote-memory"), ("device = \"abacus\"", "device")]
    {
        let error = resolve(&["--config", file(text).path().to_str().unwrap(), "--port", "1"]).unwrap_err().to_string();
        assert!(error.contains(&format!(": {key}: ")) && error.contains(".tmp"), "{error}");
    }
}

#[test]
fn defaults_are_those_of_the_flags() {
    let config = resolve(&[]).unwrap();
    assert_eq!(config, Config::new(EngineSettings::default(), ServerSettings::default()).unwrap());
    assert_eq!((config.server.port, config.engine.model_memory, config.server.no_demo), (8080, ByteSize::mib(4096), false));
    assert!(resolve(&["--no-demo"]).unwrap().server.no_demo && !resolve(&["--no-demo=false"]).unwrap().server.no_demo);
}

#[test]
fn every_setting_has_an_environment_variable_of_its_name() {
    for argument in command().get_arguments() {
        let flag = argument.get_long().unwrap();
        let variable = format!("SATLAS_{}", flag.replace('-', "_").to_uppercase());
        assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(variable.as_str()));
    }
}
