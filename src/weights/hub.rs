//! Files of a Hugging Face hub repository: found in its cache, or downloaded into it.
//!
//! The cache has the layout that every other tool reads: `models--OWNER--NAME/{refs/main, snapshots/COMMIT/FILE, blobs/ETAG}`.
//! A download goes to `blobs/ETAG.incomplete`, continues where it was cut, is compared with the size and SHA-256 that the
//! hub states, and only then takes its place by a rename.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, StatusCode};

use super::WeightsError;

/// No checkpoint of this kind comes near it; a server that sends more is not trusted.
const MAX_FILE_BYTES: u64 = 16 << 30;
/// Attempts without a single new byte before giving up.
const MAX_FRUITLESS_ATTEMPTS: u32 = 5;
const MAX_REDIRECTS: u32 = 5;
const BUFFER_BYTES: usize = 1 << 18;
const REVISION: &str = "main";

/// Where the hub and its cache are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubOptions {
    /// The cache folder, which holds `models--…`.
    pub cache_dir: PathBuf,
    /// The hub's address without a final slash.
    pub endpoint: String,
    /// Sent as a bearer token to the hub, never to where it redirects.
    pub token: Option<String>,
    /// Never open a socket.
    pub offline: bool,
    /// Longest wait for a connection or for the next bytes.
    pub timeout: Duration,
    /// Wait before the second attempt; doubles with each further one.
    pub retry_delay: Duration,
}

impl HubOptions {
    /// The options that the hub's own tools take from `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`; `variable` looks one up.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| given(name).map(PathBuf::from);
        let home = path("HF_HOME").unwrap_or_else(|| {
            let user_cache = path("XDG_CACHE_HOME").or_else(|| Some(path("HOME").or(path("USERPROFILE"))?.join(".cache")));
            user_cache.unwrap_or_else(|| PathBuf::from(".cache")).join("huggingface")
        });
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = given("HF_TOKEN").or_else(|| fs::read_to_string(token_file).ok());
        Self {
            cache_dir: path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            endpoint: given("HF_ENDPOINT")
                .unwrap_or_else(|| "https://huggingface.co".to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: given("HF_HUB_OFFLINE")
                .is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str())),
            timeout: Duration::from_secs(30),
            retry_delay: Duration::from_millis(500),
        }
    }
}

/// How far a download has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on disk.
    pub received_bytes: u64,
    /// Bytes of the whole file, where the hub says.
    pub total_bytes: Option<u64>,
}

/// A hub with its cache.
#[derive(Clone, Debug)]
pub struct Hub {
    options: HubOptions,
    agent: ureq::Agent,
}

/// What the hub says about a file before sending it.
struct Described {
    commit: String,
    etag: String,
    size: Option<u64>,
}

