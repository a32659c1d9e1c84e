//! Places whose labels would help a fitted model most.

use std::sync::Arc;

use candle_core::{DType, Device};

use super::labels::{LabelUnit, PixelGrid, TILE_PX, WorldPixel};
use super::sampling::Sampling;
use super::unit_of;
use crate::engine::Engine;
use crate::engine::caller::Caller;
use crate::engine::error::EngineError;
use crate::engine::options::PixelOptions;
use crate::fit::{chances_between, chances_of_each, doubt_between, doubt_of_each, most_helpful};
use crate::georef::Bounds;
use crate::nn::{Neighbours, NnError};
use crate::tiles::resolution_m;
use crate::weights::WeightsLocator;
use crate::zoo::{Activation, Head, HeadKind, ModelSpec, TaskType};

/// Where labels are wanted.
#[derive(Clone, Debug)]
pub struct SuggestRequest {
    /// Id of a model whose head was fitted.
    pub model: String,
    /// Id of the source to look at.
    pub source: String,
    /// Where to look, in degrees: boxes beside each other; none for the whole source.
    pub areas: Vec<Bounds>,
    /// How many places, at most.
    pub count: usize,
    /// Bands, scaling, captures.
    pub pixels: PixelOptions,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Suggestions {
    /// The most helpful first.
    pub places: Vec<Suggestion>,
    /// What is doubtful about the imagery.
    pub warnings: Vec<String>,
}

/// A place to label.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// Longitude and latitude, in degrees.
    pub place: [f64; 2],
    /// How unsure the model is: from 0 to 1, where two categories are equally likely.
    pub uncertainty: f64,
    /// What the model takes it for; `None` if it finds no category of several that may be there.
    pub category: Option<String>,
}

/// Most windows that are looked at, spread evenly over the area.
const MAX_WINDOWS: u64 = 16;
/// Places on each side of a window that are compared.
const PLACES_PER_SIDE: u64 = 8;

impl Engine {
    /// Finds places whose labels would help a fitted model most: those that it is unsure of and that look different from each other.
    ///
    /// # Errors
    /// If the model has no fitted head that tells categories apart, the area lies beyond the source, or as of tiles.
    pub async fn suggest_labels(&self, request: SuggestRequest, caller: &Caller) -> Result<Suggestions, EngineError> {
        let SuggestRequest { model, source, areas, count, pixels } = request;
        let spec = self.models.spec(&model)?;
        let head = fitted_head(&spec)?;
        let layers = head.kind.named_layers();
        let base = spec.base().unwrap_or(&spec);
        let opened = self.sources.opened(&source).await?;
        let of_source = opened.describe().extent.map(|extent| extent.bounds_lon_lat);
        let unit = unit_of(head.task.task_type);
        let candidates = candidates(&areas, of_source, base.native_zoom_512, unit)?;
        let sampling = Sampling { engine: self, caller, base, source: &source, pixels: &pixels, layers, unit };
        let sampled = sampling.run(&candidates, &|_, _| ()).await?;
        let (mut places, mut features) = (Vec::new(), Vec::new());
        for (place, found) in candidates.into_iter().zip(sampled.features) {
            let Some(found) = found else { continue };
            places.push(place);
            features.extend(found);
        }
        let ranking = Ranking { locator: self.models.locator().clone(), spec: spec.clone(), places, features, count };
        let places = tokio::task::spawn_blocking(move || ranking.run()).await.map_err(|_| EngineError::Panicked)??;
        let mut warnings = sampled.warnings;
        if places.is_empty() {
            let resolution = resolution_m(base.native_zoom_512, TILE_PX as usize);
            warnings.push(format!("the source has no pixel with data there at the model's resolution, {resolution:.2} m"));
        }
        Ok(Suggestions { places, warnings })
    }
}

/// The choice among candidates.
struct Ranking {
    locator: WeightsLocator,
    /// Of a model that has been found to have one fitted head on a base model.
    spec: Arc<ModelSpec>,
    places: Vec<WorldPixel>,
    /// `[places, channels]`
    features: Vec<f32>,
    count: usize,
}

