//! HTTP for `object_store`: its look-up of credentials, and the objects that it puts and reads. It alone may ask the metadata services of
//! clouds, at addresses that the library or the operator's variables name, never a client; imagery goes through the guarded client.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::Body;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpService,
};
use ureq::Agent;
use ureq::http::{Method, Request};

use super::Authorities;

/// How long requests may take, and how much their answers may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLimits {
    connect: Duration,
    total: Duration,
    max_bytes: u64,
}

/// A metadata service is one hop away, and documents with credentials take a few kB.
pub(super) const CREDENTIALS: RequestLimits =
    RequestLimits { connect: Duration::from_secs(2), total: Duration::from_secs(5), max_bytes: 1 << 20 };

/// An object of the size of a block's file passes in this time even on a slow line.
pub(super) const OBJECTS: RequestLimits =
    RequestLimits { connect: Duration::from_secs(10), total: Duration::from_secs(120), max_bytes: 1 << 30 };

/// Makes the clients, which trust these authorities.
#[derive(Debug)]
pub(super) struct StoreConnector {
    pub(super) authorities: Authorities,
    pub(super) limits: RequestLimits,
}

impl HttpConnector for StoreConnector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let Self { authorities, limits } = self;
        Ok(HttpClient::new(StoreService { authorities: authorities.clone(), limits: *limits, agent: OnceLock::new() }))
    }
}

/// One agent, made for the first request, as it reads certificates. It waits on a thread where waiting is no harm.
#[derive(Debug)]
struct StoreService {
    authorities: Authorities,
    limits: RequestLimits,
    agent: OnceLock<Agent>,
}

impl StoreService {
    fn agent(&self) -> &Agent {
        self.agent.get_or_init(|| {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .proxy(None)
                .tls_config(self.authorities.tls())
                .timeout_connect(Some(self.limits.connect))
                .timeout_global(Some(self.limits.total))
                .build();
            config.into()
        })
    }
}

#[async_trait]
impl HttpService for StoreService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let bytes = gathered(body).await?;
        let (agent, max_bytes) = (self.agent().clone(), self.limits.max_bytes);
        let send = move || {
            let takes_body = !matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE);
            let sent = match takes_body || !bytes.is_empty() {
                true => agent.run(Request::from_parts(parts, bytes)),
                false => agent.run(Request::from_parts(parts, ())),
            };
            let (parts, mut body) = sent.map_err(failed)?.into_parts();
            let bytes = body.with_config().limit(max_bytes).read_to_vec().map_err(failed)?;
            Ok(HttpResponse::from_parts(parts, Bytes::from(bytes).into()))
        };
        let sent = tokio::task::spawn_blocking(send).await;
        sent.unwrap_or_else(|error| Err(HttpError::new(HttpErrorKind::Unknown, error)))
    }
}

async fn gathered(body: HttpRequestBody) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::with_capacity(body.content_length());
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

fn failed(error: ureq::Error) -> HttpError {
    let kind = match &error {
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => HttpErrorKind::Connect,
        ureq::Error::Io(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
