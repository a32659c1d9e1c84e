//! The JSON answers of predictions, as the OpenAPI document describes them; `outputs` writes them.

#![allow(dead_code, reason = "documents what crate::outputs writes")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use utoipa::openapi::schema::{Discriminator, KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::words::{Layer, Pool};
use super::{IndexDto, ModelDto, SharedAreaReport};

/// The bytes of a file. Client generators know `format: binary`; OpenAPI 3.1 alone would leave such a schema empty.
pub(crate) struct File;

impl PartialSchema for File {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        Schema::Object(ObjectBuilder::new().schema_type(Type::String).format(Some(format)).build()).into()
    }
}

impl ToSchema for File {}

/// Defines a type whose schema is one of several others, by reference.
macro_rules! one_of {
    ($(#[doc = $line:literal])+ $name:ident = $($variant:ident)|+ $(, by $discriminator:literal)?) => {
        $(#[doc = $line])+
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let lines: &[&str] = &[$($line.trim_ascii()),+];
                let names = [$($variant::name()),+];
                let builder = OneOfBuilder::new().description(Some(lines.join(" ")));
                let builder = names.iter().fold(builder, |builder, name| builder.item(Ref::from_schema_name(&**name)));
                $(let builder = builder.discriminator(Some(discriminator($discriminator, &names)));)?
                Schema::OneOf(builder.build()).into()
            }
        }

        impl ToSchema for $name {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                $(
                    schemas.push(($variant::name().into_owned(), $variant::schema()));
                    $variant::schemas(schemas);
                )+
            }
        }
    };
}

/// Names the property that tells schemas apart, with a mapping, as some generators do not derive it from the names.
fn discriminator(property: &str, names: &[Cow<'static, str>]) -> Discriminator {
    let mapping = names.iter().map(|name| (&**name, Ref::from_schema_name(&**name).ref_location));
    Discriminator::with_mapping(property, mapping)
}

/// GeoJSON (RFC 7946): what was found, as features.
#[derive(ToSchema)]
pub(crate) struct FeatureCollection {
    /// Always `FeatureCollection`.
    #[schema(rename = "type", example = "FeatureCollection")]
    kind: String,
    /// `pixel` if the raster has no georeference: coordinates are then columns and rows of pixels and not degrees.
    #[schema(example = "pixel")]
    coordinates: Option<String>,
    /// Objects, or areas of one category.
    features: Vec<Feature>,
    /// Warnings about suspicious input; absent if there are none.
    warnings: Option<Vec<String>>,
}

/// An object, or an area of one category.
#[derive(ToSchema)]
pub(crate) struct Feature {
    /// Always `Feature`.
    #[schema(rename = "type", example = "Feature")]
    kind: String,
    /// Its outline.
    geometry: Geometry,
    /// Its category and score.
    properties: FeatureProperties,
}

one_of! {
    /// The outline of a feature, in longitude and latitude or in pixels.
    Geometry = Polygon | MultiPolygon, by "type"
}

/// An outline in one piece, perhaps with holes.
#[derive(ToSchema)]
pub(crate) struct Polygon {
    /// Always `Polygon`.
    #[schema(rename = "type", example = "Polygon")]
    kind: String,
    /// The exterior ring, then those of the holes; the last position of a ring repeats the first.
    coordinates: Vec<Vec<Vec<f64>>>,
}

/// An outline in several pieces.
#[derive(ToSchema)]
pub(crate) struct MultiPolygon {
    /// Always `MultiPolygon`.
    #[schema(rename = "type", example = "MultiPolygon")]
    kind: String,
    /// The rings of each piece, as in a polygon.
    coordinates: Vec<Vec<Vec<Vec<f64>>>>,
}

/// What a feature is.
#[derive(ToSchema)]
pub(crate) struct FeatureProperties {
    /// Name of the category.
    #[schema(example = "water")]
    category: String,
    /// Index of the category in the task's list.
    category_id: u32,
    /// Probability from 0 to 1.
    score: f64,
    /// The probability of every category, by name; for classifications only.
    scores: Option<BTreeMap<String, f64>>,
}

one_of! {
    /// A prediction as JSON: `Detections` of detect and instance tasks, `Classification` of classification tasks, `Embedding` of the
    /// task `embedding`, or `EmbeddingList` with `layer=all`.
    JsonPrediction = Detections | Classification | Embedding | EmbeddingList
}

one_of! {
    /// What a job has made, as JSON: a prediction, the model of a fit, the index of an area, or a report of results that lie elsewhere.
    JsonResult = Detections | Classification | Embedding | EmbeddingList | ModelDto | IndexDto | AreaReport | SharedAreaReport
}

/// How an area job ended that this server did and whose results lie at its destination.
#[derive(ToSchema)]
pub(crate) struct AreaReport {
    /// `done` or `done with failures`.
    #[schema(example = "done")]
    state: String,
    /// Blocks of the plan.
    blocks: u64,
    /// Blocks that are there.
    done: u64,
    /// Blocks that this run has made.
    made: u64,
    /// Blocks that could not be done.
    failed: Vec<FailedBlock>,
    /// Seconds that the run took.
    seconds: f64,
    /// Warnings about the imagery.
    warnings: Vec<String>,
}

/// A block that could not be done.
#[derive(ToSchema)]
pub(crate) struct FailedBlock {
    /// Name of the block.
    block: String,
    /// Why it failed.
    reason: String,
}

/// The objects of a raster: lists of the same length, the best object first.
#[derive(ToSchema)]
pub(crate) struct Detections {
    /// Left, top, right and bottom of each object, in pixels.
    #[schema(example = json!([[54.7, 77.9, 97.2, 115.9]]))]
    boxes: Vec<Vec<f64>>,
    /// Probability of each object, from 0 to 1.
    #[schema(example = json!([0.957]))]
    scores: Vec<f64>,
    /// Index of each object's category in the task's list.
    #[schema(example = json!([1]))]
    labels: Vec<u32>,
    /// Name of each object's category.
    #[schema(example = json!(["tree"]))]
    categories: Vec<String>,
    /// Warnings about suspicious input; absent if there are none.
    warnings: Option<Vec<String>>,
}

/// What a raster shows.
#[derive(ToSchema)]
pub(crate) struct Classification {
    /// The likeliest category; null if the network gave no number.
    #[schema(example = "water")]
    category: Option<String>,
    /// Its probability from 0 to 1.
    score: Option<f64>,
    /// The probability of every category, by name; null if the network gave no number.
    scores: BTreeMap<String, Option<f64>>,
    /// Warnings about suspicious input; absent if there are none.
    warnings: Option<Vec<String>>,
}

/// A feature map of the network, or one value per channel.
#[derive(ToSchema)]
pub(crate) struct Embedding {
    /// The map it was made from.
    layer: Layer,
    /// How the map was reduced.
    pool: Pool,
    /// Channels; with `pool=none` channels, rows and columns.
    #[schema(example = json!([192]))]
    shape: Vec<u32>,
    /// Values in the order of `shape`, the last index running fastest; null if the network gave no number.
    values: Vec<Option<f64>>,
    /// Warnings about suspicious input; absent if there are none.
    warnings: Option<Vec<String>>,
}

/// All feature maps of the network.
#[derive(ToSchema)]
pub(crate) struct EmbeddingList {
    /// One embedding per map, in the order of the model's `layers`.
    embeddings: Vec<Embedding>,
    /// Warnings about suspicious input; absent if there are none.
    warnings: Option<Vec<String>>,
}
