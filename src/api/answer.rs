//! An encoded prediction or imagery tile together with its HTTP headers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::error::Problem;
use crate::engine::Timings;
use crate::georef::Georef;
use crate::jobs::JobOutcome;
use crate::outputs::{Encoded, Format, RenderOptions, encode, encode_imagery};
use crate::prediction::Prediction;
use crate::raster::RgbaTile;
use crate::weights::WeightsKind;
use crate::zoo::Task;

/// Bounds of the answer's pixels, `minx,miny,maxx,maxy`, in the coordinate system of `Content-Crs`.
pub(super) const CONTENT_BBOX: HeaderName = HeaderName::from_static("content-bbox");
/// Coordinate system of `Content-Bbox`: `EPSG:3857`, or a PROJ string.
pub(super) const CONTENT_CRS: HeaderName = HeaderName::from_static("content-crs");
/// Milliseconds spent on reading, queueing, inference and encoding.
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Kind of the model's weights: `pretrained`, `fine-tuned`, `untrained-heads`, `fitted-heads`, `demo` or `synthetic`.
pub(super) const MODEL_WEIGHTS: HeaderName = HeaderName::from_static("x-model-weights");
/// Warnings about suspicious input, separated by ` | `.
pub(super) const INPUT_WARNINGS: HeaderName = HeaderName::from_static("x-input-warnings");

/// Longest header value with text from data: proxies refuse headers of more than a few kilobytes.
const MAX_TEXT_BYTES: usize = 2048;

/// A response body and the headers that describe it.
#[derive(Clone, Debug)]
pub(super) struct EncodedAnswer {
    /// Empty for a vector tile without features.
    pub body: Bytes,
    /// Media type, timings, georeference, kind of weights, warnings; `ETag` and `Cache-Control` are added by the routes.
    pub headers: HeaderMap,
}

impl EncodedAnswer {
    /// Encodes a prediction on a blocking thread; `timings` go into `Server-Timing`.
    ///
    /// # Errors
    /// If the prediction cannot be encoded in `format`.
    pub(super) async fn encode(
        prediction: Prediction,
        task: Arc<Task>,
        format: Format,
        render: RenderOptions,
        weights: WeightsKind,
        timings: Timings,
    ) -> Result<Self, Problem> {
        tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let encoded = encode(&prediction, &task, format, &render)?;
            let timing = server_timing(&timings, started.elapsed());
            let mut answer = Self::new(encoded, prediction.georef.as_ref(), &timing);
            answer.headers.insert(MODEL_WEIGHTS, HeaderValue::from_static(weights.as_str()));
            if !prediction.warnings.is_empty() {
                insert(&mut answer.headers, INPUT_WARNINGS, &prediction.warnings.join(" | "));
            }
            Ok(answer)
        })
        .await
        .map_err(Problem::internal)?
    }

    /// Encodes an imagery tile as PNG; `read` is the time it took to read it, `unmatched` why it may be empty. Blocks.
    ///
    /// # Errors
    /// If the PNG encoder fails.
    pub(super) fn imagery(
        tile: &RgbaTile,
        georef: &Georef,
        read: Duration,
        unmatched: Option<String>,
    ) -> Result<Self, Problem> {
        let started = Instant::now();
        let (rgb, valid) = tile.rgb_and_valid();
        let encoded = encode_imagery(&rgb, &valid, tile.width, tile.height)?;
        let timing = server_timing(&Timings { read, ..Timings::default() }, started.elapsed());
        let mut answer = Self::new(encoded, Some(georef), &timing);
        let warnings: Vec<&str> = tile.warnings.iter().chain(&unmatched).map(String::as_str).collect();
        if !warnings.is_empty() {
            insert(&mut answer.headers, INPUT_WARNINGS, &warnings.join(" | "));
        }
        Ok(answer)
    }

    fn new(encoded: Encoded, georef: Option<&Georef>, timing: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(encoded.media_type));
        insert(&mut headers, SERVER_TIMING, timing);
        if let Some(georef) = georef {
            insert(&mut headers, CONTENT_BBOX, &bbox(georef));
            insert(&mut headers, CONTENT_CRS, &georef.crs.to_string());
        }
        Self { body: encoded.bytes, headers }
    }
}

/// `minx,miny,maxx,maxy`, rounded to a tenth of a millimetre to hide floating-point errors (`0.30000000000000004`).
fn bbox(georef: &Georef) -> String {
    let decimals = if georef.crs.is_geographic() { 1e9 } else { 1e4 };
    let bounds = georef.bounds();
    // Adding 0 turns -0 into 0.
    let rounded = |value: f64| ((value * decimals).round() / decimals + 0.0).to_string();
    [bounds.min_x, bounds.min_y, bounds.max_x, bounds.max_y].map(rounded).join(",")
}

impl From<EncodedAnswer> for JobOutcome {
    fn from(answer: EncodedAnswer) -> Self {
        let header = |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
        Self { headers: answer.headers.iter().filter_map(header).collect(), body: answer.body }
    }
}

impl IntoResponse for EncodedAnswer {
    /// 200, or 204 for a vector tile without features.
    fn into_response(self) -> Response {
        let EncodedAnswer { body, mut headers } = self;
        if body.is_empty() {
            headers.remove(header::CONTENT_TYPE);
            return (StatusCode::NO_CONTENT, headers).into_response();
        }
        let mut response = Response::new(Body::from(body));
        *response.headers_mut() = headers;
        response
    }
}

fn server_timing(timings: &Timings, encode: Duration) -> String {
    let parts = [("read", timings.read), ("queue", timings.queue), ("infer", timings.infer), ("encode", encode)];
    let entry = |(name, time): (&str, Duration)| format!("{name};dur={:.3}", time.as_secs_f64() * 1e3);
    parts.map(entry).join(", ")
}

/// The header of warnings for an answer that is stored with its headers as texts.
pub(super) fn warnings_header(warnings: &[String]) -> (String, String) {
    let mut headers = HeaderMap::new();
    insert(&mut headers, INPUT_WARNINGS, &warnings.join(" | "));
    let text = headers[&INPUT_WARNINGS].to_str().unwrap_or_default().to_owned();
    (INPUT_WARNINGS.to_string(), text)
}

/// Adds a header whose text comes from data: cut to [`MAX_TEXT_BYTES`], and with `?` for all but printable ASCII.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    let allowed = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let text: String = text.chars().take(MAX_TEXT_BYTES).map(allowed).collect();
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_holds_any_text() {
        let mut headers = HeaderMap::new();
        insert(&mut headers, INPUT_WARNINGS, "band β:\r\nX-Evil: 1");
        assert_eq!(headers[INPUT_WARNINGS], "band ?:??X-Evil: 1");
        insert(&mut headers, INPUT_WARNINGS, &"w".repeat(10_000));
        assert_eq!(headers[INPUT_WARNINGS].len(), MAX_TEXT_BYTES);
    }

    #[test]
    fn bounds_are_written_without_the_noise_of_binary_sums() {
        use crate::georef::{Crs, GeoTransform};
        let transform = GeoTransform::north_up(-0.3, 4e-9, 0.1, 0.1);
        let georef = Georef { crs: Crs::web_mercator(), transform, width: 3, height: 6 };
        assert_eq!(bbox(&georef), "-0.3,-0.6,0,0");
    }

    #[test]
    fn timings_are_milliseconds() {
        let timings = Timings { read: Duration::from_micros(1500), ..Timings::default() };
        let text = server_timing(&timings, Duration::from_millis(2));
        assert_eq!(text, "read;dur=1.500, queue;dur=0.000, infer;dur=0.000, encode;dur=2.000");
    }
}
