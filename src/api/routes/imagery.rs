//! RGB tiles of the imagery itself.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::sources::SourcePath;
use super::tiles::{check_datetime, options_of};
use crate::api::answer::EncodedAnswer;
use crate::api::base_url::BaseUrl;
use crate::api::conditional::{etag, is_known, not_modified, with_validators};
use crate::api::dto::{File, TileJson, TileName, TileParams, imagery_zooms, words};
use crate::api::error::Problem;
use crate::api::extract::{Path, Query};
use crate::api::state::AppState;
use crate::error::ErrorKind;
use crate::georef::Georef;
use crate::raster::{CaptureSelection, Resampling, Source};

/// Path of an imagery tile; the last segment holds row, `@2x` and extension.
#[derive(Deserialize)]
pub(super) struct ImageryPath {
    source: String,
    z: String,
    x: String,
    tile: String,
}

/// Size, captures and resampling of imagery tiles.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ImageryParams {
    /// Side of the tile in pixels: 256 (the default) or 512.
    #[param(value_type = Option<words::TileSize>)]
    pub tilesize: Option<String>,
    /// 1-based number of the capture to show; by default, of each tile, the newest with data there.
    #[param(value_type = Option<u32>, minimum = 1)]
    pub capture: Option<String>,
    /// Use only captures taken at this instant, on this day or in this interval (RFC 3339; `..` for an open end).
    /// `2024-06-01/2024-08-31` is one summer.
    #[param(min_length = 1)]
    pub datetime: Option<String>,
    /// How the imagery is resampled to the tile grid: `nearest`, `bilinear` (the default), `cubic` or `average`.
    #[param(value_type = Option<words::Resampling>)]
    pub resampling: Option<String>,
}

impl ImageryParams {
    /// The side of the tile in pixels and the resampling; `doubled` is true if the path has `@2x`.
    fn grid(&self, doubled: bool) -> Result<(usize, Resampling), Problem> {
        let Self { tilesize, resampling, .. } = self;
        let tile = TileParams { tilesize: tilesize.clone(), resampling: resampling.clone(), ..TileParams::default() };
        Ok((tile.size(doubled)?.0, tile.resampling()?))
    }

    /// The captures that may be shown.
    fn wanted(&self, source: &Source) -> Result<CaptureSelection, Problem> {
        let datetime = self.datetime.as_deref().map(str::parse).transpose()?;
        let Some(text) = &self.capture else { return Ok(CaptureSelection { captures: None, datetime }) };
        if source.is_searched() {
            let needed = "nothing (captures that are searched for have no numbers; datetime= chooses among them)";
            return Err(Problem::parameter("capture", text, needed));
        }
        let count = source.captures().len();
        let capture = text.parse::<usize>().ok().filter(|capture| (1..=count).contains(capture));
        let capture = capture.ok_or_else(|| Problem::parameter("capture", text, format!("a number from 1 to {count}")))?;
        Ok(CaptureSelection { captures: Some(vec![capture - 1]), datetime })
    }
}

/// Get an imagery tile
///
/// An RGB image as PNG. It shows the bands described as red, green and blue, else the first three bands, else the first band in
/// grey. 8-bit imagery is shown unchanged; other types are stretched from their 2nd to their 98th percentile. Pixels without
/// data are transparent.
#[utoipa::path(get, path = "/v1/sources/{source}/tiles/{z}/{x}/{tile}", operation_id = "get_imagery_tile", tag = "sources",
    params(
        SourcePath,
        ("z" = u32, Path, description = "Zoom", minimum = 0, maximum = 24, example = 3),
        ("x" = u32, Path, description = "Column, from the west", example = 4),
        ("tile" = String, Path, description = "Row and format", example = "3.png"),
        ImageryParams,
        ("If-None-Match" = Option<String>, Header, description = "ETag of the cached tile"),
    ),
    responses(
        (status = 200, description = "The tile", body = inline(File), content_type = "image/png"),
        (status = 304, description = "The cached tile is up to date"),
    ))]
