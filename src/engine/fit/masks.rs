//! Heads fitted to pairs of image and mask: some pixels of each mask are labels of the same pixels of its image.
//!
//! The pixels of one image are held out together: neighbours look alike, and so do images of one place.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;

use super::labels::LabelValue;
use super::mask_pixels::{choose, shares};
use super::sampling::PlaceFeatures;
use super::usable::{Lost, Usable};
use super::{APART_PX, FitMethod, MAX_LABELS};
use crate::engine::caller::Caller;
use crate::engine::device::ModelAnswer;
use crate::engine::error::EngineError;
use crate::engine::models::ModelStatus;
use crate::engine::options::PixelOptions;
use crate::engine::{Chips, Engine, ScenePlan, chips};
use crate::raster::{Patch, PixelWindow, Raster};
use crate::zoo::{FitReport, MAX_EXAMPLES, Manifest};

/// Most different values of masks whose values stand for categories.
const MAX_VALUES: usize = 256;

/// Largest magnitude of such a value: up to here float32 holds whole numbers exactly.
const MAX_VALUE: f32 = 16_777_216.0;

/// An image, and the mask that says what its pixels show.
#[derive(Clone)]
pub struct MaskedChip {
    /// What errors call the image.
    pub name: String,
    /// Its captures.
    pub captures: Vec<Arc<dyn Raster>>,
    /// What errors call the mask.
    pub mask_name: String,
    /// The mask.
    pub mask: Arc<dyn Raster>,
    /// The band of the mask that holds the values, from 0.
    pub band: usize,
}

/// How masks are read.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskRule {
    /// Values that say nothing of their pixels.
    pub ignore: Vec<f32>,
    /// Whether the values themselves are to be learnt. Otherwise they stand for categories.
    pub are_numbers: bool,
}

/// What was found in masks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundValues {
    /// For each mask, how many of its pixels have which value. All numbers that are to be learnt count as 0.
    counts: Vec<BTreeMap<i32, u64>>,
    /// The least and the greatest of the numbers that are to be learnt.
    range: Option<[f32; 2]>,
}

impl FoundValues {
    /// Each value with the number of the first mask that has it, from 0.
    pub fn first_masks(&self) -> BTreeMap<i32, usize> {
        let mut firsts = BTreeMap::new();
        for (mask, counts) in self.counts.iter().enumerate() {
            for value in counts.keys() {
                firsts.entry(*value).or_insert(mask);
            }
        }
        firsts
    }
}

/// What to fit to pairs of image and mask.
#[derive(Clone, Debug)]
pub struct MaskFitRequest {
    /// The model to register, as for [`super::FitRequest`]; its task has an answer for each pixel.
    pub manifest: Manifest,
    /// How the head is made of the labels.
    pub method: FitMethod,
    /// Bands and scaling of the images.
    pub pixels: PixelOptions,
    /// How masks are read.
    pub rule: MaskRule,
    /// What was found in them.
    pub found: FoundValues,
    /// What each value says, for all that were found; of numbers none.
    pub meanings: BTreeMap<i32, LabelValue>,
    /// What is doubtful about the request.
    pub warnings: Vec<String>,
}

/// A pixel that is learnt from.
struct MaskLabel {
    /// The number of its image.
    chip: usize,
    /// Column and row.
    at: [usize; 2],
    says: LabelValue,
}

impl Engine {
    /// Counts the values in masks, which must have the sizes of their images. Blocks.
    ///
    /// # Errors
    /// If a mask cannot be read or has another size than its image, the pixels are too many, or values are none that can be learnt.
    pub fn find_mask_values(&self, pairs: &[MaskedChip], rule: &MaskRule) -> Result<FoundValues, EngineError> {
        let mut found = FoundValues::default();
        let mut pixels = 0;
        for pair in pairs {
            pixels += pair.check_size()?;
            EngineError::limit("pixels of all masks", pixels, self.scenes.max_pixels)?;
            let mut counts = BTreeMap::new();
            for value in pair.values(rule)?.into_iter().flatten() {
                if rule.are_numbers {
                    let [least, most] = found.range.unwrap_or([value; 2]);
                    found.range = Some([least.min(value), most.max(value)]);
                    *counts.entry(0).or_insert(0) += 1;
                } else {
                    *counts.entry(pair.whole(value)?).or_insert(0) += 1;
                    if counts.len() > MAX_VALUES {
                        let needed = "a value for each category is needed; the type regress learns numbers";
                        return Err(pair.unusable(&format!("found more than {MAX_VALUES} different values; {needed}")));
                    }
                }
            }
            found.counts.push(counts);
        }
        Ok(found)
    }

