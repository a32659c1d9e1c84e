//! The closed lists of words in parameters and answers, as named enums of the OpenAPI document. Handlers read and write these words as
//! texts, so that an error can say what was found; the types here only document them.

use std::borrow::Cow;

use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api::problem_kind::TABLE;
use crate::jobs::JobState as State;
use crate::outputs::{Format, TableFormat as Table};
use crate::zoo::Layer as FeatureMap;

/// Defines a type whose schema is an enum of words (or numbers), described by the doc comment.
macro_rules! words {
    ($($(#[doc = $line:literal])+ $name:ident: $kind:ident = $words:expr;)+) => {$(
        $(#[doc = $line])+
        pub(crate) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let lines: &[&str] = &[$($line.trim_ascii()),+];
                enumeration(Type::$kind, lines.join(" "), $words.into_iter().map(serde_json::Value::from).collect())
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )+

        /// The schemas of all words. utoipa collects those of bodies, but not those of parameters.
        pub(crate) fn schemas() -> Vec<(String, RefOr<Schema>)> {
            vec![$((stringify!($name).to_owned(), $name::schema())),+]
        }
    };
}

fn enumeration(kind: Type, description: String, values: Vec<serde_json::Value>) -> RefOr<Schema> {
    let words: schema::Object = ObjectBuilder::new()
        .schema_type(SchemaType::Type(kind))
        .description(Some(description))
        .enum_values(Some(values))
        .build();
    Schema::Object(words).into()
}

words! {
    /// The format of an answer, as the extension of a file.
    AnswerFormat: String = Format::ALL.map(Format::extension);
    /// The format of a tile, as the extension of a file.
    TileFormat: String = Format::ALL.into_iter().filter(|format| *format != Format::Parquet).map(Format::extension);
    /// The format of a prediction on an upload or an area, as the extension of a file.
    PredictFormat: String = Format::ALL.into_iter().filter(|format| *format != Format::Mvt).map(Format::extension);
    /// The format of a table of vectors, as the extension of a file.
    TableFormat: String = Table::ALL.map(Table::extension);
    /// The side of a tile in pixels.
    TileSize: Integer = [256, 512];
    /// How imagery is resampled to a tile: the nearest pixel, a weighted mean of four or sixteen pixels, or the mean of the covered area.
    Resampling: String = ["nearest", "bilinear", "cubic", "average"];
    /// How pixel values are scaled before the network sees them.
    Preset: String = ["auto", "tci", "reflectance"];
    /// A feature map of the network, or `all` of them.
    Layer: String = FeatureMap::ALL.map(|layer| layer.to_string()).into_iter().chain(["all".to_owned()]);
    /// How a feature map is reduced to one value per channel; `none` keeps the map.
    Pool: String = ["mean", "max", "none"];
    /// How the values of an embedding's cells are stored.
    CellPrecision: String = ["float32", "int8"];
    /// What the pixels of an image show: the colour of the category, its number, or the probability of one category.
    Render: String = ["color", "index", "probability"];
    /// Colours of continuous values.
    Colormap: String = ["viridis", "gray", "inferno", "terrain"];
    /// The state of a job; the last three are final.
    JobState: String = State::ALL.map(State::as_str);
    /// Who supplied the model.
    ModelOrigin: String = ["pretrained", "fine-tuned", "demo", "registered"];
    /// Where the weights are: not on this machine, on it, on their way into memory, or in memory.
    WeightsState: String = ["remote", "cached", "loading", "loaded"];
    /// What the weights are worth. `untrained-heads` are random heads on a trained backbone, `fitted-heads` have a file of their own;
    /// `synthetic` are made-up numbers for tests.
    WeightsKind: String = ["pretrained", "fine-tuned", "untrained-heads", "fitted-heads", "demo", "synthetic"];
    /// The kinds of tasks that a head is fitted for: categories or a number per pixel, or categories per tile or image.
    FitType: String = ["segment", "bin_segment", "regress", "classification", "multi_label_classification"];
    /// How a head is made of labels: a regularised linear layer (`linear`), or the labels themselves, of which the most similar ones are
    /// asked (`knn`). `auto` is `linear`.
    FitMethod: String = ["auto", "linear", "knn"];
    /// The type of a raster's values.
    SampleType: String = ["uint8", "uint16", "int16", "uint32", "int32", "float32", "float64"];
    /// The family of a backbone.
    BackboneKind: String = ["swin_v2", "resnet"];
    /// Whether the server runs (`live`) or takes requests (`ready`).
    HealthStatus: String = ["live", "ready"];
    /// The kind of a problem, for programs. Each is described under `/problems/{code}`.
    ProblemCode: String = TABLE.map(|row| row.code);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Layers, parse_preset};

    /// Checks that every documented word of `T` is understood, and that another one is refused.
    fn understood<T: PartialSchema, E>(parse: impl Fn(&str) -> Result<(), E>) {
        let RefOr::T(Schema::Object(object)) = T::schema() else { panic!("words are an object with an enum") };
        let words = object.enum_values.expect("words are an enum");
        assert!(words.iter().all(|word| parse(word.as_str().expect("a word is a text")).is_ok()), "{words:?}");
        assert!(parse("no-such-word").is_err());
    }

    #[test]
    fn every_documented_word_is_understood() {
        fn parse<T: std::str::FromStr>(text: &str) -> Result<(), T::Err> {
            text.parse::<T>().map(drop)
        }
        understood::<Resampling, _>(parse::<crate::raster::Resampling>);
        understood::<Preset, _>(|text| parse_preset(text).map(drop));
        understood::<Layer, _>(parse::<Layers>);
        understood::<Pool, _>(parse::<crate::prediction::Pool>);
        understood::<CellPrecision, _>(parse::<crate::prediction::CellPrecision>);
        understood::<Render, _>(parse::<crate::outputs::RenderMode>);
        understood::<Colormap, _>(parse::<crate::outputs::Colormap>);
        understood::<JobState, _>(parse::<State>);
        understood::<TileFormat, _>(|text| Format::by_extension(text).map(drop).ok_or(()));
    }
}