pub(super) async fn get_imagery_tile(
    State(state): State<AppState>,
    Path(path): Path<ImageryPath>,
    Query((params,)): Query<(ImageryParams,)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let source = state.engine().sources().opened(&path.source).await?;
    let TileName { coord, doubled, extension } = TileName::parse(&path.z, &path.x, &path.tile)?;
    if extension != "png" {
        return Err(Problem::new(
            ErrorKind::NotAcceptable,
            format!("imagery cannot be answered as {extension}; it can be png"),
        ));
    }
    let ((size_px, resampling), wanted) = (params.grid(doubled)?, params.wanted(&source)?);
    check_zoom(&source, coord.z())?;
    let source = state.engine().sources().at(source, &coord.georef(size_px), wanted.datetime).await?;
    let etag = etag(&("imagery", &source.id, &source.version, coord, size_px, &wanted, resampling));
    let cache_control = state.cache_control();
    if is_known(&headers, &etag) {
        return Ok(not_modified(&headers, &etag, &cache_control, "image/png"));
    }
    let make = || draw(state.clone(), source.clone(), wanted.clone(), (coord.georef(size_px), resampling));
    let answer = state.tiles().get(&etag, make).await?;
    Ok(with_validators(answer.into_response(), &etag, &cache_control))
}

async fn draw(
    state: AppState,
    source: Arc<Source>,
    wanted: CaptureSelection,
    (target, resampling): (Georef, Resampling),
) -> Result<EncodedAnswer, Problem> {
    let (id, sources) = (source.id.clone(), state.engine().sources().clone());
    let read = move || {
        let started = std::time::Instant::now();
        let tile = source.read_rgba(&wanted, &target, resampling).inspect_err(|error| {
            if error.is_changed_file() {
                sources.close(&source);
            }
        })?;
        EncodedAnswer::imagery(&tile, &target, started.elapsed(), source.unmatched(&wanted))
    };
    state.engine().read_source(&id, read).await
}

fn check_zoom(source: &Source, zoom: u8) -> Result<(), Problem> {
    let (least, most) = zooms(source)?;
    if (least..=most).contains(&zoom) {
        return Ok(());
    }
    let id = &source.id;
    Err(Problem::new(ErrorKind::NotFound, format!("zoom {zoom} is outside {least} to {most}, the zooms of source {id}")))
}

fn zooms(source: &Source) -> Result<(u8, u8), Problem> {
    source.describe().extent.as_ref().map(imagery_zooms).ok_or_else(|| {
        let id = &source.id;
        Problem::new(
            ErrorKind::Unusable,
            format!("source {id} has no georeference; a map needs a coordinate system and a transform"),
        )
    })
}

/// Describe the imagery tiles of a source
///
/// TileJSON 3.0.0 for map libraries. The tile URL has the same options as this request.
#[utoipa::path(get, path = "/v1/sources/{source}/tilejson.json", operation_id = "get_imagery_tilejson", tag = "sources",
    params(SourcePath, ImageryParams),
    responses((status = 200, description = "The tile set", body = TileJson)))]
pub(super) async fn get_imagery_tilejson(
    State(state): State<AppState>,
    Path(SourcePath { source }): Path<SourcePath>,
    Query((params,)): Query<(ImageryParams,)>,
    BaseUrl(base): BaseUrl,
    uri: Uri,
) -> Result<axum::Json<TileJson>, Problem> {
    let source = state.engine().sources().opened(&source).await?;
    // Checked here, so that a map learns of invalid options once and not from every tile.
    let (size_px, _) = params.grid(false)?;
    check_datetime(&source, &params.wanted(&source)?)?;
    let url = format!("{base}/v1/sources/{}/tiles/{{z}}/{{x}}/{{y}}.png{}", source.id, options_of(&uri));
    Ok(axum::Json(TileJson::over(&source, source.title.clone(), url, zooms(&source)?, size_px, "png")))
}
