//! The bounds of values.

use super::{ConfigError, NO_ORIGIN, ServerSettings};
use crate::areas::Destination;

/// Side of the windows' raster: a tile of 512 px must fit into one window.
const WINDOW_STEP_PX: usize = 512;
/// The networks' largest stride.
const HALO_STEP_PX: usize = 32;
/// Bounds of a window's input: beyond it one forward pass takes gigabytes.
const MAX_WINDOW_PX: usize = 4096;
const MAX_HALO_PX: usize = 1024;
/// A batch of chunks and their compressed bytes must fit into half of it.
const LEAST_REQUEST_MEMORY: u64 = 256 << 20;
/// Redis takes no larger value.
const LARGEST_REDIS_ENTRY: u64 = 512 << 20;
/// Each holds an answer in memory.
const MAX_PARALLEL_JOBS: usize = 64;

/// Refuses the first value that is out of bounds.
pub(super) fn check(server: &ServerSettings) -> Result<(), ConfigError> {
    let invalid = |key, found: &dyn std::fmt::Display, needed: &str| {
        Err(ConfigError::Invalid { key, found: found.to_string(), needed: needed.to_owned() })
    };
    if server.queue == 0 {
        return invalid("queue", &server.queue, "at least 1");
    }
    if server.max_jobs == 0 {
        return invalid("max-jobs", &server.max_jobs, "at least 1");
    }
    if !(1..=MAX_PARALLEL_JOBS).contains(&server.parallel_jobs) {
        return invalid("parallel-jobs", &server.parallel_jobs, "1 to 64");
    }
    if server.max_batch == Some(0) {
        return invalid("max-batch", &0, "at least 1");
    }
    if server.window == 0 || !server.window.is_multiple_of(WINDOW_STEP_PX) || server.window > MAX_WINDOW_PX {
        return invalid("window", &server.window, "a multiple of 512 from 512 to 4096");
    }
    if !server.halo.is_multiple_of(HALO_STEP_PX) || server.halo > MAX_HALO_PX {
        return invalid("halo", &server.halo, "a multiple of 32 from 0 to 1024");
    }
    if server.request_timeout.0.is_zero() {
        return invalid("request-timeout", &server.request_timeout, "a time above 0");
    }
    if server.max_upload_bytes.0 == 0 {
        return invalid("max-upload-bytes", &server.max_upload_bytes, "a size above 0");
    }
    if server.max_connections == Some(0) {
        return invalid("max-connections", &0, "at least 1");
    }
    if server.max_connections_per_peer == Some(0) {
        return invalid("max-connections-per-peer", &0, "at least 1");
    }
    if !(1..=LARGEST_REDIS_ENTRY).contains(&server.redis_max_entry.0) {
        return invalid("redis-max-entry", &server.redis_max_entry, "1 byte to 512MiB");
    }
    if server.redis_timeout.0.is_zero() {
        return invalid("redis-timeout", &server.redis_timeout, "a time above 0");
    }
    if server.redis_expiry.0.as_millis() == 0 {
        return invalid("redis-expiry", &server.redis_expiry, "a time above 0");
    }
    if let Some(memory) = server.request_memory.filter(|memory| memory.0 < LEAST_REQUEST_MEMORY) {
        return invalid("request-memory", &memory, "at least 256MiB");
    }
    if server.api_key.iter().any(|key| key.len() < 8 || !key.bytes().all(|byte| byte.is_ascii_graphic())) {
        return invalid(
            "api-key",
            &"a key that is too short or has odd characters",
            "8 or more printable ASCII characters without spaces",
        );
    }
    if let Some(origin) =
        server.cors.iter().find(|origin| *origin != "*" && *origin != NO_ORIGIN && !origin.contains("://"))
    {
        return invalid("cors", origin, "an origin such as https://maps.example.org, * or none");
    }
    let is_odd = |host: &&String| host.contains(['/', '@', '?', '#', ' ']) || host.trim_start_matches("*.").contains('*');
    if let Some(host) = server.remote.allow_host.iter().filter(|host| *host != "*").find(is_odd) {
        return invalid("allow-host", host, "a host such as example.org, *.example.org or *");
    }
    if let Some(Err(error)) = server.result_root.as_deref().map(Destination::check) {
        let needed = "a folder, or a prefix of a bucket such as s3://bucket/results,";
        return invalid("result-root", &format!("a place that cannot be used ({error})"), needed);
    }
    if let Some(root) = server.source_root.as_ref().filter(|root| !root.is_dir()) {
        return invalid("source-root", &root.display(), "a directory that exists");
    }
    Ok(())
}
