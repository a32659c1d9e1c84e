//! Object stores: addresses of `s3://bucket/key` and `gs://bucket/key`, and the headers that open private buckets.

use std::fmt;

use jiff::Timestamp;

use super::signature::{Credentials, sign};
use super::{RemoteError, RemoteUrl};

const GCS_HOST: &str = "storage.googleapis.com";

/// Where buckets lie, and credentials for them. The default is anonymous.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ObjectStores {
    region: Option<String>,
    /// Address of another store with the S3 interface; the bucket is the first part of the path there.
    endpoint: Option<String>,
    credentials: Option<Credentials>,
    gcs_token: Option<String>,
}

/// The store behind an address. Credentials are sent only to the store they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum StoreKind {
    #[default]
    None,
    S3,
    Gcs,
}

impl fmt::Debug for ObjectStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, endpoint, credentials, gcs_token } = self;
        f.debug_struct("ObjectStores")
            .field("region", region)
            .field("endpoint", endpoint)
            .field("credentials", credentials)
            .field("gcs_token", &gcs_token.as_ref().map(|_| "…"))
            .finish()
    }
}

/// True if a location is an address rather than a path.
pub fn is_remote(location: &str) -> bool {
    let known = |scheme: &str| {
        ["http", "https", "s3", "gs", "stac+http", "stac+https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
    };
    location.split_once("://").is_some_and(|(scheme, _)| known(scheme))
}

impl ObjectStores {
    /// Reads the environment variables that other tools use: `AWS_REGION` (or `AWS_DEFAULT_REGION`), `AWS_ENDPOINT_URL_S3` (or
    /// `AWS_ENDPOINT_URL`), `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` and
    /// `GOOGLE_OAUTH_ACCESS_TOKEN`.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let endpoint = given("AWS_ENDPOINT_URL_S3").or_else(|| given("AWS_ENDPOINT_URL"));
        let credentials = given("AWS_ACCESS_KEY_ID").zip(given("AWS_SECRET_ACCESS_KEY"));
        Self {
            region: given("AWS_REGION").or_else(|| given("AWS_DEFAULT_REGION")),
            endpoint: endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned()),
            credentials: credentials.map(|(key_id, secret)| Credentials {
                key_id,
                secret,
                token: given("AWS_SESSION_TOKEN"),
            }),
            gcs_token: given("GOOGLE_OAUTH_ACCESS_TOKEN"),
        }
    }

    /// The address behind a location.
    ///
    /// # Errors
    /// [`RemoteError::BadUrl`].
    pub fn locate(&self, location: &str) -> Result<RemoteUrl, RemoteError> {
        let Some((scheme, rest)) = location.trim().split_once("://") else { return RemoteUrl::parse(location) };
        let store = match scheme.to_ascii_lowercase().as_str() {
            "s3" => StoreKind::S3,
            "gs" => StoreKind::Gcs,
            "stac+http" | "stac+https" => {
                return RemoteUrl::parse(location.trim().get("stac+".len()..).unwrap_or_default());
            }
            _ => return RemoteUrl::parse(location),
        };
        let (bucket, key) = rest.split_once('/').unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if key.is_empty() || bucket.is_empty() || !bucket.chars().all(is_plain) {
            return Err(RemoteError::bad_url(location, "a location such as s3://bucket/key.tif is needed"));
        }
        let (region, key) = (self.region(), percent_encoded(key));
        let url = match (store, &self.endpoint) {
            (StoreKind::Gcs, _) => format!("https://{GCS_HOST}/{bucket}/{key}"),
            (_, Some(endpoint)) => format!("{endpoint}/{bucket}/{key}"),
            // The host's wildcard certificate does not cover a bucket name with a dot.
            (_, None) if bucket.contains('.') => format!("https://s3.{region}.amazonaws.com/{bucket}/{key}"),
            (_, None) => format!("https://{bucket}.s3.{region}.amazonaws.com/{key}"),
        };
        Ok(RemoteUrl::parse(&url)?.in_store(store))
    }

    /// The headers that authorise reading an address, or the part of it that `range` (the header's value) names.
    pub(super) fn headers(&self, url: &RemoteUrl, range: Option<&str>) -> Vec<(&'static str, String)> {
        match (url.store(), &self.credentials, &self.gcs_token) {
            (StoreKind::S3, Some(credentials), _) => sign(credentials, self.region(), url, range, Timestamp::now()),
            (StoreKind::Gcs, _, Some(token)) => vec![("authorization", format!("Bearer {token}"))],
            _ => Vec::new(),
        }
    }

    fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }
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
        for (variables, location, wanted) in [
            (&[][..], "s3://b/a/c.tif", "https://b.s3.us-east-1.amazonaws.com/a/c.tif"),
            (&oregon, "s3://b/a c+d?.tif", "https://b.s3.us-west-2.amazonaws.com/a%20c%2Bd%3F.tif"),
            (&oregon, "S3://b.c/d", "https://s3.us-west-2.amazonaws.com/b.c/d"),
            (&minio, "s3://b/a.tif", "http://minio:9000/b/a.tif"),
            (&[], "gs://b/a.tif", "https://storage.googleapis.com/b/a.tif"),
            (&minio, "https://a.org/b.tif?c", "https://a.org/b.tif?c"),
        ] {
            assert_eq!(located(variables, location), wanted);
            assert!(is_remote(location));
        }
        for location in
            ["s3://", "s3://b", "s3://b/", "s3:///a", "s3://evil.net#/a", "s3://a@b/c", "gs://b:1/c", "file:///a", "a"]
        {
            assert!(stores(&[]).locate(location).is_err(), "{location}");
        }
    }

    #[test]
    fn credentials_are_shown_to_their_store_alone() {
        let aws = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "topsecret")];
        let all = stores(&[&aws[..], &[("GOOGLE_OAUTH_ACCESS_TOKEN", "topsecret")]].concat());
        let headers =
            |stores: &ObjectStores, location: &str| stores.headers(&stores.locate(location).expect(location), None);
        assert!(headers(&all, "s3://b/c").iter().any(|(_, value)| value.starts_with("AWS4-HMAC-SHA256 Credential=id/")));
        assert_eq!(headers(&all, "gs://b/c"), [("authorization", "Bearer topsecret".to_owned())]);
        assert!(headers(&all, "https://b.s3.us-east-1.amazonaws.com/c").is_empty(), "an address speaks for itself");
        let redirected = all.locate("s3://b/c").expect("an address").join("https://evil.net/").expect("an address");
        assert!(all.headers(&redirected, None).is_empty());
        for location in ["s3://b/c", "gs://b/c"] {
            assert!(headers(&stores(&[]), location).is_empty(), "anonymous by default");
        }
        assert!(!format!("{all:?}").contains("topsecret"));
    }
}
