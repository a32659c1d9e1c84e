//! How the cells of a job's blocks are stored, if not as they are: found once from a sample of the area, and kept beside the results, so
//! that all blocks are stored alike and readers can undo it.

use std::sync::Arc;

use super::block_kind::BlockKind;
use super::destination::Destination;
use super::error::AreaError;
use super::job::AreaJob;
use super::names;
use crate::engine::{Area, Caller, CellEncoding, Class, EncodingOptions, Engine};
use crate::prediction::CellPrecision;

/// What has to be found from a sample; `None` if nothing has.
pub(super) fn options(job: &AreaJob) -> Option<EncodingOptions> {
    // The rows of a table have scales of their own.
    let quantized = job.kind == BlockKind::Raster && job.render.precision == CellPrecision::Int8;
    let options = EncodingOptions { components: job.pca, quantized };
    (job.scene.cells().is_some() && options != EncodingOptions::default()).then_some(options)
}

/// The encoding that the destination holds. If it holds none, one is found and put there first; of several runs that do so at once,
/// one is first.
///
/// # Errors
/// If imagery cannot be read, the network fails, too few cells have data, or the destination fails.
pub(super) async fn agreed(
    engine: &Engine,
    (job, area): (&AreaJob, &Area),
    destination: &Destination,
) -> Result<Option<Arc<CellEncoding>>, AreaError> {
    let Some(options) = options(job) else { return Ok(None) };
    let find = async || {
        if destination.read(names::ENCODING).await?.is_none() {
            let found = engine.cell_encoding(&job.scene, (area, &Caller::patient(Class::Job)), options).await?;
            let text = serde_json::to_vec(&found).map_err(|error| AreaError::Invalid { detail: error.to_string() })?;
            destination.put_new(names::ENCODING, text).await?;
        }
        let text = destination.read(names::ENCODING).await?.unwrap_or_default();
        let detail =
            |error| format!("the destination's {} cannot be read ({error}); an empty folder is needed", names::ENCODING);
        serde_json::from_slice(&text).map(Arc::new).map_err(|error| AreaError::Conflict { detail: detail(error) })
    };
    Ok(Some(job.encoding.get_or_try_init(find).await?.clone()))
}
