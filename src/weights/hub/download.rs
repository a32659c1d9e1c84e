//! Files of a Hugging Face hub repository: found in its cache, or downloaded into it.
//!
//! A download is written to `blobs/ETAG.incomplete` and continues there after an interruption. Only when its size and
//! SHA-256 are those that the hub states is it renamed to `blobs/ETAG`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, StatusCode};

use super::cache::{HubCache, REVISION};
use super::options::HubOptions;
use crate::storage::{Retries, content_range};
use crate::weights::error::WeightsError;

/// Largest file that is accepted. Checkpoints are far smaller, so a server that sends more is not trusted.
const MAX_FILE_BYTES: u64 = 16 << 30;
/// How many attempts in a row may bring no new byte.
const MAX_FRUITLESS_ATTEMPTS: u32 = 5;
const MAX_REDIRECTS: u32 = 5;
const BUFFER_BYTES: usize = 1 << 18;

/// The progress of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownloadProgress {
    /// Bytes received so far, also in earlier attempts.
    pub received_bytes: u64,
    /// Size of the file, if the hub states it.
    pub total_bytes: Option<u64>,
}

/// A hub and its cache.
#[derive(Clone, Debug)]
pub struct Hub {
    options: HubOptions,
    cache: HubCache,
    agent: OnceLock<ureq::Agent>,
}

/// What the hub states about a file before sending it.
struct HubMetadata {
    commit: String,
    etag: String,
    size: Option<u64>,
}

impl Hub {
    /// Opens no connection yet.
    pub fn new(options: HubOptions) -> Self {
        let cache = HubCache { dir: options.cache_dir.clone() };
        Self { options, cache, agent: OnceLock::new() }
    }

    /// Made for the first request, as it reads certificates.
    fn agent(&self) -> &ureq::Agent {
        let options = &self.options;
        self.agent.get_or_init(|| {
            ureq::Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(MAX_REDIRECTS)
                .max_redirects_will_error(false)
                .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
                .tls_config(options.authorities.tls())
                .timeout_resolve(Some(options.timeout))
                .timeout_connect(Some(options.timeout))
                .timeout_recv_response(Some(options.timeout))
                .timeout_per_read(Some(options.timeout))
                .user_agent(concat!("satlas-serve/", env!("CARGO_PKG_VERSION")))
                .build()
                .into()
        })
    }

    /// A file in the cache, if it is there.
    pub fn cached(&self, repo: &str, file: &str) -> Option<PathBuf> {
        self.cache.find(repo, file)
    }

