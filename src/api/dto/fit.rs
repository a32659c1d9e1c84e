//! The request to fit a head to labels, and its labels in GeoJSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::imagery_body::imagery_body;
use super::said::{LabelKind, Said, short};
use super::words;
use crate::api::error::Problem;
use crate::engine::{FitMethod, FitRequest, Label, LabelShape, MAX_LABELS};
use crate::error::ErrorKind;
use crate::zoo::{Layer, Manifest, ModelSpec, Task};

imagery_body! {
    /// A fit of a new head to labels.
    #[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    #[schema(as = Fit)]
    pub(crate) struct FitBody {
        /// Id of the model to register: at most 64 letters, digits, `_`, `.`, `-`.
        #[schema(pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$", example = "probe")]
        pub id: String,
        /// Kind of the head: `segment` gives one category per pixel, `bin_segment` any number of them, `regress` a number;
        /// `classification` and `multi_label_classification` give categories per tile or image.
        #[serde(rename = "type")]
        #[schema(value_type = words::FitType, example = "segment")]
        pub task_type: String,
        /// Id of the source that the labels are about, as in `GET /v1/sources`.
        #[schema(example = "world")]
        pub source: String,
        /// GeoJSON feature collection of points and polygons in longitude and latitude. A point stands for the pixel that it lies on, at
        /// the resolution that the model was trained on; a polygon for up to 64 pixels in it. For classification they stand for the tiles of
        /// 256 pixels that these lie on. At most 10000 pixels, 64 categories.
        #[schema(value_type = Object)]
        pub labels: LabelCollection,
        /// Property of the features that holds the category; for `bin_segment` and `multi_label_classification` a list of categories, which
        /// may be empty, or true or false if there is one; for `regress` the number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(default = "class", example = "class")]
        pub property: Option<String>,
        /// Red, green and blue of each category. Default: eight distinct colours in turn.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        #[schema(example = json!({"desert": [214, 178, 90], "forest": [34, 120, 60]}))]
        pub colors: BTreeMap<String, [u8; 3]>,
        /// Name of the task.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(default = "fit", example = "ground")]
        pub task: Option<String>,
        /// Short description of the model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub title: Option<String>,
        /// Feature maps of the base model that the head reads, joined: `backbone.0` … `backbone.3`, `fpn.0` … `fpn.3`, `upsample`. Default:
        /// `fpn.0`, and `backbone.3` for classification.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Vec<String>>, example = json!(["fpn.0"]))]
        pub layers: Option<Vec<Layer>>,
        /// How the head is made of the labels. `knn` takes at most 500 pixels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<words::FitMethod>, default = "auto", example = "auto")]
        pub method: Option<String>,
    }
}

/// A GeoJSON feature collection, as far as labels need it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LabelCollection {
    #[serde(rename = "type")]
    collection_type: String,
    features: Vec<LabelFeature>,
    /// Of files older than RFC 7946.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crs: Option<Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LabelFeature {
    #[serde(rename = "type")]
    feature_type: String,
    geometry: Option<LabelGeometry>,
    #[serde(default)]
    properties: Option<Map<String, Value>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LabelGeometry {
    #[serde(rename = "type")]
    geometry_type: String,
    #[serde(default)]
    coordinates: Value,
}

impl FitBody {
    /// The fit of a head on the model `base`.
    ///
    /// # Errors
    /// If a value is malformed or out of range, or the labels cannot be used.
    pub(crate) fn request(&self, base: &ModelSpec) -> Result<FitRequest, Problem> {
        let kind = LabelKind::of(&self.task_type)?;
        let (categories, labels) = self.labels.read(self.property.as_deref().unwrap_or("class"), kind)?;
        let Self { id, task, title, layers, colors, .. } = self;
        let manifest = HeadWords { id, task, title, layers, colors }.manifest(base, kind, categories, &self.source)?;
        let method = method(self.method.as_deref())?;
        Ok(FitRequest { manifest, source: self.source.clone(), method, pixels: self.pixels()?, labels })
    }
}

/// How a head is made of labels.
///
/// # Errors
/// If there is no such method.
pub(super) fn method(name: Option<&str>) -> Result<FitMethod, Problem> {
    match name {
        None | Some("auto" | "linear") => Ok(FitMethod::Linear),
        Some("knn") => Ok(FitMethod::Nearest),
        Some(found) => Err(Problem::invalid(format!("method: found {found:?}; one of auto, linear, knn is needed"))),
    }
}

