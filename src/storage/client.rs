//! The HTTP client of remote imagery. Waits and answers are bounded, failures that may pass are retried, redirects are checked.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ureq::config::Config;
use ureq::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

use super::block_cache::{BlockCache, block_cache};
use super::content_coding::{ContentCoding, unpacked};
use super::guard::{GuardedResolver, PrivateAddress};
use super::headers::retry_after;
use super::host_limiter::HostLimiter;
use super::retry::Retries;
use super::{Authorities, ObjectStores, RemoteError, RemotePolicy, RemoteUrl};

/// Redirects followed for one answer.
const MAX_REDIRECTS: usize = 5;
/// Longest wait that a host may ask for before the next attempt.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Headers of one answer.
const MAX_HEADER_BYTES: usize = 32 << 10;

/// Limits and patience of the client.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Time to connect to a host.
    pub connect_timeout: Duration,
    /// Time for one attempt, from name look-up to last byte.
    pub timeout: Duration,
    /// Attempts per request.
    pub attempts: u32,
    /// Wait before the second attempt; doubled before each further one.
    pub retry_delay: Duration,
    /// Memory for blocks of files.
    pub block_bytes: u64,
    /// Where buckets lie, and the credentials that open them.
    pub object_stores: ObjectStores,
    /// Whose certificates are trusted.
    pub authorities: Authorities,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            attempts: 3,
            retry_delay: Duration::from_millis(200),
            block_bytes: 128 << 20,
            object_stores: ObjectStores::default(),
            authorities: Authorities::default(),
        }
    }
}

/// The client. It is shared by threads and blocks the one that calls it.
pub struct Client {
    /// Made for the first request, as it reads certificates.
    agent: OnceLock<Agent>,
    policy: RemotePolicy,
    options: ClientOptions,
    limiter: HostLimiter,
    blocks: BlockCache,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("policy", &self.policy).field("options", &self.options).finish_non_exhaustive()
    }
}

/// A successful answer with its whole body.
#[derive(Clone, Debug)]
pub(super) struct RemoteResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A request to a host.
pub(super) enum RemoteRequest<'a> {
    /// The whole file.
    Get,
    /// Its bytes `first ..= last`.
    Range { first: u64, last: u64 },
    /// The headers that the whole file would come with.
    Head,
    /// The answer to a JSON document that is sent by POST.
    Post { json: &'a [u8] },
}

/// Why an attempt failed.
enum RequestFailure {
    /// Another attempt may succeed; the host may have said how long to wait.
    Passing(RemoteError, Option<Duration>),
    /// Another attempt would fail, too.
    Final(RemoteError),
}

impl From<RemoteError> for RequestFailure {
    fn from(error: RemoteError) -> Self {
        Self::Final(error)
    }
}

impl Client {
    /// A client under `policy`. Nothing is connected to yet.
    ///
    /// Proxies named in the environment are ignored, because the addresses that a proxy connects to cannot be checked.
    pub fn new(policy: RemotePolicy, options: ClientOptions) -> Self {
        let blocks = block_cache(options.block_bytes);
        Self { agent: OnceLock::new(), policy, options, limiter: HostLimiter::default(), blocks }
    }

    fn agent(&self) -> &Agent {
        self.agent.get_or_init(|| self.new_agent())
    }

    fn new_agent(&self) -> Agent {
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .tls_config(self.options.authorities.tls())
            .timeout_connect(Some(self.options.connect_timeout))
            .max_response_header_size(MAX_HEADER_BYTES)
            .max_idle_connections_per_host(16)
            .max_idle_connections(64)
            .accept_encoding("identity")
            .user_agent(concat!("satlas-serve/", env!("CARGO_PKG_VERSION")))
            .build();
        let resolver = GuardedResolver { allow_private: self.policy.allow_private, system: DefaultResolver::default() };
        Agent::with_parts(config, DefaultConnector::default(), resolver)
    }

    /// What may be fetched.
    pub fn policy(&self) -> &RemotePolicy {
        &self.policy
    }

