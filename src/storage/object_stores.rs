//! Object stores: addresses of `s3://`, `gs://` and `az://` locations, and what opens their private buckets.

use std::fmt;
use std::sync::Arc;

use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::azure::{AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredential;
use ureq::http::{HeaderValue, Request, header};

use super::aws_profile::AwsProfile;
use super::credentials::{self, Credentials, Provider};
use super::{Authorities, RemoteError, RemoteUrl};

const GCS_HOST: &str = "storage.googleapis.com";
const AZURE_BLOB_HOST: &str = "blob.core.windows.net";

/// Where buckets lie, and credentials for them. The default is anonymous.
#[derive(Clone, Default)]
pub struct ObjectStores {
    region: Option<String>,
    /// Address of another store with the S3 interface; the bucket is the first part of the path there.
    pub(super) endpoint: Option<String>,
    /// The account of `az://container/blob`.
    azure_account: Option<String>,
    /// Another store with the interface of Azure's blobs; its containers are the first part of paths.
    pub(super) azure_endpoint: Option<String>,
    credentials: Option<Arc<AllCredentials>>,
    /// Whom requests that change something trust.
    pub(super) authorities: Authorities,
}

/// What a location of an object store names.
pub(super) struct Target {
    pub(super) kind: StoreKind,
    pub(super) bucket: String,
    /// The object, or the beginning of the names of several; may be empty.
    pub(super) key: String,
    /// The host that a location of Azure names.
    host: Option<String>,
}

/// What locations look like.
const NEEDED: &str = "a location such as s3://bucket/key.tif is needed";

struct AllCredentials {
    aws: Credentials<AwsCredential>,
    google: Credentials<GcpCredential>,
    azure: Credentials<AzureCredential>,
}

/// The store behind an address. Credentials are sent only to the store they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum StoreKind {
    #[default]
    None,
    S3,
    Gcs,
    Azure,
}

impl StoreKind {
    /// The store of a scheme in lower case.
    fn of_scheme(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" => Some(Self::S3),
            "gs" => Some(Self::Gcs),
            "az" | "abfs" | "abfss" => Some(Self::Azure),
            _ => None,
        }
    }
}

impl fmt::Debug for ObjectStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ObjectStores");
        shown.field("region", &self.region).field("endpoint", &self.endpoint).field("azure_account", &self.azure_account);
        if let Some(all) = &self.credentials {
            shown.field("aws", &all.aws).field("google", &all.google).field("azure", &all.azure);
        }
        shown.finish_non_exhaustive()
    }
}

/// True if a location is an address rather than a path.
pub fn is_remote(location: &str) -> bool {
    let known = |scheme: &str| {
        ["http", "https", "stac+http", "stac+https"].contains(&scheme) || StoreKind::of_scheme(scheme).is_some()
    };
    location.split_once("://").is_some_and(|(scheme, _)| known(&scheme.to_ascii_lowercase()))
}