/// What a request says of the new model and its head.
pub(super) struct HeadWords<'a> {
    pub(super) id: &'a str,
    pub(super) task: &'a Option<String>,
    pub(super) title: &'a Option<String>,
    pub(super) layers: &'a Option<Vec<Layer>>,
    pub(super) colors: &'a BTreeMap<String, [u8; 3]>,
}

impl HeadWords<'_> {
    /// The manifest of the model with a head on `base` that tells `categories`; `learnt_on` says in its usual title from what.
    ///
    /// # Errors
    /// If not every category has a colour while some have, or there are others.
    pub(super) fn manifest(
        &self,
        base: &ModelSpec,
        kind: LabelKind,
        categories: Vec<String>,
        learnt_on: &str,
    ) -> Result<Manifest, Problem> {
        // The finest map of the pyramid, in which every coarser one has a part; of whole images the most abstract map.
        let usual = match (kind.task_type.is_label(), base.fpn) {
            (true, _) => Layer::Backbone(3),
            (false, Some(_)) => Layer::Fpn(0),
            (false, None) => Layer::Backbone(0),
        };
        let layers = self.layers.clone().unwrap_or_else(|| vec![usual]);
        let title = self.title.clone().unwrap_or_else(|| format!("{} with a head fitted on {learnt_on}", base.id));
        let task = Task {
            name: self.task.clone().unwrap_or_else(|| "fit".to_owned()),
            task_type: kind.task_type,
            colors: self.colors_of(&categories)?,
            categories,
            background_invalid: false,
            value_range: None,
        };
        Ok(Manifest { title: Some(title), ..Manifest::linear(self.id, &base.id, task, layers) })
    }

    /// The colour of each category; none if the request has none.
    ///
    /// # Errors
    /// If a category has no colour while others have, or a colour is for a category that no label has.
    fn colors_of(&self, categories: &[String]) -> Result<Vec<[u8; 3]>, Problem> {
        if self.colors.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(unknown) = self.colors.keys().find(|name| categories.binary_search(name).is_err()) {
            return Err(Problem::unusable(format!(
                "colors: found {unknown:?}; the labels have the categories {categories:?}"
            )));
        }
        let color = |name: &String| {
            let missing = || {
                Problem::unusable(format!(
                    "colors: found none for {name:?}; one for each category is needed, or none at all"
                ))
            };
            self.colors.get(name).copied().ok_or_else(missing)
        };
        categories.iter().map(color).collect()
    }
}

/// The categories of all labels, in alphabetical order; `place` says where they were found.
///
/// # Errors
/// If they are too few or too many.
pub(super) fn categories_of<'a>(
    said: impl Iterator<Item = &'a Said>,
    place: &str,
    kind: LabelKind,
) -> Result<Vec<String>, Problem> {
    let mut categories: Vec<String> = said.flat_map(|said| said.names().iter().cloned()).collect();
    categories.sort_unstable();
    categories.dedup();
    let needed = kind.category_count();
    if needed.contains(&categories.len()) {
        return Ok(categories);
    }
    let (found, least, most) = (categories.len(), needed.start(), needed.end());
    Err(Problem::unusable(format!("labels: found {found} categories in {place}; {least} to {most} are needed")))
}

impl LabelCollection {
    /// The categories in alphabetical order, and the labels.
    ///
    /// # Errors
    /// If it is no feature collection, has too many features or categories, or a feature has another geometry or says nothing of `kind`.
    fn read(&self, property: &str, kind: LabelKind) -> Result<(Vec<String>, Vec<Label>), Problem> {
        if self.collection_type != "FeatureCollection" {
            let found = &self.collection_type;
            return Err(Problem::unusable(format!("labels: found {found:?}; a GeoJSON FeatureCollection is needed")));
        }
        if let Some(crs) = self.crs.as_ref().filter(|crs| !is_lon_lat(crs)) {
            return Err(Problem::unusable(format!(
                "labels: found the coordinate system {crs}; longitude and latitude (RFC 7946) are needed"
            )));
        }
        if self.features.len() > MAX_LABELS {
            let found = self.features.len();
            return Err(Problem::new(
                ErrorKind::TooLarge,
                format!("labels: {found} are more than the limit of {MAX_LABELS}"),
            ));
        }
        let read = |(index, feature): (usize, &LabelFeature)| feature.read(index, property, kind);
        let said: Vec<(Said, Vec<LabelShape>)> = self.features.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let categories = categories_of(said.iter().map(|(said, _)| said), &format!("{property:?}"), kind)?;
        if said.is_empty() {
            return Err(Problem::unusable("labels: found no feature; some are needed"));
        }
        let mut labels = Vec::new();
        for (feature, (said, shapes)) in said.into_iter().enumerate() {
            let says = said.value(&categories, kind);
            labels.extend(shapes.into_iter().map(|shape| Label { feature, says: says.clone(), shape }));
        }
        Ok((categories, labels))
    }
}