    /// Checks what can be checked of a fit to masks without the network. Blocks: it looks at every image.
    ///
    /// # Errors
    /// If the id is taken, the manifest describes no such model, an image cannot be used, or what masks say does not suffice.
    pub fn check_mask_fit(&self, request: &MaskFitRequest, pairs: &[MaskedChip]) -> Result<(), EngineError> {
        let MaskFitRequest { manifest, pixels, .. } = request;
        let plan = self.plan_new(manifest)?;
        EngineError::limit("chips of a fit", pairs.len() as u64, MAX_LABELS as u64)?;
        if let Some(lacking) = request.lacking(&plan.task.categories) {
            return Err(EngineError::Unusable { detail: format!("masks: {lacking}") });
        }
        let layers = plan.layers.clone();
        self.check_maps(&self.layers_of_chips(&plan, pixels, layers)?, pairs).map(drop)
    }

    /// Looks at the images. Blocks.
    fn check_maps(&self, plan: &ScenePlan, pairs: &[MaskedChip]) -> Result<Chips, EngineError> {
        let chips = pairs.iter().map(|pair| pair.captures.clone()).collect();
        chips::check(plan, chips, (&self.scenes, self.workers.max_batch()))
    }

    /// Fits a head to pixels of images and registers the model that has it. `report` is called with the images that are done and all there
    /// are.
    ///
    /// # Errors
    /// As [`Engine::check_mask_fit`], and if the network fails or the labels do not suffice.
    pub async fn fit_masks(
        self: &Arc<Self>,
        request: MaskFitRequest,
        pairs: Vec<MaskedChip>,
        caller: &Caller,
        report: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<ModelStatus, EngineError> {
        let plan = self.plan_fit(&request.manifest)?;
        let MaskFitRequest { manifest, method, pixels, mut warnings, .. } = request.clone();
        let scene = self.layers_of_chips(&plan, &pixels, plan.layers.clone())?;
        // And one more for the fit itself.
        let total = pairs.len() + 1;
        report(0, total);
        let (engine, planned) = (self.clone(), scene.clone());
        let choose = move || {
            let chips = engine.check_maps(&planned, &pairs)?;
            Ok::<_, EngineError>((chips, request.labels(&pairs, &planned)?))
        };
        let (chips, labels) = self.read_upload(choose).await?;
        warnings.extend(chips.warnings().iter().cloned());
        let _memory = self.memory().answer("the features of the labels", plan.bytes(labels.len())).await?;
        let labels = Arc::new(labels);
        let of_chips = labels.clone();
        let sample = move |chip: usize, answer: Option<ModelAnswer>| {
            let of_chip =
                of_chips.partition_point(|label| label.chip < chip)..of_chips.partition_point(|label| label.chip <= chip);
            let features = |label: &MaskLabel| match &answer {
                Some(ModelAnswer::Maps(maps)) => {
                    let [col, row] = label.at;
                    Some(maps.iter().flat_map(|map| map.at_pixel(col, row)).collect::<Vec<f32>>())
                }
                _ => None,
            };
            of_chips[of_chip].iter().map(features).collect::<Vec<_>>()
        };
        let parts = (&self.models, &*self.workers, &self.reading);
        let mut answers = chips::answers_as((&scene, caller), chips, parts, sample).await?;
        let (mut features, mut done) = (Vec::with_capacity(labels.len()), 0);
        while let Some(batch) = answers.next().await {
            let batch = batch?;
            done += batch.len();
            features.extend(batch.into_iter().flatten());
            report(done, total);
        }
        drop(answers);
        let said = labels.iter().map(|label| (label.says.clone(), [APART_PX * label.chip as f64, 0.0]));
        let samples = PlaceFeatures { features, warnings: Vec::new() };
        let usable = Usable::of(said, samples, (Lost::Pixels, 0), &plan.task)?;
        self.finish_fit(manifest, plan, usable, (method, FitReport { warnings, ..FitReport::default() })).await
    }
}

impl MaskFitRequest {
    /// The different things that pixels say, and which of them each value stands for.
    fn kinds(&self) -> (Vec<LabelValue>, BTreeMap<i32, usize>) {
        let mut kinds: Vec<LabelValue> = Vec::new();
        let mut of_value = BTreeMap::new();
        for (value, says) in &self.meanings {
            let known = kinds.iter().position(|kind| kind == says);
            of_value.insert(*value, known.unwrap_or(kinds.len()));
            if known.is_none() {
                kinds.push(says.clone());
            }
        }
        if self.rule.are_numbers {
            // One kind, whatever they are.
            of_value.insert(0, 0);
        }
        (kinds, of_value)
    }