impl Hub {
    /// Opens nothing yet.
    pub fn new(options: HubOptions) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(MAX_REDIRECTS)
            .max_redirects_will_error(false)
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .timeout_resolve(Some(options.timeout))
            .timeout_connect(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            .timeout_per_read(Some(options.timeout))
            .user_agent(concat!("satlas-serve/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { options, agent }
    }

    /// The file in the cache, in the snapshot that `refs/main` names or else in the only one that has it.
    pub fn cached(&self, repo: &str, file: &str) -> Option<PathBuf> {
        let snapshots = self.repo_dir(repo).join("snapshots");
        let main = fs::read_to_string(self.repo_dir(repo).join("refs").join(REVISION)).ok();
        let current = main.map(|commit| snapshots.join(commit.trim()).join(file)).filter(|path| path.is_file());
        current.or_else(|| {
            let mut found: Vec<PathBuf> =
                fs::read_dir(&snapshots).ok()?.filter_map(|entry| Some(entry.ok()?.path().join(file))).collect();
            found.retain(|path| path.is_file());
            found.sort();
            found.pop()
        })
    }

    /// The file in the cache, downloaded where it is not there yet.
    ///
    /// # Errors
    /// [`WeightsError::Offline`] where it would have to be downloaded and may not, [`WeightsError::Download`] where the hub
    /// does not give it, [`WeightsError::Io`] where it cannot be written.
    pub fn fetch(&self, repo: &str, file: &str, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, WeightsError> {
        if let Some(path) = self.cached(repo, file) {
            return Ok(path);
        }
        if self.options.offline {
            return Err(WeightsError::Offline { file: format!("{repo}/{file}") });
        }
        let url = self.url(repo, REVISION, file);
        check_names(repo, file).map_err(|reason| download_error(&url, reason))?;
        let mut fruitless = 0;
        let described = loop {
            match self.describe(&url) {
                Ok(described) => break described,
                Err(failure) => self.wait_or_fail(&url, failure, &mut fruitless, &self.options.cache_dir)?,
            }
        };
        let blobs = self.repo_dir(repo).join("blobs");
        create_dir(&blobs)?;
        let blob = blobs.join(&described.etag);
        self.download(&self.url(repo, &described.commit, file), &described, &blob, progress)?;
        self.link(repo, file, &described.commit, &blob)
    }

    fn repo_dir(&self, repo: &str) -> PathBuf {
        self.options.cache_dir.join(format!("models--{}", repo.replace('/', "--")))
    }

    fn url(&self, repo: &str, revision: &str, file: &str) -> String {
        format!("{}/{repo}/resolve/{revision}/{file}", self.options.endpoint)
    }

    /// Asks for the headers of the hub itself: behind its redirect to storage they are gone.
    fn describe(&self, url: &str) -> Result<Described, Failure> {
        let mut request = self.agent.head(url).config().max_redirects(0).build();
        if let Some(token) = &self.options.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(Failure::from_transport)?;
        let headers = response.headers();
        if !response.status().is_redirection() {
            check_status(response.status(), self.options.token.is_some())?;
        }
        let text =
            |name: &str| header(headers, name).map(|value| value.trim_start_matches("W/").trim_matches('"').to_owned());
        let etag = text("x-linked-etag").or_else(|| text("etag")).filter(|etag| is_plain(etag));
        let etag =
            etag.ok_or_else(|| Failure::Final("it states no usable ETag; is this a Hugging Face hub?".to_owned()))?;
        let commit = text("x-repo-commit").filter(|commit| is_plain(commit)).unwrap_or_else(|| REVISION.to_owned());
        let own_length = || if response.status().is_success() { text("content-length") } else { None };
        let size = text("x-linked-size").or_else(own_length).and_then(|size| size.parse().ok());
        if size.is_some_and(|size| size > MAX_FILE_BYTES) {
            return Err(Failure::Final(format!("it states {size:?} bytes, and at most {MAX_FILE_BYTES} are taken")));
        }
        Ok(Described { commit, etag, size })
    }

    fn download(
        &self,
        url: &str,
        described: &Described,
        blob: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), WeightsError> {
        let partial = blob.with_added_extension("incomplete");
        let io = |source| WeightsError::Io { path: partial.clone(), source };
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&partial).map_err(io)?;
        // Another process may be at it: wait for its end, and use what it brought.
        file.lock().map_err(io)?;
        if blob.is_file() {
            return Ok(());
        }
        let mut fruitless = 0;
        loop {
            let before = file.metadata().map_err(io)?.len();
            let Err(failure) = self.receive(url, described, &mut file, progress) else { break };
            if file.metadata().map_err(io)?.len() > before {
                fruitless = 0;
            }
            self.wait_or_fail(url, failure, &mut fruitless, &partial)?;
        }
        if let Err(reason) = verify(&mut file, described).map_err(io)? {
            fs::remove_file(&partial).map_err(io)?;
            return Err(download_error(url, reason));
        }
        file.sync_all().map_err(io)?;
        fs::rename(&partial, blob).map_err(io)
    }

    /// One attempt: whatever arrives is kept for the next.
    fn receive(
        &self,
        url: &str,
        described: &Described,
        file: &mut File,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        let mut received = file.seek(SeekFrom::End(0)).map_err(Failure::Local)?;
        if described.size == Some(received) {
            return Ok(());
        }
        // Compression on the way would make ranges and sizes meaningless.
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if received > 0 {
            request = request.header("range", format!("bytes={received}-"));
        }
        if let Some(token) = &self.options.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(Failure::from_transport)?;
        let restart = match response.status() {
            StatusCode::PARTIAL_CONTENT => !continues_at(response.headers(), received),
            StatusCode::RANGE_NOT_SATISFIABLE => true,
            status => {
                check_status(status, self.options.token.is_some())?;
                received > 0
            }
        };
        let has_body = response.status() == StatusCode::OK || !restart;
        if restart {
            file.set_len(0).and_then(|()| file.rewind()).map_err(Failure::Local)?;
            received = 0;
        }
        if !has_body {
            return Err(Failure::Passing("it cannot continue where the last attempt ended".to_owned()));
        }
        let limit = described.size.unwrap_or(MAX_FILE_BYTES);
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Passing(error.to_string())),
            };
            if received + count as u64 > limit {
                file.set_len(0).map_err(Failure::Local)?;
                return Err(Failure::Final(format!("it sends more than the {limit} bytes it stated")));
            }
            file.write_all(&buffer[..count]).map_err(Failure::Local)?;
            received += count as u64;
            progress(Progress { received_bytes: received, total_bytes: described.size });
        }
        match described.size {
            Some(size) if received < size => Err(Failure::Passing(format!("it ended after {received} of {size} bytes"))),
            _ => Ok(()),
        }
    }

    fn wait_or_fail(&self, url: &str, failure: Failure, fruitless: &mut u32, path: &Path) -> Result<(), WeightsError> {
        *fruitless += 1;
        match failure {
            Failure::Local(source) => Err(WeightsError::Io { path: path.to_owned(), source }),
            Failure::Final(reason) => Err(download_error(url, reason)),
            Failure::Passing(reason) if *fruitless >= MAX_FRUITLESS_ATTEMPTS => {
                Err(download_error(url, format!("{reason} (after {fruitless} attempts)")))
            }
            Failure::Passing(reason) => {
                tracing::warn!(url, reason, attempt = *fruitless, "download interrupted, trying again");
                std::thread::sleep(self.options.retry_delay * 2u32.pow(*fruitless - 1));
                Ok(())
            }
        }
    }

    /// Puts the blob under its name in the snapshot, as a relative link where the system has links.
    fn link(&self, repo: &str, file: &str, commit: &str, blob: &Path) -> Result<PathBuf, WeightsError> {
        let path = self.repo_dir(repo).join("snapshots").join(commit).join(file);
        let io = |source| WeightsError::Io { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            create_dir(parent)?;
        }
        if fs::symlink_metadata(&path).is_ok() {
            fs::remove_file(&path).map_err(io)?;
        }
        #[cfg(unix)]
        {
            let depth = Path::new(file).components().count() + 1;
            let name = blob.file_name().unwrap_or_default();
            let target = PathBuf::from("../".repeat(depth)).join("blobs").join(name);
            std::os::unix::fs::symlink(target, &path).map_err(io)?;
        }
        #[cfg(not(unix))]
        fs::copy(blob, &path).map_err(io)?;
        let reference = self.repo_dir(repo).join("refs").join(REVISION);
        if let Some(parent) = reference.parent() {
            create_dir(parent)?;
        }
        fs::write(&reference, commit).map_err(|source| WeightsError::Io { path: reference, source })?;
        Ok(path)
    }
}