/// Whether a `crs` member names longitude and latitude.
fn is_lon_lat(crs: &Value) -> bool {
    let name = crs["properties"]["name"].as_str().unwrap_or_default();
    crs.is_null() || name.ends_with("CRS84") || name.ends_with(":4326")
}

impl LabelFeature {
    /// What it says, and the places it is about.
    fn read(&self, index: usize, property: &str, kind: LabelKind) -> Result<(Said, Vec<LabelShape>), Problem> {
        let at =
            |found: String, needed: &str| Problem::unusable(format!("labels: feature {index}: found {found}; {needed}"));
        if self.feature_type != "Feature" {
            return Err(at(format!("{:?}", self.feature_type), "a GeoJSON Feature is needed"));
        }
        let Some(value) = self.properties.as_ref().and_then(|properties| properties.get(property)) else {
            let names = self.properties.iter().flatten().map(|(name, _)| name.as_str()).take(10).collect::<Vec<_>>();
            let found = if names.is_empty() { "no properties".to_owned() } else { format!("the properties {names:?}") };
            return Err(at(found, &format!("{property:?} is needed (the field property names another)")));
        };
        let said =
            Said::of(value, property, kind).map_err(|needed| at(format!("{} in {property:?}", short(value)), &needed))?;
        let Some(geometry) = &self.geometry else {
            return Err(at("no geometry".to_owned(), "a point or a polygon is needed"));
        };
        let shapes = geometry.shapes().ok_or_else(|| {
            at(
                format!("geometry {:?}", geometry.geometry_type),
                "a valid Point, MultiPoint, Polygon or MultiPolygon is needed",
            )
        })?;
        Ok((said, shapes))
    }
}

impl LabelGeometry {
    /// `None` if it is of another type or malformed.
    fn shapes(&self) -> Option<Vec<LabelShape>> {
        let each = |coordinates: &Value, one: fn(&Value) -> Option<LabelShape>| {
            coordinates.as_array()?.iter().map(one).collect::<Option<Vec<_>>>()
        };
        match self.geometry_type.as_str() {
            "Point" => Some(vec![point(&self.coordinates)?]),
            "MultiPoint" => each(&self.coordinates, point),
            "Polygon" => Some(vec![polygon(&self.coordinates)?]),
            "MultiPolygon" => each(&self.coordinates, polygon),
            _ => None,
        }
    }
}

/// Longitude and latitude; a height after them is left out.
fn position(coordinates: &Value) -> Option<[f64; 2]> {
    let numbers = coordinates.as_array()?;
    Some([numbers.first()?.as_f64()?, numbers.get(1)?.as_f64()?])
}

fn point(coordinates: &Value) -> Option<LabelShape> {
    position(coordinates).map(LabelShape::Point)
}

