//! Chips as examples of a search: the parts of a form become vectors of the model and layer that an index is of.

use std::sync::Arc;

use futures::StreamExt;

use super::dto::{ExampleModelParams, SimilarSearch};
use super::error::Problem;
use super::upload::{self, UploadedFile};
use super::zip_files::unpacked;
use crate::engine::{
    Caller, EMBEDDING, EmbeddingOptions, Engine, Example, Index, ObjectLimit, PixelOptions, ScenePlan, SceneRequest,
    SimilarRequest,
};
use crate::error::ErrorKind;
use crate::prediction::Output;
use crate::raster::Limits;

/// Most chips of one search, as of all examples.
const MAX_CHIPS: usize = 256;

/// The parts of a form: what else is asked for, chips like what is searched for, and chips unlike it.
#[derive(Default)]
pub(super) struct ChipSearch {
    search: Option<UploadedFile>,
    positive: Vec<UploadedFile>,
    negative: Vec<UploadedFile>,
}

impl ChipSearch {
    /// Parts with their positions in the form: 1, 2 and 3.
    pub(super) fn of(parts: Vec<(usize, UploadedFile)>) -> Self {
        let mut form = Self::default();
        for (position, file) in parts {
            match position {
                1 => form.search = Some(file),
                2 => form.positive.push(file),
                _ => form.negative.push(file),
            }
        }
        form
    }

    /// The search with the vectors of the chips among its examples, and warnings about their pixels.
    ///
    /// # Errors
    /// If what else is asked for cannot be read, a chip cannot be used, there are too many, or the network fails.
    pub(super) async fn request(
        self,
        (engine, limits): (&Arc<Engine>, Limits),
        plan: &ScenePlan,
        caller: &Caller,
    ) -> Result<(SimilarRequest, Vec<String>), Problem> {
        let search = self.search.map(UploadedFile::into_bytes).transpose()?;
        let search = search.map_or(Ok(SimilarSearch::default()), |text| {
            serde_json::from_slice(&text).map_err(|error| Problem::invalid(format!("the part search: {error}")))
        });
        let mut request = SimilarRequest::try_from(search?)?;
        let mut warnings = Vec::new();
        let kinds =
            [("positive", self.positive, &mut request.positive), ("negative", self.negative, &mut request.negative)];
        for (kind, files, examples) in kinds {
            if !files.is_empty() {
                let (vectors, about) = vectors((engine, limits), plan, caller, files).await?;
                examples.extend(vectors.into_iter().map(Example::Vector));
                warnings.extend(about.into_iter().map(|warning| format!("{kind}: {warning}")));
            }
        }
        Ok((request, warnings))
    }
}

/// What chips are asked for, so that their vectors can be compared with those of the index.
///
/// # Errors
/// If `params` contradict what is known of the index, or do not say what is not known, or there is no such model or layer.
pub(super) fn plan(
    engine: &Engine,
    index: &Index,
    params: ExampleModelParams,
    pixels: PixelOptions,
) -> Result<ScenePlan, Problem> {
    let (model, layer) = params.of_index(&index.record)?;
    let model = engine.models().task(&model, EMBEDDING)?;
    let embedding = EmbeddingOptions { layers: layer.parse()?, ..EmbeddingOptions::default() };
    Ok(engine.plan_scene(SceneRequest { model, pixels, embedding, limit: ObjectLimit::default() }))
}

/// The vector of each chip, the mean of the layer over it, and warnings about their pixels.
async fn vectors(
    (engine, limits): (&Arc<Engine>, Limits),
    plan: &ScenePlan,
    caller: &Caller,
    files: Vec<UploadedFile>,
) -> Result<(Vec<Vec<f32>>, Vec<String>), Problem> {
    let (files, _memory) = unpacked(engine, files, limits.max_bytes).await?;
    let chunks = upload::chunk_cache(engine.memory());
    let (of, planned) = (engine.clone(), plan.clone());
    let open = move || {
        let chips = upload::open_chips(&files, 1, &limits, chunks)?;
        if chips.len() > MAX_CHIPS {
            let detail = format!("found {} chips; a search takes at most {MAX_CHIPS}", chips.len());
            return Err(Problem::new(ErrorKind::TooLarge, detail));
        }
        Ok::<_, Problem>((of.check_chips(&planned, chips)?, files))
    };
    // The chips are read from the files until the last one is answered.
    let (chips, _files) = engine.read_upload(open).await?;
    let warnings = chips.warnings().to_vec();
    let mut answers = engine.predict_chips(plan, caller, chips).await?;
    let mut vectors = Vec::new();
    while let Some(batch) = answers.next().await {
        for answer in batch? {
            let vector = match answer.output {
                Output::Embedding(layers) => layers.into_iter().next().map(|layer| layer.values),
                _ => None,
            };
            let at = vectors.len();
            vectors.push(vector.filter(|vector| !vector.is_empty()).ok_or_else(|| {
                let detail = format!("chip {at} (they are counted from 0): found no data; an example needs some");
                Problem::unusable(detail)
            })?);
        }
    }
    Ok((vectors, warnings))
}