/// Why an attempt failed.
enum Failure {
    /// Trying again may help.
    Passing(String),
    /// Trying again will not.
    Final(String),
    /// This machine's file system.
    Local(io::Error),
}

impl Failure {
    fn from_transport(error: ureq::Error) -> Self {
        match error {
            ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl | ureq::Error::TlsRequired => {
                Self::Final(error.to_string())
            }
            _ => Self::Passing(error.to_string()),
        }
    }
}

fn check_status(status: StatusCode, has_token: bool) -> Result<(), Failure> {
    match status.as_u16() {
        200..=299 => Ok(()),
        401 | 403 if has_token => Err(Failure::Final(format!("{status}: the token given has no access"))),
        401 | 403 => Err(Failure::Final(format!("{status}: a token with access is needed (HF_TOKEN)"))),
        404 => Err(Failure::Final(format!("{status}: no such file, or no access without a token (HF_TOKEN)"))),
        408 | 429 | 500..=599 => Err(Failure::Passing(status.to_string())),
        _ => Err(Failure::Final(status.to_string())),
    }
}

fn download_error(url: &str, reason: String) -> WeightsError {
    WeightsError::Download { url: url.to_owned(), reason }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether `content-range: bytes FIRST-LAST/TOTAL` starts where the file on disk ends.
fn continues_at(headers: &HeaderMap, received: u64) -> bool {
    let first =
        header(headers, "content-range").and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    first == Some(received)
}

/// Whether a server's word may become a file name.
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

/// Compares size and, where the ETag is one, SHA-256.
fn verify(file: &mut File, described: &Described) -> io::Result<Result<(), String>> {
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

fn create_dir(path: &Path) -> Result<(), WeightsError> {
    fs::create_dir_all(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })
}
