//! The command line: serve, models, predict, plan, run, tiles, submit, worker, jobs, openapi, bench, health.
//!
//! Errors are one line on stderr. The exit code is 1 if a command failed and 2 if the arguments could not be parsed.

mod area;
mod bench;
mod fleet;
mod models;
mod options;
mod predict;
mod pull;
mod tiles;

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::{Config, EngineSettings, Given, ServerSettings};
use crate::engine::EngineError;
use crate::error::printable;
use crate::{api, server, telemetry};

/// Why a command failed: only printed, so any error type will do.
type CommandError = Box<dyn Error + Send + Sync>;

/// Masks, objects and embeddings from satellite imagery over HTTP, with AllenAI's SatlasPretrain models.
///
/// Without a command the server starts: `satlas-serve --port 9000` is `satlas-serve serve --port 9000`. With no arguments at all it
/// serves the built-in demo on http://127.0.0.1:8080 without any network, file or set-up.
#[derive(Parser)]
#[command(name = "satlas-serve", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the server (the default)
    Serve(ServeArgs),
    /// List and describe models, download their weights, inspect a checkpoint file
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Run a model on image files and write the result to a file, without a server
    Predict(predict::PredictArgs),
    /// Divide an area of a source into blocks and write what a run would do
    Plan(area::PlanArgs),
    /// Run a model on an area of a source in blocks, or go on with what an earlier run has left
    Run(area::RunArgs),
    /// Write what a run has made as map tiles into one file (PMTiles), which web maps read without a server
    Tiles(tiles::TilesArgs),
    /// Submit an area job to a database, for workers on any number of machines, and print its number
    Submit(fleet::SubmitArgs),
    /// Do blocks of the jobs in a database until SIGTERM, which hands them back
    Worker(fleet::WorkerArgs),
    /// List the jobs in a database with their progress, cancel one, or try its failed blocks again
    Jobs(fleet::JobsArgs),
    /// Print the OpenAPI document of the HTTP API
    Openapi,
    /// Measure a model's speed on a synthetic image and print the results as JSON
    Bench(bench::BenchArgs),
    /// Ask a running server whether it is ready (exit code 0 or 1); for container health checks
    Health(HealthArgs),
}

#[derive(Args)]
struct ServeArgs {
    #[command(flatten)]
    server: Given<ServerSettings>,
    #[command(flatten)]
    engine: Given<EngineSettings>,
    /// Print the effective configuration as TOML, with secrets hidden, and exit
    #[arg(long)]
    print_config: bool,
}

#[derive(Args)]
struct HealthArgs {
    /// Port of the server on this machine
    #[arg(long, env = "SATLAS_PORT", default_value_t = 8080)]
    port: u16,
}

/// All commands. A first argument that is a flag and not one of [`OWN_FLAGS`] belongs to `serve`.
const COMMANDS: [&str; 13] = [
    "serve", "models", "predict", "plan", "run", "tiles", "submit", "worker", "jobs", "openapi", "bench", "health", "help",
];
/// Flags that work without a command.
const OWN_FLAGS: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// Runs the command given by `arguments`, whose first element is the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(with_default_command(arguments)) {
        Ok(cli) => cli,
        // clap reports --help and --version as errors too; `exit` prints those to stdout and exits with 0.
        Err(error) => error.exit(),
    };
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If stderr is closed, the message cannot be shown; the exit code still tells.
            let (text, advice) = (printable(&one_line(&failure.to_string())), advice(&*failure));
            let _ = writeln!(std::io::stderr(), "satlas-serve: {text}{advice}");
            ExitCode::FAILURE
        }
    }
}

/// Inserts `serve` if there are no arguments, or if the first one is a flag of the server.
fn with_default_command(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let first = arguments.get(1).map(|first| first.to_string_lossy().into_owned());
    let is_serve = match first.as_deref() {
        None => true,
        Some(first) => first.starts_with('-') && !OWN_FLAGS.contains(&first) && !COMMANDS.contains(&first),
    };
    if is_serve {
        arguments.insert(1.min(arguments.len()), OsString::from("serve"));
    }
    arguments
}

/// A hint that names a command line, for errors that are also reported over HTTP and so cannot contain it.
fn advice(failure: &(dyn Error + 'static)) -> &'static str {
    match failure.downcast_ref() {
        Some(EngineError::UnknownModel { .. }) => "; `satlas-serve models list` lists them",
        _ => "",
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn execute(command: Command) -> Result<(), CommandError> {
    match command {
        Command::Serve(ServeArgs { server, engine, print_config }) => {
            let config = Config::resolve(engine, server)?;
            if print_config {
                return print(&config.to_toml()?);
            }
            telemetry::start_logging(&config.engine.log_level, config.engine.log_format);
            Ok(runtime()?.block_on(server::serve(config))?)
        }
        Command::Models(command) => models::execute(command),
        Command::Predict(arguments) => predict::execute(arguments),
        Command::Plan(arguments) => area::plan(arguments),
        Command::Run(arguments) => area::execute(arguments),
        Command::Tiles(arguments) => tiles::execute(arguments),
        Command::Submit(arguments) => fleet::submit(arguments),
        Command::Worker(arguments) => fleet::worker(arguments),
        Command::Jobs(arguments) => fleet::jobs(arguments),
        Command::Openapi => print(&(api::openapi().to_pretty_json()? + "\n")),
        Command::Bench(arguments) => bench::execute(arguments),
        Command::Health(HealthArgs { port }) => {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
            runtime()?.block_on(server::check_health(address)).map_err(|error| format!("{address}: {error}").into())
        }
    }
}

/// A progress bar on stderr; it draws nothing if stderr is not a terminal.
fn progress_bar(quiet: bool, template: &str) -> Result<ProgressBar, CommandError> {
    if quiet {
        return Ok(ProgressBar::hidden());
    }
    Ok(ProgressBar::no_length().with_style(ProgressStyle::with_template(template)?))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Resolves the configuration of a command that starts no server, and starts logging.
fn engine_config(engine: Given<EngineSettings>, server: impl Into<Given<ServerSettings>>) -> Result<Config, CommandError> {
    let quiet = !engine.has("log-level");
    let mut config = Config::resolve(engine, server.into())?;
    if quiet {
        // What a server logs at its default level is noise next to a command's output.
        config.engine.log_level = "warn".to_owned();
    }
    telemetry::start_logging(&config.engine.log_level, config.engine.log_format);
    Ok(config)
}

/// Writes to stdout; a closed pipe (`| head`) is not an error.
fn print(text: &str) -> Result<(), CommandError> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn defaulted(arguments: &[&str]) -> Vec<String> {
        let arguments = arguments.iter().map(OsString::from);
        with_default_command(arguments).into_iter().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_known_to_the_default_rule() {
        for command in Cli::command().get_subcommands() {
            assert!(COMMANDS.contains(&command.get_name()), "{}", command.get_name());
        }
    }

    #[test]
    fn without_a_command_the_server_starts() {
        assert_eq!(defaulted(&["satlas-serve"]), ["satlas-serve", "serve"]);
        assert_eq!(defaulted(&["satlas-serve", "--port", "0"]), ["satlas-serve", "serve", "--port", "0"]);
        assert_eq!(defaulted(&["satlas-serve", "models", "list"]), ["satlas-serve", "models", "list"]);
        assert_eq!(defaulted(&["satlas-serve", "--help"]), ["satlas-serve", "--help"]);
        assert_eq!(defaulted(&["satlas-serve", "sevre"]), ["satlas-serve", "sevre"]);
    }

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(one_line("a file:\n  line 2\n"), "a file: line 2");
    }
}
