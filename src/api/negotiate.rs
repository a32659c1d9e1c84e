//! Chooses the format of a response: `format=`, else the `Accept` header, else the task's default.

use axum::http::{HeaderMap, header};

use super::error::Problem;
use crate::error::ErrorKind;
use crate::outputs::{Format, TableFormat};
use crate::zoo::Task;

/// The format of a response for `task`; `wanted` is the value of `format=`. `Accept` chooses among the formats that `can_be` true
/// for this request, so that a client which also takes another format gets that one.
///
/// # Errors
/// 406 with the list of available formats, if the task has none of the wanted ones.
pub(super) fn choose(
    task: &Task,
    wanted: Option<&str>,
    headers: &HeaderMap,
    can_be: impl Fn(Format) -> bool,
) -> Result<Format, Problem> {
    if let Some(name) = wanted {
        return for_scene(task, name);
    }
    let available: Vec<Format> = Format::of(task.task_type).iter().copied().filter(|format| can_be(*format)).collect();
    let accept = accepted(headers);
    if accept.is_empty() {
        return Ok(available[0]);
    }
    let best = best(&accept, &available, Format::media_type);
    best.ok_or_else(|| not_acceptable(task, &format!("Accept: {accept}"), &available))
}

/// The format of a scene with an extension such as `png`.
///
/// # Errors
/// 406 with the list of available formats, if the task does not have it.
pub(super) fn for_scene(task: &Task, extension: &str) -> Result<Format, Problem> {
    by_extension(task, extension, |_| true)
}

/// The format of a tile with an extension such as `png`.
///
/// # Errors
/// 406 with the list of available formats, if the task does not have it.
pub(super) fn for_tile(task: &Task, extension: &str) -> Result<Format, Problem> {
    by_extension(task, extension, |format| format.has_tiles(task.task_type))
}

fn by_extension(task: &Task, extension: &str, can_be: impl Fn(Format) -> bool) -> Result<Format, Problem> {
    let available = || Format::of(task.task_type).iter().copied().filter(|format| can_be(*format));
    let format = Format::by_extension(extension).and_then(|wanted| available().find(|format| *format == wanted));
    format.ok_or_else(|| not_acceptable(task, extension, &available().collect::<Vec<_>>()))
}

/// The format of a table: that of `format=`, else by `Accept`, else the default.
///
/// # Errors
/// 406 with the list of formats, if it is none of them.
pub(super) fn table(wanted: Option<&str>, headers: &HeaderMap) -> Result<TableFormat, Problem> {
    let accept = accepted(headers);
    let found = match wanted {
        Some(name) => TableFormat::ALL.into_iter().find(|format| format.extension() == name),
        None if accept.is_empty() => TableFormat::ALL.first().copied(),
        None => best(&accept, &TableFormat::ALL, TableFormat::media_type),
    };
    found.ok_or_else(|| {
        let wanted = wanted.map_or_else(|| format!("Accept: {accept}"), str::to_owned);
        let available = TableFormat::ALL.map(TableFormat::extension).join(", ");
        Problem::new(ErrorKind::NotAcceptable, format!("a table cannot be {wanted}; it can be {available}"))
    })
}

/// The value of all `Accept` headers.
fn accepted(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",").trim().to_owned()
}

fn not_acceptable(task: &Task, wanted: &str, available: &[Format]) -> Problem {
    let available = names(available);
    let name = &task.name;
    Problem::new(ErrorKind::NotAcceptable, format!("{name} cannot be answered as {wanted}; it can be {available}"))
}

fn names(formats: &[Format]) -> String {
    formats.iter().map(|format| format.extension()).collect::<Vec<_>>().join(", ")
}