    /// A file in the cache, downloaded if it is not there.
    ///
    /// # Errors
    /// [`WeightsError::Offline`] if it is not there and may not be downloaded, [`WeightsError::Download`] if the hub does
    /// not send it, [`WeightsError::Io`] if it cannot be written.
    pub fn fetch(
        &self,
        repo: &str,
        file: &str,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<PathBuf, WeightsError> {
        if let Some(path) = self.cached(repo, file) {
            return Ok(path);
        }
        if self.options.offline {
            return Err(WeightsError::Offline { file: format!("{repo}/{file}") });
        }
        let url = self.url(repo, REVISION, file);
        check_names(repo, file).map_err(|reason| download_error(&url, reason))?;
        let mut retries = self.retries();
        let described = loop {
            match self.describe(&url) {
                Ok(described) => break described,
                Err(failure) => self.wait_or_fail(&url, failure, &mut retries, &self.options.cache_dir)?,
            }
        };
        let blob = self.cache.blobs(repo)?.join(&described.etag);
        self.download(&self.url(repo, &described.commit, file), &described, &blob, progress)?;
        self.cache.link(repo, file, &described.commit, &blob)
    }

    fn url(&self, repo: &str, revision: &str, file: &str) -> String {
        format!("{}/{repo}/resolve/{revision}/{file}", self.options.endpoint)
    }

    /// Asks the hub for the headers of a file. Redirects within the hub are followed, as those of a renamed repository, but not
    /// the one to storage, whose headers lack what is needed.
    fn describe(&self, url: &str) -> Result<HubMetadata, AttemptError> {
        let mut url = url.to_owned();
        let mut redirects = 0;
        let response = loop {
            let mut request = self.agent().head(&url).config().max_redirects(0).build();
            if let Some(token) = &self.options.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(AttemptError::from_transport)?;
            let describes = ["x-linked-etag", "etag"].iter().any(|name| response.headers().contains_key(*name));
            let onward = header(response.headers(), "location").and_then(|location| within_host(&url, location));
            match onward {
                Some(onward) if response.status().is_redirection() && !describes && redirects < MAX_REDIRECTS => {
                    (url, redirects) = (onward, redirects + 1);
                }
                _ => break response,
            }
        };
        let headers = response.headers();
        refuse_web_page(headers)?;
        if !response.status().is_redirection() {
            check_status(response.status(), self.options.token.is_some())?;
        }
        let text =
            |name: &str| header(headers, name).map(|value| value.trim_start_matches("W/").trim_matches('"').to_owned());
        let etag = text("x-linked-etag").or_else(|| text("etag")).filter(|etag| is_plain(etag));
        let etag =
            etag.ok_or_else(|| AttemptError::Final("it states no usable ETag; is this a Hugging Face hub?".to_owned()))?;
        let commit = text("x-repo-commit").filter(|commit| is_plain(commit)).unwrap_or_else(|| REVISION.to_owned());
        let own_length = || if response.status().is_success() { text("content-length") } else { None };
        let size = text("x-linked-size").or_else(own_length).and_then(|size| size.parse().ok());
        if size.is_some_and(|size| size > MAX_FILE_BYTES) {
            return Err(AttemptError::Final(format!("it states {size:?} bytes, and at most {MAX_FILE_BYTES} are taken")));
        }
        Ok(HubMetadata { commit, etag, size })
    }

    fn download(
        &self,
        url: &str,
        described: &HubMetadata,
        blob: &Path,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<(), WeightsError> {
        let partial = blob.with_added_extension("incomplete");
        let io = |source| WeightsError::Io { path: partial.clone(), source };
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&partial).map_err(io)?;
        // Another process may be downloading the same file: wait for it, and use its result.
        file.lock().map_err(io)?;
        if blob.is_file() {
            return Ok(());
        }
        let mut retries = self.retries();
        // A host that sends less than it stated makes each attempt start over: only bytes beyond all earlier ones count.
        let mut most = file.metadata().map_err(io)?.len();
        while let Err(failure) = self.receive(url, described, &mut file, progress) {
            let len = file.metadata().map_err(io)?.len();
            if len > most {
                most = len;
                retries.progressed();
            }
            self.wait_or_fail(url, failure, &mut retries, &partial)?;
        }
        if let Err(reason) = verify(&mut file, described).map_err(io)? {
            fs::remove_file(&partial).map_err(io)?;
            return Err(download_error(url, reason));
        }
        file.sync_all().map_err(io)?;
        fs::rename(&partial, blob).map_err(io)
    }

    /// One attempt. What it receives is kept for the next one.
    fn receive(
        &self,
        url: &str,
        described: &HubMetadata,
        file: &mut File,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<(), AttemptError> {
        let mut received = file.seek(SeekFrom::End(0)).map_err(AttemptError::Local)?;
        if described.size == Some(received) {
            return Ok(());
        }
        // With a compressed transfer, ranges and sizes would not be those of the file.
        let mut request = self.agent().get(url).header("accept-encoding", "identity");
        if received > 0 {
            request = request.header("range", format!("bytes={received}-"));
        }
        if let Some(token) = &self.options.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(AttemptError::from_transport)?;
        let restart = match response.status() {
            StatusCode::PARTIAL_CONTENT => content_range(response.headers()).is_none_or(|(start, ..)| start != received),
            StatusCode::RANGE_NOT_SATISFIABLE => true,
            status => {
                check_status(status, self.options.token.is_some())?;
                received > 0
            }
        };
        refuse_web_page(response.headers())?;
        let has_body = response.status() == StatusCode::OK || !restart;
        if restart {
            file.set_len(0).and_then(|()| file.rewind()).map_err(AttemptError::Local)?;
            received = 0;
        }
        if !has_body {
            return Err(AttemptError::Passing("it cannot continue where the last attempt ended".to_owned()));
        }
        let limit = described.size.unwrap_or(MAX_FILE_BYTES);
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(AttemptError::Passing(error.to_string())),
            };
            if received + count as u64 > limit {
                file.set_len(0).map_err(AttemptError::Local)?;
                return Err(AttemptError::Final(format!("it sends more than the {limit} bytes it stated")));
            }
            file.write_all(&buffer[..count]).map_err(AttemptError::Local)?;
            received += count as u64;
            progress(DownloadProgress { received_bytes: received, total_bytes: described.size });
        }
        match described.size {
            Some(size) if received < size => {
                Err(AttemptError::Passing(format!("it ended after {received} of {size} bytes")))
            }
            _ => Ok(()),
        }
    }