fn polygon(coordinates: &Value) -> Option<LabelShape> {
    /// A triangle, closed.
    const LEAST: usize = 4;
    let ring = |ring: &Value| {
        let ring = ring.as_array()?.iter().map(position).collect::<Option<Vec<_>>>()?;
        (ring.len() >= LEAST).then_some(ring)
    };
    let rings = coordinates.as_array()?.iter().map(ring).collect::<Option<Vec<_>>>()?;
    (!rings.is_empty()).then_some(LabelShape::Polygon(rings))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::LabelValue;

    fn world() -> ModelSpec {
        crate::zoo::demo_models(include_str!("../../../static/demo/demo.json"))
            .unwrap()
            .into_iter()
            .find(|spec| spec.id == "world")
            .unwrap()
    }

    fn body(features: Value) -> FitBody {
        let labels = json!({"type": "FeatureCollection", "features": features});
        serde_json::from_value(json!({"id": "probe", "type": "segment", "source": "world", "labels": labels})).unwrap()
    }

    fn feature(geometry: Value, class: Value) -> Value {
        json!({"type": "Feature", "geometry": geometry, "properties": {"class": class}})
    }

    fn at(lon: f64) -> Value {
        json!({"type": "Point", "coordinates": [lon, 1.0, 250.0]})
    }

    #[test]
    fn categories_are_sorted_and_numbers_are_names() {
        let square = json!({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]});
        let request =
            body(json!([feature(at(1.0), json!("water")), feature(square, json!(3)), feature(at(2.0), json!("water"))]))
                .request(&world())
                .unwrap();
        assert_eq!(request.manifest.heads[0].categories, ["3", "water"]);
        assert_eq!(
            request.labels.iter().map(|label| label.says.clone()).collect::<Vec<_>>(),
            [1, 0, 1].map(LabelValue::Category)
        );
        assert_eq!(request.labels[0].shape, LabelShape::Point([1.0, 1.0]));
        assert!(matches!(&request.labels[1].shape, LabelShape::Polygon(rings) if rings[0].len() == 4));
    }

    #[test]
    fn each_category_has_its_colour_or_none_has() {
        let mut both = body(json!([feature(at(1.0), json!("water")), feature(at(2.0), json!("land"))]));
        let colors = |body: &FitBody| body.request(&world()).map(|request| request.manifest.heads[0].colors.clone());
        assert!(colors(&both).unwrap().is_empty());
        both.colors = BTreeMap::from([("water".to_owned(), [0, 0, 255])]);
        assert!(colors(&both).unwrap_err().detail.contains("none for \"land\""));
        both.colors.insert("land".to_owned(), [120, 96, 60]);
        assert_eq!(colors(&both).unwrap(), [[120, 96, 60], [0, 0, 255]]);
        both.colors.insert("ice".to_owned(), [255; 3]);
        assert!(colors(&both).unwrap_err().detail.contains("found \"ice\""));
    }

    #[test]
    fn each_kind_reads_what_it_needs() {
        let read = |kind: &str, values: Value| {
            let features =
                values.as_array().unwrap().iter().enumerate().map(|(i, value)| feature(at(i as f64), value.clone()));
            let mut body = body(features.collect());
            body.task_type = kind.to_owned();
            let request = body.request(&world()).map_err(|problem| problem.detail)?;
            let said = request.labels.into_iter().map(|label| label.says).collect::<Vec<_>>();
            Ok::<_, String>((request.manifest.heads[0].categories.clone(), said))
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (categories, said) = read("bin_segment", json!([["b", "a", "b"], [], "b"])).unwrap();
        assert_eq!(categories, names(&["a", "b"]));
        assert_eq!(said, [vec![0, 1], vec![], vec![1]].map(LabelValue::Categories));
        let (categories, said) = read("multi_label_classification", json!([true, false])).unwrap();
        assert_eq!((categories, said), (names(&["class"]), [vec![0], vec![]].map(LabelValue::Categories).to_vec()));
        let (categories, said) = read("regress", json!([1, -2.5])).unwrap();
        assert_eq!((categories, said), (names(&[]), [1.0, -2.5].map(LabelValue::Number).to_vec()));
        assert!(read("regress", json!([1, "2"])).unwrap_err().contains("a number is needed"));
        assert!(read("classification", json!(["a", ["a"]])).unwrap_err().contains("feature 1: found [\"a\"]"));
        assert!(read("bin_segment", json!([["a", 1.5e300, null]])).unwrap_err().contains("list"));
    }

    #[test]
    fn labels_that_cannot_be_used_are_told_with_what_is_needed() {
        let good = feature(at(0.0), json!("a"));
        for (bad, told) in [
            (feature(at(1.0), json!("a")), "found 1 categories"),
            (feature(at(1.0), json!("")), "feature 1"),
            (feature(at(1.0), json!(null)), "found null"),
            (feature(json!(null), json!("b")), "no geometry"),
            (feature(json!({"type": "LineString", "coordinates": [[0, 0], [1, 1]]}), json!("b")), "LineString"),
            (feature(json!({"type": "Point", "coordinates": ["0", 1]}), json!("b")), "valid Point"),
            (feature(json!({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}), json!("b")), "valid Point"),
            (json!({"type": "Feature", "geometry": at(1.0), "properties": {"kind": "b"}}), "[\"kind\"]"),
            (json!({"type": "Shape", "geometry": at(1.0), "properties": {"class": "b"}}), "\"Shape\""),
        ] {
            let problem = body(json!([good, bad])).request(&world()).unwrap_err();
            assert!(problem.detail.contains(told), "{}", problem.detail);
        }
        let mut other = body(json!([good]));
        other.task_type = "detect".to_owned();
        assert!(other.request(&world()).unwrap_err().detail.contains("regress"));
        let mut projected = body(json!([good]));
        projected.labels.crs = Some(json!({"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}));
        assert!(projected.request(&world()).unwrap_err().detail.contains("32632"));
    }
}
