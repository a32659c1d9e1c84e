//! The map viewer's page and static files.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::conditional::{is_known, not_modified, with_validators};
use crate::api::error::Problem;
use crate::api::extract::Path;
use crate::assets::{PageFile, page_file};
use crate::error::ErrorKind;

/// A new version of the program has new files under the same names, so caches must revalidate (and usually get 304).
const CACHE_CONTROL: &str = "no-cache";

/// Allows this server's files and API only; `blob:` and `data:` are needed by MapLibre, which runs its worker from a blob.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; worker-src 'self' blob:; \
    style-src 'self' 'unsafe-inline'; connect-src 'self' blob: data:; frame-ancestors 'self'; base-uri 'self'";

/// Path of a static file.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct StaticPath {
    /// Path under `static/`.
    #[param(example = "viewer.css")]
    path: String,
}

/// Open the map viewer
#[utoipa::path(get, path = "/", operation_id = "get_viewer", tag = "viewer",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "The cached file is up to date")))]
pub(super) async fn get_viewer(headers: HeaderMap) -> Result<Response, Problem> {
    let mut response = serve("index.html", &headers)?;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    Ok(response)
}

/// Get a file of the map viewer
#[utoipa::path(get, path = "/static/{*path}", operation_id = "get_static_file", tag = "viewer", params(StaticPath),
    responses((status = 200, description = "The file", content((String = "text/css"), (String = "text/javascript"),
        (String = "text/html"), (String = "text/plain"))),
        (status = 304, description = "The cached file is up to date")))]
pub(super) async fn get_static_file(
    Path(StaticPath { path }): Path<StaticPath>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    serve(&path, &headers)
}

fn serve(path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let asset = page_file(path).ok_or_else(|| Problem::new(ErrorKind::NotFound, format!("there is no file {path:?}")))?;
    let etag = etag(&asset);
    if is_known(headers, &etag) {
        return Ok(not_modified(headers, &etag, CACHE_CONTROL, media_type(path)));
    }
    let content = [(header::CONTENT_TYPE, media_type(path)), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok(with_validators((content, asset.bytes).into_response(), &etag, CACHE_CONTROL))
}

fn etag(asset: &PageFile) -> String {
    let hex: String = asset.hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