    fn wait_or_fail(
        &self,
        url: &str,
        failure: AttemptError,
        retries: &mut Retries,
        path: &Path,
    ) -> Result<(), WeightsError> {
        match failure {
            AttemptError::Local(source) => Err(WeightsError::Io { path: path.to_owned(), source }),
            AttemptError::Final(reason) => Err(download_error(url, reason)),
            AttemptError::Passing(reason) => {
                tracing::warn!(url, reason, attempt = retries.failed() + 1, "download interrupted");
                if retries.wait(None) {
                    return Ok(());
                }
                Err(download_error(url, format!("{reason} (after {} attempts)", retries.failed())))
            }
        }
    }

    fn retries(&self) -> Retries {
        Retries::new(MAX_FRUITLESS_ATTEMPTS, self.options.retry_delay, Duration::MAX)
    }
}

/// Why an attempt failed.
enum AttemptError {
    /// Another attempt may succeed.
    Passing(String),
    /// Another attempt would fail alike.
    Final(String),
    /// The file could not be written.
    Local(io::Error),
}

impl AttemptError {
    fn from_transport(error: ureq::Error) -> Self {
        match error {
            ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl | ureq::Error::TlsRequired => {
                Self::Final(error.to_string())
            }
            _ => Self::Passing(error.to_string()),
        }
    }
}

fn check_status(status: StatusCode, has_token: bool) -> Result<(), AttemptError> {
    match status.as_u16() {
        200..=299 => Ok(()),
        401 | 403 if has_token => Err(AttemptError::Final(format!("{status}: the token given has no access"))),
        401 | 403 => Err(AttemptError::Final(format!("{status}: a token with access is needed (HF_TOKEN)"))),
        404 => Err(AttemptError::Final(format!("{status}: no such file, or no access without a token (HF_TOKEN)"))),
        408 | 429 | 500..=599 => Err(AttemptError::Passing(status.to_string())),
        _ => Err(AttemptError::Final(status.to_string())),
    }
}

fn download_error(url: &str, reason: String) -> WeightsError {
    WeightsError::Download { url: url.to_owned(), reason }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The address that a redirect leads to, if it is on the same host.
fn within_host(url: &str, location: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let origin = format!("{scheme}://{}", rest.split('/').next()?);
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(origin + location);
    }
    location.strip_prefix(&origin)?.starts_with('/').then(|| location.to_owned())
}

/// Networks that require a login answer every request with a page of their own.
fn refuse_web_page(headers: &HeaderMap) -> Result<(), AttemptError> {
    let is_page = header(headers, "content-type").is_some_and(|kind| kind.trim_start().starts_with("text/html"));
    let is_redirect = headers.contains_key("location");
    if is_page && !is_redirect {
        let reason = "it sends a web page instead of the file; does this network require a login?";
        return Err(AttemptError::Final(reason.to_owned()));
    }
    Ok(())
}

/// Whether a text that a server sent is safe as a file name.
fn is_plain(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn check_names(repo: &str, file: &str) -> Result<(), String> {
    let is_safe = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte))
            && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
    };
    if is_safe(repo) && is_safe(file) { Ok(()) } else { Err("not a usable repository or file name".to_owned()) }
}

/// Compares the size and, if the ETag is one, the SHA-256. The inner error says how they differ.
fn verify(file: &mut File, described: &HubMetadata) -> io::Result<Result<(), String>> {
    const SHA256_HEX_DIGITS: usize = 64;
    let len = file.metadata()?.len();
    if let Some(size) = described.size.filter(|size| *size != len) {
        return Ok(Err(format!("{len} bytes arrived, and {size} were stated")));
    }
    if described.etag.len() != SHA256_HEX_DIGITS {
        return Ok(Ok(()));
    }
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found == described.etag.to_lowercase() {
        Ok(Ok(()))
    } else {
        Ok(Err(format!("its SHA-256 is {found}, and {} was stated; the download was thrown away", described.etag)))
    }
}