    /// The address behind a location: `https://…`, `s3://bucket/key`, `gs://bucket/key` or `az://container/blob`.
    ///
    /// # Errors
    /// [`RemoteError::BadUrl`].
    pub fn locate(&self, location: &str) -> Result<RemoteUrl, RemoteError> {
        self.options.object_stores.locate(location)
    }

    /// Blocks of all open files.
    pub(super) fn blocks(&self) -> &BlockCache {
        &self.blocks
    }

    /// A whole file of at most `max_bytes`.
    ///
    /// # Errors
    /// [`RemoteError`]; [`RemoteError::is_not_found`] tells a missing file.
    pub fn get(&self, url: &RemoteUrl, max_bytes: u64) -> Result<Bytes, RemoteError> {
        Ok(self.fetch(url, &RemoteRequest::Get, max_bytes)?.body)
    }

    /// The answer of at most `max_bytes` to a JSON document that is sent by POST, possibly more than once.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub fn post_json(&self, url: &RemoteUrl, json: &[u8], max_bytes: u64) -> Result<Bytes, RemoteError> {
        Ok(self.fetch(url, &RemoteRequest::Post { json }, max_bytes)?.body)
    }

    /// A successful answer of at most `max_bytes`, after up to [`ClientOptions::attempts`] attempts.
    pub(super) fn fetch(
        &self,
        url: &RemoteUrl,
        wanted: &RemoteRequest<'_>,
        max_bytes: u64,
    ) -> Result<RemoteResponse, RemoteError> {
        let mut retries = Retries::new(self.options.attempts, self.options.retry_delay, MAX_RETRY_AFTER);
        loop {
            match self.attempt(url, wanted, max_bytes) {
                Ok(answer) => return Ok(answer),
                Err(RequestFailure::Final(error)) => return Err(error),
                Err(RequestFailure::Passing(error, asked)) => {
                    tracing::debug!(%error, "a remote file is asked for again");
                    if !retries.wait(asked) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// One attempt, following redirects.
    fn attempt(
        &self,
        url: &RemoteUrl,
        wanted: &RemoteRequest<'_>,
        max_bytes: u64,
    ) -> Result<RemoteResponse, RequestFailure> {
        let timeout = self.options.timeout;
        let _permit = self.limiter.enter(url.host(), timeout).ok_or_else(|| RequestFailure::Final(self.timed_out(url)))?;
        let deadline = Instant::now() + timeout;
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            self.policy.check(&at)?;
            let response = self.send(&at, wanted, deadline)?;
            let Some(next) = redirect(&at, &response)? else { return self.receive(&at, response, wanted, max_bytes) };
            if at.scheme() == "https" && next.scheme() != "https" {
                let reason = format!("it redirects from https to {}", next.scheme());
                return Err(RemoteError::Failed { url: at, reason }.into());
            }
            at = next;
        }
        let reason = format!("it redirects more than {MAX_REDIRECTS} times");
        Err(RemoteError::Failed { url: url.clone(), reason }.into())
    }

    /// Sends one request and reads the headers of its answer.
    fn send(
        &self,
        url: &RemoteUrl,
        wanted: &RemoteRequest<'_>,
        deadline: Instant,
    ) -> Result<Response<Body>, RequestFailure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(RequestFailure::Passing(self.timed_out(url), None));
        }
        let failed = |error: ureq::http::Error| self.failure(url, error.into(), 0);
        let mut request = Request::get(url.uri().clone());
        if let RemoteRequest::Range { first, last } = wanted {
            request = request.header(header::RANGE, format!("bytes={first}-{last}"));
        }
        let mut request = request.body(()).map_err(failed)?;
        if matches!(wanted, RemoteRequest::Head) {
            *request.method_mut() = Method::HEAD;
        }
        self.options.object_stores.authorize(url, &mut request)?;
        let sent = match wanted {
            RemoteRequest::Post { json } => {
                let mut request = request.map(|()| *json);
                *request.method_mut() = Method::POST;
                request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                self.agent().run(self.agent().configure_request(request).timeout_global(Some(left)).build())
            }
            RemoteRequest::Get | RemoteRequest::Range { .. } | RemoteRequest::Head => {
                self.agent().run(self.agent().configure_request(request).timeout_global(Some(left)).build())
            }
        };
        sent.map_err(|error| self.failure(url, error, 0))
    }

    /// Checks the status of an answer and reads its body.
    fn receive(
        &self,
        url: &RemoteUrl,
        response: Response<Body>,
        wanted: &RemoteRequest<'_>,
        max_bytes: u64,
    ) -> Result<RemoteResponse, RequestFailure> {
        let (parts, mut body) = response.into_parts();
        let status = parts.status;
        if !status.is_success() {
            let error = RemoteError::Status { url: url.clone(), status: status.as_u16() };
            return Err(match status.as_u16() {
                408 | 425 | 429 | 500 | 502..=504 => RequestFailure::Passing(error, retry_after(&parts.headers)),
                _ => RequestFailure::Final(error),
            });
        }
        if matches!(wanted, RemoteRequest::Head) {
            return Ok(RemoteResponse { status, headers: parts.headers, body: Bytes::new() });
        }
        let too_large = || RequestFailure::from(RemoteError::TooLarge { url: url.clone(), limit: max_bytes });
        if body.content_length().is_some_and(|length| length > max_bytes) {
            return Err(too_large());
        }
        let bytes = body.with_config().limit(max_bytes).read_to_vec();
        let mut body: Bytes = bytes.map_err(|error| self.failure(url, error, max_bytes))?.into();
        let packed = |coding: &str| RemoteError::Packed { url: url.clone(), coding: coding.to_owned() };
        match ContentCoding::of(&parts.headers) {
            ContentCoding::Other(coding) => return Err(packed(&coding).into()),
            coding if coding.is_gzip(&body) => {
                let is_part = status == StatusCode::PARTIAL_CONTENT;
                // The start of a part that begins elsewhere says nothing.
                match wanted {
                    RemoteRequest::Range { first: 0, .. } if is_part => return Err(packed("gzip").into()),
                    _ if is_part => {}
                    _ => body = unpacked(&body, max_bytes).ok_or_else(too_large)?,
                }
            }
            _ => {}
        }
        Ok(RemoteResponse { status, headers: parts.headers, body })
    }

    fn timed_out(&self, url: &RemoteUrl) -> RemoteError {
        RemoteError::TimedOut { url: url.clone(), timeout: self.options.timeout }
    }

    fn failure(&self, url: &RemoteUrl, error: ureq::Error, limit: u64) -> RequestFailure {
        let failed = |reason: String| RemoteError::Failed { url: url.clone(), reason };
        match error {
            ureq::Error::Other(inner) if inner.is::<PrivateAddress>() => {
                RemoteError::PrivateHost { host: url.host().to_owned() }.into()
            }
            ureq::Error::Timeout(_) => RequestFailure::Passing(self.timed_out(url), None),
            ureq::Error::BodyExceedsLimit(_) => RemoteError::TooLarge { url: url.clone(), limit }.into(),
            ureq::Error::HostNotFound => failed("no address is known for its host".to_owned()).into(),
            // The library's message may contain the address with its query.
            ureq::Error::BadUri(_) => failed("its address is malformed".to_owned()).into(),
            ureq::Error::Tls(reason) => failed(reason.to_owned()).into(),
            error => RequestFailure::Passing(failed(error.to_string()), None),
        }
    }
}

/// The address that an answer redirects to.
fn redirect(url: &RemoteUrl, response: &Response<Body>) -> Result<Option<RemoteUrl>, RemoteError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let failed = |reason: &str| RemoteError::Failed { url: url.clone(), reason: reason.to_owned() };
    if let Some(region) = response.headers().get("x-amz-bucket-region").and_then(|region| region.to_str().ok()) {
        return Err(failed(&format!("its bucket lies in {region}; the server has to be started with AWS_REGION={region}")));
    }
    let location = response.headers().get(header::LOCATION).ok_or_else(|| failed("it redirects to nowhere"))?;
    // Some hosts write addresses in UTF-8 rather than percent-encoded.
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| failed("it redirects to what is no address"))?;
    url.join(location).map(Some)
}
