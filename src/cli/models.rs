//! `satlas-serve models`: list, show, pull, inspect.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::pull::{self, PullArgs};
use super::{CommandError, engine_config, print};
use crate::api::ModelDto;
use crate::config::{Config, EngineSettings, Given, ServerSettings};
use crate::engine::{ModelStatus, WeightsState};
use crate::error::printable;
use crate::server;
use crate::weights::inspect;

#[derive(Subcommand)]
pub(super) enum ModelsCommand {
    /// Print one line per model: id, state and kind of its weights, title
    List(ListArgs),
    /// Describe a model as JSON: bands, scaling, tasks, categories, weights
    Show(ShowArgs),
    /// Download the weights of models for use without a network
    Pull(PullArgs),
    /// Show the names, types and shapes of a checkpoint file's tensors, and which models it fits
    Inspect(InspectArgs),
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    engine: Given<EngineSettings>,
}

#[derive(Args)]
pub(super) struct ShowArgs {
    /// The model's id
    id: String,
    #[command(flatten)]
    engine: Given<EngineSettings>,
}

#[derive(Args)]
pub(super) struct InspectArgs {
    /// A .pth or .safetensors file
    file: PathBuf,
}

pub(super) fn execute(command: ModelsCommand) -> Result<(), CommandError> {
    match command {
        ModelsCommand::List(ListArgs { engine }) => {
            let engine = server::engine(&engine_config(engine, Given::<ServerSettings>::default())?)?;
            let models = engine.models().list();
            let widest = models.iter().map(|model| model.spec.id.len()).max().unwrap_or(0);
            print(&models.iter().map(|model| line(model, widest)).collect::<String>())
        }
        ModelsCommand::Show(ShowArgs { id, engine }) => {
            let engine = server::engine(&engine_config(engine, Given::<ServerSettings>::default())?)?;
            let model = ModelDto::from(engine.models().status(&id)?);
            print(&(serde_json::to_string_pretty(&model)? + "\n"))
        }
        ModelsCommand::Pull(arguments) => pull::execute(arguments),
        ModelsCommand::Inspect(InspectArgs { file }) => {
            let models = server::models(&Config::resolve(Given::default(), Given::default())?)?;
            let report = inspect(&file, &models).map_err(|error| format!("{}: {error}", file.display()))?;
            print(&printable(&report.to_string()))
        }
    }
}

fn line(ModelStatus { spec, state, kind, .. }: &ModelStatus, widest: usize) -> String {
    let state = match state {
        WeightsState::Remote => "remote",
        WeightsState::Cached => "cached",
        WeightsState::Loading => "loading",
        WeightsState::Loaded => "loaded",
    };
    format!("{:widest$}  {state:7}  {:11}  {}\n", spec.id, kind.as_str(), spec.title)
}
