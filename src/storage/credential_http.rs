//! HTTP for `object_store`'s look-up of credentials. It alone may ask the metadata services of clouds, at addresses that
//! the library or the operator's variables name, never a client; imagery goes through the guarded client.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};
use ureq::Agent;
use ureq::http::{Method, Request};

use super::Authorities;

/// A metadata service is one hop away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Documents with credentials take a few kB.
const MAX_BYTES: u64 = 1 << 20;

/// Makes the clients, which trust these authorities.
#[derive(Debug)]
pub(super) struct CredentialConnector(pub(super) Authorities);

impl HttpConnector for CredentialConnector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(CredentialService { authorities: self.0.clone(), agent: OnceLock::new() }))
    }
}

/// One agent, made for the first request, as it reads certificates. It blocks its thread, which only waits for the answer.
#[derive(Debug)]
struct CredentialService {
    authorities: Authorities,
    agent: OnceLock<Agent>,
}

impl CredentialService {
    fn agent(&self) -> &Agent {
        self.agent.get_or_init(|| {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .proxy(None)
                .tls_config(self.authorities.tls())
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_global(Some(TIMEOUT))
                .build();
            config.into()
        })
    }
}

#[async_trait]
impl HttpService for CredentialService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let sent = match body.as_bytes().filter(|bytes| !bytes.is_empty() || parts.method != Method::GET) {
            Some(bytes) => self.agent().run(Request::from_parts(parts, bytes.to_vec())),
            None => self.agent().run(Request::from_parts(parts, ())),
        };
        let (parts, mut body) = sent.map_err(failed)?.into_parts();
        let bytes = body.with_config().limit(MAX_BYTES).read_to_vec().map_err(failed)?;
        Ok(HttpResponse::from_parts(parts, Bytes::from(bytes).into()))
    }
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
