//! `satlas-serve models`: list, show, pull, inspect.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Failure, engine_config, print};
use crate::api::ModelDto;
use crate::config::EngineSettings;
use crate::engine::{ModelStatus, WeightsState};
use crate::server;
use crate::weights::{Inspection, inspect};

#[derive(Subcommand)]
pub(super) enum ModelsCommand {
    /// One line a model: id, state of its weights, what it is
    List(ListArgs),
    /// Everything about a model, as JSON: bands, scaling, tasks, categories, weights
    Show(ShowArgs),
    /// Download the weights of models, so that they can be used without a network
    Pull(PullArgs),
    /// What a checkpoint file holds (names, types and shapes of its tensors) and which models it fits
    Inspect(InspectArgs),
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    engine: EngineSettings,
}

#[derive(Args)]
pub(super) struct ShowArgs {
    /// The model's id
    id: String,
    #[command(flatten)]
    engine: EngineSettings,
}

#[derive(Args)]
pub(super) struct PullArgs {
    /// Ids of models
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    engine: EngineSettings,
}

#[derive(Args)]
pub(super) struct InspectArgs {
    /// A .pth or .safetensors file
    file: PathBuf,
    /// Print every tensor, not only how many there are
    #[arg(long)]
    tensors: bool,
}

pub(super) fn execute(command: ModelsCommand) -> Result<(), Failure> {
    match command {
        ModelsCommand::List(ListArgs { engine }) => {
            let engine = server::engine(&engine_config(engine)?)?;
            let models = engine.models().list();
            let widest = models.iter().map(|model| model.spec.id.len()).max().unwrap_or(0);
            print(&models.iter().map(|model| line(model, widest)).collect::<String>())
        }
        ModelsCommand::Show(ShowArgs { id, engine }) => {
            let engine = server::engine(&engine_config(engine)?)?;
            let model = ModelDto::from(engine.models().status(&id)?);
            print(&(serde_json::to_string_pretty(&model)? + "\n"))
        }
        ModelsCommand::Pull(PullArgs { ids, engine }) => pull(&ids, engine),
        ModelsCommand::Inspect(InspectArgs { file, tensors }) => {
            let models = server::models(&crate::config::Config::resolve(EngineSettings::default(), Default::default())?)?;
            print(&report(&inspect(&file, &models)?, tensors))
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

fn pull(ids: &[String], settings: EngineSettings) -> Result<(), Failure> {
    let engine = server::engine(&engine_config(settings)?)?;
    for id in ids {
        let spec = engine.models().spec(id)?;
        let place = engine.models().fetch(&spec, &mut |progress| show_progress(id, progress))?;
        print(&format!("{id}: {}\n", place.map_or_else(|| "built in".to_owned(), |path| path.display().to_string())))?;
    }
    Ok(())
}

fn report(inspection: &Inspection, with_tensors: bool) -> String {
    let Inspection { file, prefix, layout, tensors, candidates } = inspection;
    let layout = layout.map_or("unknown", |layout| match layout {
        crate::zoo::Layout::Satlas => "satlas",
        crate::zoo::Layout::Package => "package",
    });
    let mut text = format!("{file}: {} tensors, layout {layout}", tensors.len());
    if !prefix.is_empty() {
        text += &format!(", names begin with {prefix:?}");
    }
    text += "\n";
    if with_tensors {
        let widest = tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0);
        for tensor in tensors {
            text += &format!("  {:widest$}  {:4}  {:?}\n", tensor.name, tensor.dtype, tensor.shape);
        }
    }
    for candidate in candidates {
        let fit = &candidate.fit;
        text += &format!(
            "{}: {} tensors fit, {} missing, {} of another shape, {} unused; tasks {}\n",
            candidate.model,
            fit.matched,
            fit.missing.len(),
            fit.misshapen.len(),
            fit.unused.len(),
            candidate.tasks.join(", ")
        );
    }
    if candidates.is_empty() {
        text += "it fits no model of the catalogue; a manifest (POST /v1/models, or a .toml file in the models directory) can describe it\n";
    }
    text
}