impl Ranking {
    /// Reads the head's weights; blocks.
    fn run(self) -> Result<Vec<Suggestion>, EngineError> {
        let Self { locator, spec, places, features, count } = self;
        let head = fitted_head(&spec)?;
        let channels =
            head.kind.named_layers().iter().filter_map(|layer| layer.channels(spec.base().unwrap_or(&spec))).sum();
        let weights = locator.open(&spec, &mut |_| ())?;
        let values = |name: &str, shape: &[usize]| -> Result<Vec<f32>, EngineError> {
            let tensor = weights.get(&format!("heads.{}.{name}", head.index), shape, &Device::Cpu)?;
            let values = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all()?.to_vec1());
            Ok(values.map_err(NnError::from)?)
        };
        let outputs = head.task.categories.len();
        let neighbours = match head.kind {
            HeadKind::Nearest { examples, neighbours: count, .. } => {
                Some(Neighbours { values: values("values", &[examples, outputs])?, outputs, count })
            }
            _ => None,
        };
        let rows = neighbours.as_ref().map_or(outputs, Neighbours::examples);
        let (matrix, bias) = (values("weight", &[rows, channels])?, values("bias", &[rows])?);
        let one_is_there = match &head.kind {
            HeadKind::Linear { activation, .. } => *activation != Activation::Sigmoid,
            _ => matches!(head.task.task_type, TaskType::Segment | TaskType::Classification),
        };
        let judged = |features: &[f32]| {
            let logit = |(weights, bias): (&[f32], &f32)| {
                f64::from(*bias) + weights.iter().zip(features).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>()
            };
            let logits: Vec<f64> = matrix.chunks_exact(channels).zip(&bias).map(logit).collect();
            let chances = match &neighbours {
                Some(neighbours) => {
                    let similarities: Vec<f32> = logits.iter().map(|logit| *logit as f32).collect();
                    neighbours.mean(&similarities).into_iter().map(f64::from).collect()
                }
                None if one_is_there => chances_between(logits),
                None => chances_of_each(&logits),
            };
            if one_is_there {
                let (doubt, best) = doubt_between(chances);
                (doubt, Some(best))
            } else {
                doubt_of_each(&chances)
            }
        };
        let judged: Vec<(f64, Option<usize>)> = features.chunks_exact(channels).map(judged).collect();
        let uncertainty: Vec<f64> = judged.iter().map(|(uncertainty, _)| *uncertainty).collect();
        let middle = unit_of(head.task.task_type).side_px() as f64 / 2.0;
        let suggestion = |index: usize| {
            let WorldPixel { at, zoom } = places[index];
            let (uncertainty, category) = judged[index];
            Some(Suggestion {
                place: PixelGrid::place(at.map(|at| at as f64 + middle), zoom)?,
                uncertainty,
                category: category.map(|category| head.task.categories[category].clone()),
            })
        };
        Ok(most_helpful(&features, channels, &uncertainty, count).into_iter().filter_map(suggestion).collect())
    }
}

/// The head of a model that was fitted to labels of categories.
///
/// # Errors
/// If it has none.
fn fitted_head(spec: &ModelSpec) -> Result<&Head, EngineError> {
    let unfit = |found: &str| EngineError::Unusable {
        detail: format!("model {:?}: found {found}; a head that was fitted to labels of categories is needed", spec.id),
    };
    let head = spec.head_variants.first().and_then(|heads| heads.first());
    let (Some(_), Some(head)) = (spec.base(), head) else { return Err(unfit("no fitted head")) };
    match &head.kind {
        HeadKind::Linear { .. } | HeadKind::Nearest { .. } if head.task.task_type == TaskType::Regress => {
            Err(unfit("a head that gives numbers"))
        }
        HeadKind::Linear { .. } | HeadKind::Nearest { .. } => Ok(head),
        _ => Err(unfit("no head that was fitted")),
    }
}

/// The places in the areas that are compared, each on its share of [`MAX_WINDOWS`] tiles.
///
/// # Errors
/// If no area has anything in common with the source.
fn candidates(areas: &[Bounds], source: Option<Bounds>, zoom: u8, unit: LabelUnit) -> Result<Vec<WorldPixel>, EngineError> {
    let wanted: Vec<Option<Bounds>> = if areas.is_empty() { vec![None] } else { areas.iter().copied().map(Some).collect() };
    let windows = (MAX_WINDOWS / wanted.len() as u64).max(1);
    let (mut found, mut beyond) = (Vec::new(), None);
    for area in wanted {
        match candidates_in(area, source, (zoom, unit), windows) {
            Ok(places) => found.extend(places),
            Err(error) => beyond = Some(error),
        }
    }
    beyond.filter(|_| found.is_empty()).map_or(Ok(found), Err)
}