impl ObjectStores {
    /// The variables that other tools read, and nothing else: without credentials among them, requests are anonymous.
    ///
    /// S3: `AWS_REGION` (or `AWS_DEFAULT_REGION`), `AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`), access keys, web identity,
    /// container roles, and the profile that `AWS_PROFILE` names in the files of the AWS command line. Google: `GOOGLE_OAUTH_ACCESS_TOKEN`, service accounts, `GOOGLE_APPLICATION_CREDENTIALS`. Azure:
    /// `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ENDPOINT`, account keys, shared access signatures, client secrets and
    /// workload identity.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        Self::from(variable, false)
    }

    /// Those of this process, and failing them the role of the machine, which its cloud's metadata service knows.
    /// `AWS_EC2_METADATA_DISABLED=true` keeps AWS from being asked; so does an endpoint of one's own.
    pub fn from_environment() -> Self {
        Self::from(|name| std::env::var(name).ok(), true)
    }

    /// As [`Self::from_variables`], with the machine's role where it has one.
    pub fn with_machine_role(variable: impl Fn(&str) -> Option<String>) -> Self {
        Self::from(variable, true)
    }

    fn from(variable: impl Fn(&str) -> Option<String>, ambient: bool) -> Self {
        let given = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let url = |name: &str| given(name).map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        let endpoint = url("AWS_ENDPOINT_URL_S3").or_else(|| url("AWS_ENDPOINT_URL"));
        let no_role = given("AWS_EC2_METADATA_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let on_aws = ambient && !no_role && (endpoint.is_none() || given("AWS_METADATA_ENDPOINT").is_some());
        let profile = AwsProfile::read(&given);
        let profile_region = profile.as_ref().ok().and_then(|profile| profile.region.clone());
        let azure_endpoint = url("AZURE_STORAGE_ENDPOINT");
        let azure_account = given("AZURE_STORAGE_ACCOUNT_NAME");
        let on_azure = ambient && azure_account.is_some() && azure_endpoint.is_none();
        Self {
            region: given("AWS_REGION").or_else(|| given("AWS_DEFAULT_REGION")).or(profile_region),
            credentials: Some(Arc::new(AllCredentials {
                aws: credentials::aws(&given, profile.as_ref(), on_aws),
                google: credentials::google(&given, ambient),
                azure: credentials::azure(&given, on_azure),
            })),
            authorities: Authorities::from_variables(given),
            endpoint,
            azure_account,
            azure_endpoint,
        }
    }

    /// The address behind a location.
    ///
    /// # Errors
    /// [`RemoteError::BadUrl`].
    pub fn locate(&self, location: &str) -> Result<RemoteUrl, RemoteError> {
        let (scheme, _) = location.trim().split_once("://").unwrap_or_default();
        match scheme.to_ascii_lowercase().as_str() {
            "stac+http" | "stac+https" => {
                return RemoteUrl::parse(location.trim().get("stac+".len()..).unwrap_or_default());
            }
            scheme if StoreKind::of_scheme(scheme).is_none() => return RemoteUrl::parse(location),
            _ => {}
        }
        let Target { kind: store, bucket, key, host, .. } = self.target(location)?;
        if key.is_empty() {
            return Err(RemoteError::bad_url(location, NEEDED));
        }
        let (region, key) = (self.region(), percent_encoded(&key));
        let url = match (store, &self.endpoint) {
            (StoreKind::Azure, _) => format!("{}/{bucket}/{key}", self.azure_base(location, host.as_deref())?),
            (StoreKind::Gcs, _) => format!("https://{GCS_HOST}/{bucket}/{key}"),
            (_, Some(endpoint)) => format!("{endpoint}/{bucket}/{key}"),
            // The host's wildcard certificate does not cover a bucket name with a dot.
            (_, None) if bucket.contains('.') => format!("https://s3.{region}.amazonaws.com/{bucket}/{key}"),
            (_, None) => format!("https://{bucket}.s3.{region}.amazonaws.com/{key}"),
        };
        Ok(RemoteUrl::parse(&url)?.in_store(store))
    }

    /// The store, the bucket and the key that a location names.
    ///
    /// # Errors
    /// [`RemoteError::BadUrl`].
    pub(super) fn target(&self, location: &str) -> Result<Target, RemoteError> {
        let (scheme, rest) = location.trim().split_once("://").unwrap_or_default();
        let kind = StoreKind::of_scheme(&scheme.to_ascii_lowercase());
        let kind = kind.ok_or_else(|| RemoteError::bad_url(location, NEEDED))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        let (bucket, host) = match (kind, bucket.split_once('@')) {
            (StoreKind::Azure, Some((container, host))) => (container, Some(host)),
            _ => (bucket, None),
        };
        if !is_plain(bucket) || !host.is_none_or(is_plain) {
            return Err(RemoteError::bad_url(location, NEEDED));
        }
        Ok(Target { kind, bucket: bucket.to_owned(), key: key.to_owned(), host: host.map(str::to_owned) })
    }

    /// What gives credentials for S3; `None` without any.
    pub(super) fn aws(&self) -> Result<Option<Provider<AwsCredential>>, String> {
        self.credentials.as_ref().map_or(Ok(None), |all| all.aws.provider())
    }

    /// What gives credentials for Google Cloud Storage; `None` without any.
    pub(super) fn google(&self) -> Result<Option<Provider<GcpCredential>>, String> {
        self.credentials.as_ref().map_or(Ok(None), |all| all.google.provider())
    }

    /// What gives credentials for the operator's account of Azure; `None` without any.
    pub(super) fn azure(&self) -> Result<Option<Provider<AzureCredential>>, String> {
        self.credentials.as_ref().map_or(Ok(None), |all| all.azure.provider())
    }

    /// The account of a location of Azure, which must be the operator's: credentials are shown to no other.
    pub(super) fn account(&self, target: &Target) -> Result<String, String> {
        let named = target.host.as_deref().and_then(|host| host.split('.').next());
        match (&self.azure_account, named) {
            (Some(own), Some(named)) if own != named => Err(format!(
                "AZURE_STORAGE_ACCOUNT_NAME is {own}; the credentials of another account are not used for {named}"
            )),
            (Some(own), _) => Ok(own.clone()),
            (None, _) => Err("AZURE_STORAGE_ACCOUNT_NAME is needed to find its container".to_owned()),
        }
    }

    /// Where containers lie: at the account that the location names (`container@account.dfs.core.windows.net`), or at ours.
    fn azure_base(&self, location: &str, host: Option<&str>) -> Result<String, RemoteError> {
        let named = host.map(|host| host.split('.').next().unwrap_or_default().to_owned());
        match (&self.azure_endpoint, named.as_ref().or(self.azure_account.as_ref())) {
            (Some(endpoint), _) => Ok(endpoint.clone()),
            (None, Some(account)) => Ok(format!("https://{account}.{AZURE_BLOB_HOST}")),
            (None, None) => {
                Err(RemoteError::bad_url(location, "AZURE_STORAGE_ACCOUNT_NAME is needed to find its container"))
            }
        }
    }

    /// Lets the store of `url` know who asks: adds the headers (or the query) that open its private objects.
    ///
    /// # Errors
    /// [`RemoteError::Failed`] if credentials that the operator named cannot be had.
    pub(super) fn authorize(&self, url: &RemoteUrl, request: &mut Request<()>) -> Result<(), RemoteError> {
        let Some(all) = &self.credentials else { return Ok(()) };
        let failed = |reason: String| RemoteError::Failed {
            url: url.clone(),
            reason: format!("the server has no valid credentials for it ({reason})"),
        };
        if url.store() == StoreKind::None {
            return Ok(());
        }
        let mut asked = HttpRequest::new(HttpRequestBody::empty());
        *asked.method_mut() = request.method().clone();
        *asked.uri_mut() = request.uri().clone();
        *asked.headers_mut() = request.headers().clone();
        let authorized = match url.store() {
            StoreKind::None => return Ok(()),
            StoreKind::S3 => match all.aws.get().map_err(failed)? {
                None => return Ok(()),
                Some(credential) => {
                    let texts = [Some(&credential.key_id), credential.token.as_ref()];
                    check(texts.into_iter().flatten()).map_err(failed)?;
                    AwsAuthorizer::new(&credential, "s3", self.region()).try_authorize(&mut asked, None)
                }
            },
            StoreKind::Gcs => match all.google.get().map_err(failed)? {
                None => return Ok(()),
                Some(credential) => {
                    check([&credential.bearer]).map_err(failed)?;
                    let value = HeaderValue::from_str(&format!("Bearer {}", credential.bearer));
                    asked.headers_mut().extend(value.ok().map(|value| (header::AUTHORIZATION, value)));
                    Ok(())
                }
            },
            StoreKind::Azure => match (all.azure.get().map_err(failed)?, &self.azure_account) {
                (Some(credential), Some(account)) if self.is_own_account(url, account) => {
                    if let AzureCredential::BearerToken(token) = &*credential {
                        check([token]).map_err(failed)?;
                    }
                    AzureAuthorizer::new(&credential, account).try_authorize(&mut asked)
                }
                _ => return Ok(()),
            },
        };
        authorized.map_err(|error| failed(error.to_string()))?;
        *request.uri_mut() = asked.uri().clone();
        *request.headers_mut() = std::mem::take(asked.headers_mut());
        request.headers_mut().remove(header::HOST);
        Ok(())
    }

    /// Keys, signatures and tokens are for the operator's account, not for any that a location names.
    fn is_own_account(&self, url: &RemoteUrl, account: &str) -> bool {
        self.azure_endpoint.is_some() || url.host() == format!("{account}.{AZURE_BLOB_HOST}")
    }

    /// Where buckets of S3 lie.
    pub(super) fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }
}