/// The available format with the highest quality value (RFC 9110, 12.5.1), the earlier one on a tie; `None` if all are 0.
fn best<F: Copy>(accept: &str, available: &[F], media_type: impl Fn(F) -> &'static str) -> Option<F> {
    let quality = |format: &F| {
        let essence = media_type(*format).split(';').next().unwrap_or_default();
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let specificity = specificity(parts.next()?, essence)?;
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok())?;
            Some((specificity, weight))
        });
        // The most specific matching range decides.
        ranges.max_by_key(|(specificity, _)| *specificity).map_or(0.0, |(_, weight)| weight)
    };
    let scored = available.iter().map(|format| (*format, quality(format)));
    let best = scored.fold(None, |best: Option<(F, f32)>, (format, weight)| match best {
        Some((_, most)) if most >= weight => best,
        _ if weight > 0.0 => Some((format, weight)),
        _ => best,
    });
    best.map(|(format, _)| format)
}

/// How specifically a media range matches a media type: 0 for `*/*`, 1 for `image/*`, 2 for the type itself; `None` if it does not.
fn specificity(range: &str, essence: &str) -> Option<u8> {
    let (range, essence) = (range.to_ascii_lowercase(), essence.to_ascii_lowercase());
    let kind = essence.split('/').next().unwrap_or_default();
    match range.as_str() {
        "*/*" => Some(0),
        _ if range.strip_suffix("/*") == Some(kind) => Some(1),
        _ if range == essence || alias(&range) == Some(essence.as_str()) => Some(2),
        _ => None,
    }
}

/// The registered name of a media type that has other names in use.
fn alias(range: &str) -> Option<&'static str> {
    match range {
        "image/geotiff" | "image/x-geotiff" => Some("image/tiff"),
        "application/vnd.geo+json" => Some("application/geo+json"),
        "application/jsonl" | "application/jsonlines" => Some("application/x-ndjson"),
        "application/x-protobuf" => Some("application/vnd.mapbox-vector-tile"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::TaskType;

    fn task(task_type: TaskType) -> Task {
        Task {
            name: "ships".into(),
            task_type,
            categories: vec![],
            colors: vec![],
            background_invalid: false,
            value_range: None,
        }
    }

    fn accept(task_type: TaskType, accept: &str) -> Result<Format, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        choose(&task(task_type), None, &headers, |format| format != Format::Safetensors)
    }

    #[test]
    fn accept_is_read_as_rfc_9110_says() {
        for (header, format) in [
            ("*/*", Format::Geojson),
            ("image/*", Format::Png),
            ("application/json", Format::Json),
            ("application/json;q=0.2, image/png;q=0.8", Format::Png),
            ("text/html, */*;q=0.1", Format::Geojson),
            ("*/*, application/geo+json;q=0", Format::Mvt),
        ] {
            assert_eq!(accept(TaskType::Detect, header).unwrap(), format, "{header}");
        }
    }

    #[test]
    fn a_format_that_the_request_cannot_have_gives_way_to_the_next_one() {
        let next = "application/x-safetensors, application/json;q=0.5";
        assert_eq!(accept(TaskType::Detect, next).unwrap(), Format::Json);
        assert_eq!(accept(TaskType::Embedding, "application/x-safetensors, application/*;q=0.1").unwrap(), Format::Json);
        let problem = accept(TaskType::Embedding, "application/x-safetensors").unwrap_err();
        assert!(problem.detail.ends_with("it can be json, npy, tif, parquet"), "{}", problem.detail);
    }

    #[test]
    fn what_cannot_be_had_is_told_what_can() {
        let problem = accept(TaskType::Regress, "application/geo+json").unwrap_err();
        assert!(problem.detail.contains("png, webp, tif, npy"), "{}", problem.detail);
        assert_eq!(problem.kind.row().status, 406);
        let unknown = choose(&task(TaskType::Regress), Some("bmp"), &HeaderMap::new(), |_| true).unwrap_err();
        assert_eq!(unknown.kind.row().status, 406);
        let other = choose(&task(TaskType::Regress), Some("mvt"), &HeaderMap::new(), |_| true).unwrap_err();
        assert_eq!(other.kind.row().status, 406);
    }

    #[test]
    fn without_a_wish_the_tasks_default_is_taken() {
        assert_eq!(choose(&task(TaskType::Segment), None, &HeaderMap::new(), |_| true).unwrap(), Format::Png);
        assert_eq!(choose(&task(TaskType::Segment), Some("tif"), &HeaderMap::new(), |_| true).unwrap(), Format::Tif);
    }
}