/// The places in one area that are compared: on up to `windows` tiles, spread evenly.
fn candidates_in(
    area: Option<Bounds>,
    source: Option<Bounds>,
    (zoom, unit): (u8, LabelUnit),
    windows: u64,
) -> Result<Vec<WorldPixel>, EngineError> {
    const MAX_LAT: f64 = 85.05;
    let world = Bounds { min_x: -180.0, min_y: -MAX_LAT, max_x: 180.0, max_y: MAX_LAT };
    let wanted = [area, source].into_iter().flatten().fold(world, Bounds::intersection);
    let grid = PixelGrid::of(zoom);
    let corner = |lon: f64, lat: f64| grid.position([lon, lat]).map(|at| at.map(|at| at as u64));
    let (Some([left, top]), Some([right, bottom]), true) = (
        corner(wanted.min_x, wanted.max_y),
        corner(wanted.max_x, wanted.min_y),
        wanted.min_x <= wanted.max_x && wanted.min_y <= wanted.max_y,
    ) else {
        let shown = |bounds: Option<Bounds>| {
            bounds.map_or_else(
                || "the world".to_owned(),
                |b| format!("{:.4}, {:.4}, {:.4}, {:.4}", b.min_x, b.min_y, b.max_x, b.max_y),
            )
        };
        let detail = format!(
            "bbox: found {}; a part of the source between {MAX_LAT} degrees south and north is needed; it covers {}",
            shown(area),
            shown(source)
        );
        return Err(EngineError::Unusable { detail });
    };
    let (cols, rows) = (right / TILE_PX - left / TILE_PX + 1, bottom / TILE_PX - top / TILE_PX + 1);
    let per_side = match unit {
        LabelUnit::Pixel => PLACES_PER_SIDE,
        LabelUnit::Tile => TILE_PX / unit.side_px() as u64,
    };
    let mut found = Vec::new();
    for (col, row) in spread(cols, rows, windows) {
        let (col, row) = (left / TILE_PX + col, top / TILE_PX + row);
        // The part of the tile that lies in the area.
        let span = |tile: u64, first: u64, last: u64| (first.max(tile * TILE_PX), last.min(tile * TILE_PX + TILE_PX - 1));
        let ((west, east), (north, south)) = (span(col, left, right), span(row, top, bottom));
        for i in 0..per_side * per_side {
            let side = unit.side_px() as u64;
            let between = |low: u64, high: u64, i: u64| (low + (2 * i + 1) * (high - low) / (2 * per_side)) / side * side;
            let place = WorldPixel { at: [between(west, east, i % per_side), between(north, south, i / per_side)], zoom };
            if !found.contains(&place) {
                found.push(place);
            }
        }
    }
    Ok(found)
}

/// All cells of a grid if they are at most so many, else some that fill it evenly: Roberts' R2 sequence.
fn spread(cols: u64, rows: u64, most: u64) -> Vec<(u64, u64)> {
    /// The inverses of the plastic number and of its square.
    const STEPS: [f64; 2] = [0.754_877_666_246_693, 0.569_840_290_998_053];
    if cols * rows <= most {
        return (0..rows).flat_map(|row| (0..cols).map(move |col| (col, row))).collect();
    }
    let cell = |i: u64| {
        let [x, y] = STEPS.map(|step| (0.5 + i as f64 * step).fract());
        ((x * cols as f64) as u64, (y * rows as f64) as u64)
    };
    let mut cells: Vec<_> = (0..most).map(cell).collect();
    cells.sort_unstable();
    cells.dedup();
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_spread_over_the_common_area() {
        let bounds = |min_x, min_y, max_x, max_y| Bounds { min_x, min_y, max_x, max_y };
        let world = candidates(&[], None, 5, LabelUnit::Pixel).unwrap();
        assert_eq!(world.len(), 16 * 64);
        assert!(world.iter().any(|place| place.at[0] > 12000) && world.iter().any(|place| place.at[0] < 4000));
        let small =
            candidates(&[bounds(10.0, 50.0, 10.5, 50.3)], Some(bounds(-20.0, 0.0, 40.0, 60.0)), 5, LabelUnit::Pixel)
                .unwrap();
        for place in &small {
            let [lon, lat] = PixelGrid::place(place.at.map(|at| at as f64 + 0.5), 5).unwrap();
            assert!((9.97..10.53).contains(&lon) && (49.97..50.33).contains(&lat), "{lon} {lat}");
        }
        let tiles = candidates(&[bounds(10.0, 50.0, 10.5, 50.3)], None, 5, LabelUnit::Tile).unwrap();
        assert_eq!(tiles.len(), 1);
        let both_sides = [bounds(170.0, -10.0, 180.0, 10.0), bounds(-180.0, -10.0, -170.0, 10.0)];
        let across = candidates(&both_sides, None, 5, LabelUnit::Pixel).unwrap();
        let side = 512 << 5;
        assert!(across.iter().all(|place| place.at[0] < side / 36 || place.at[0] >= side * 35 / 36));
        assert!(across.len() <= 16 * 64 && across.iter().any(|place| place.at[0] < side / 36));
        let east = candidates(&both_sides, Some(bounds(0.0, -9.0, 180.0, 9.0)), 5, LabelUnit::Pixel).unwrap();
        assert!(!east.is_empty() && east.iter().all(|place| place.at[0] > side / 2));
        let (beyond, source) = ([bounds(50.0, 0.0, 60.0, 9.0)], Some(bounds(0.0, 0.0, 9.0, 9.0)));
        let error = candidates(&beyond, source, 5, LabelUnit::Pixel).unwrap_err();
        assert!(error.to_string().contains("part of the source"), "{error}");
    }
}