/// The library panics on texts that no header can hold.
fn check<'a>(texts: impl IntoIterator<Item = &'a String>) -> Result<(), String> {
    let fits = |text: &String| HeaderValue::from_str(text).is_ok();
    if texts.into_iter().all(fits) { Ok(()) } else { Err("they have characters that no header may hold".to_owned()) }
}

/// An object's name as a path, encoded once (RFC 3986, 2.3), as signatures want it.
fn percent_encoded(key: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    key.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(variables: &[(&str, &str)]) -> ObjectStores {
        ObjectStores::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn located(variables: &[(&str, &str)], location: &str) -> String {
        stores(variables).locate(location).expect(location).secret()
    }

    #[test]
    fn buckets_become_addresses() {
        let oregon = [("AWS_REGION", "us-west-2")];
        let minio = [("AWS_ENDPOINT_URL", "http://minio:9000/")];
        let azure = [("AZURE_STORAGE_ACCOUNT_NAME", "maps")];
        let azurite = [("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:10000/devstoreaccount1/")];
        for (variables, location, wanted) in [
            (&[][..], "s3://b/a/c.tif", "https://b.s3.us-east-1.amazonaws.com/a/c.tif"),
            (&oregon, "s3://b/a c+d?.tif", "https://b.s3.us-west-2.amazonaws.com/a%20c%2Bd%3F.tif"),
            (&oregon, "S3://b.c/d", "https://s3.us-west-2.amazonaws.com/b.c/d"),
            (&minio, "s3://b/a.tif", "http://minio:9000/b/a.tif"),
            (&[], "gs://b/a.tif", "https://storage.googleapis.com/b/a.tif"),
            (&minio, "https://a.org/b.tif?c", "https://a.org/b.tif?c"),
            (&azure, "az://b/a/c.tif", "https://maps.blob.core.windows.net/b/a/c.tif"),
            (&azure, "abfss://b@far.dfs.core.windows.net/c.tif", "https://far.blob.core.windows.net/b/c.tif"),
            (&azurite, "az://b/c.tif", "http://127.0.0.1:10000/devstoreaccount1/b/c.tif"),
        ] {
            assert_eq!(located(variables, location), wanted);
            assert!(is_remote(location));
        }
        for location in [
            "s3://",
            "s3://b",
            "s3://b/",
            "s3:///a",
            "s3://evil.net#/a",
            "s3://a@b/c",
            "gs://b:1/c",
            "file:///a",
            "a",
            "az://b/c",
            "abfs://b@/c",
            "abfs://b@evil.net:1/c",
        ] {
            assert!(stores(&[]).locate(location).is_err(), "{location}");
        }
    }

    /// The headers and the query that a store is shown.
    fn shown(stores: &ObjectStores, url: &RemoteUrl) -> Vec<(String, String)> {
        let mut request = Request::builder().uri(url.uri().clone()).body(()).expect("a request");
        stores.authorize(url, &mut request).expect("credentials");
        let query = request.uri().query().map(|query| ("query".to_owned(), query.to_owned()));
        let headers = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().expect("ASCII").to_owned()));
        headers.chain(query).collect()
    }

    fn shown_at(stores: &ObjectStores, location: &str) -> Vec<(String, String)> {
        shown(stores, &stores.locate(location).expect(location))
    }

    #[test]
    fn credentials_are_shown_to_their_store_alone() {
        let all = stores(&[
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "topsecret"),
            ("GOOGLE_OAUTH_ACCESS_TOKEN", "topsecret"),
            ("AZURE_STORAGE_ACCOUNT_NAME", "maps"),
            ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=topsecret"),
        ]);
        assert!(shown_at(&all, "s3://b/c").iter().any(|(_, value)| value.starts_with("AWS4-HMAC-SHA256 Credential=id/")));
        assert_eq!(shown_at(&all, "gs://b/c"), [("authorization".to_owned(), "Bearer topsecret".to_owned())]);
        assert!(shown_at(&all, "az://b/c").contains(&("query".to_owned(), "sv=1&sig=topsecret".to_owned())));
        assert!(shown_at(&all, "abfs://b@far.dfs.core.windows.net/c").is_empty(), "another's account");
        assert!(shown_at(&all, "https://b.s3.us-east-1.amazonaws.com/c").is_empty(), "an address speaks for itself");
        let redirected = all.locate("s3://b/c").expect("an address").join("https://evil.net/").expect("an address");
        assert!(shown(&all, &redirected).is_empty());
        for location in ["s3://b/c", "gs://b/c", "abfs://b@maps.dfs.core.windows.net/c"] {
            assert!(shown_at(&stores(&[]), location).is_empty(), "anonymous by default");
        }
        assert!(!format!("{all:?}").contains("topsecret"));
    }

    #[test]
    fn credentials_that_cannot_be_read_are_an_error_rather_than_an_anonymous_request() {
        let unreadable = stores(&[("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/key.json")]);
        let url = unreadable.locate("gs://b/c").expect("an address");
        let mut request = Request::builder().uri(url.uri().clone()).body(()).expect("a request");
        let error = unreadable.authorize(&url, &mut request).expect_err("no such file").to_string();
        assert!(error.contains("/no/such/key.json"), "{error}");
        let odd = stores(&[("AWS_ACCESS_KEY_ID", "i\nd"), ("AWS_SECRET_ACCESS_KEY", "topsecret")]);
        let url = odd.locate("s3://b/c").expect("an address");
        assert!(odd.authorize(&url, &mut request).is_err_and(|error| !error.to_string().contains("topsecret")));
    }
}