    /// What was found and is needed, if masks cannot teach these categories.
    fn lacking(&self, categories: &[String]) -> Option<String> {
        let said: Vec<&LabelValue> = self.found.first_masks().keys().filter_map(|value| self.meanings.get(value)).collect();
        let everywhere = |category: usize| said.iter().all(|says| says.categories().contains(&category));
        match self.found.range {
            _ if self.found.counts.iter().all(BTreeMap::is_empty) => {
                Some("found no pixel with a value that counts; some are needed".to_owned())
            }
            Some([least, most]) if least == most => {
                Some(format!("found {least} everywhere; two different numbers are needed"))
            }
            Some(_) => None,
            None => {
                let category = (0..categories.len()).find(|category| everywhere(*category))?;
                Some(format!("found {:?} everywhere; pixels without it are needed, too", categories[category]))
            }
        }
    }

    /// The pixels to learn from, by image, in row-major order. Blocks.
    fn labels(&self, pairs: &[MaskedChip], plan: &ScenePlan) -> Result<Vec<MaskLabel>, EngineError> {
        let (kinds, of_value) = self.kinds();
        let kind_count = kinds.len().max(1);
        let there = self.found.counts.iter().map(|counts| {
            let mut there = vec![0; kind_count];
            counts.iter().filter_map(|(value, count)| Some((of_value.get(value)?, count))).for_each(|(kind, count)| {
                there[*kind] += count;
            });
            there
        });
        let most = if self.method == FitMethod::Nearest { MAX_EXAMPLES } else { MAX_LABELS };
        let shares = shares(&there.collect::<Vec<_>>(), most as u64);
        let mut labels = Vec::new();
        for (chip, (pair, shares)) in pairs.iter().zip(&shares).enumerate() {
            if shares.iter().all(|share| *share == 0) {
                continue;
            }
            let mut values = pair.values(&self.rule)?;
            let at = |source: EngineError| EngineError::Chip { index: chip, source: Arc::new(source) };
            let Some(read) = chips::read(plan, &pair.captures).map_err(at)? else { continue };
            if let Some(valid) = read.valid {
                values.iter_mut().zip(valid).filter(|(_, valid)| !valid).for_each(|(value, _)| *value = None);
            }
            let kind = |value: &Option<f32>| {
                let value = (*value)?;
                let key = if self.rule.are_numbers { 0 } else { pair.whole(value).ok()? };
                of_value.get(&key).copied()
            };
            let of_pixels: Vec<Option<usize>> = values.iter().map(kind).collect();
            let width = read.shape[2];
            labels.extend(choose(&of_pixels, shares, chip).into_iter().map(|(pixel, kind)| {
                let number = || LabelValue::Number(values[pixel].map_or(0.0, f64::from));
                let says = kinds.get(kind).cloned().unwrap_or_else(number);
                MaskLabel { chip, at: [pixel % width, pixel / width], says }
            }));
        }
        Ok(labels)
    }
}

impl MaskedChip {
    /// The pixels of the mask.
    ///
    /// # Errors
    /// If the image has others.
    fn check_size(&self) -> Result<u64, EngineError> {
        let size = |raster: &Arc<dyn Raster>| (raster.info().width, raster.info().height);
        let ((cols, rows), image) = (size(&self.mask), self.captures.first().map(size));
        match image {
            Some((width, height)) if (width, height) != (cols, rows) => {
                let needed = format!("{width} x {height} px, the size of its image {}, are needed", self.name);
                Err(self.unusable(&format!("found {cols} x {rows} px; {needed}")))
            }
            _ => Ok(cols as u64 * rows as u64),
        }
    }

    /// The values that say something of their pixels, in row-major order.
    fn values(&self, rule: &MaskRule) -> Result<Vec<Option<f32>>, EngineError> {
        let info = self.mask.info();
        let window = PixelWindow { col: 0, row: 0, width: info.width, height: info.height };
        let Patch { pixels, valid, .. } = self.mask.read(0, window, &[self.band])?;
        let says = |value: &f32| value.is_finite() && !rule.ignore.contains(value);
        Ok(pixels.into_iter().zip(valid).map(|(value, valid)| Some(value).filter(|value| valid && says(value))).collect())
    }

    /// A value that stands for a category.
    fn whole(&self, value: f32) -> Result<i32, EngineError> {
        if value.fract() == 0.0 && value.abs() <= MAX_VALUE {
            return Ok(value as i32);
        }
        Err(self.unusable(&format!("found the value {value}; whole numbers that stand for categories are needed")))
    }

    fn unusable(&self, detail: &str) -> EngineError {
        EngineError::Unusable { detail: format!("{}: {detail}", self.mask_name) }
    }
}
