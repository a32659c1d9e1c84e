//! Objects below a prefix of a bucket, to write and to read again: results that many machines share. Requests, their signatures and
//! their repetition are those of `object_store`; an object that is put where none may be yet is put on that condition (`If-None-Match`),
//! so that of two writers one is told.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, RetryConfig};

use super::object_stores::{ObjectStores, StoreKind, Target};
use super::store_http::{OBJECTS, StoreConnector};

/// How long a request is repeated while the store is busy or away.
const RETRY_FOR: Duration = Duration::from_secs(180);
const RETRIES: usize = 8;

/// How often an object is put that is not there afterwards, and the pause after the first time; it grows.
const MAX_ATTEMPTS: u32 = 8;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);

/// Objects below a prefix of a bucket.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// As the operator wrote it.
    location: String,
}

/// A request that a store has not done.
#[derive(Debug, thiserror::Error)]
#[error("{location}: {reason}")]
pub struct BucketError {
    location: String,
    reason: String,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.location).finish()
    }
}

impl Bucket {
    /// What a location such as `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix` names. Nothing is asked yet.
    ///
    /// # Errors
    /// If it is no such location, or the credentials for it cannot be used.
    pub fn open(location: &str, stores: &ObjectStores) -> Result<Self, BucketError> {
        let location = location.trim().trim_end_matches('/').to_owned();
        let failed = |reason: String| BucketError { location: location.clone(), reason };
        let target = stores.target(&location).map_err(|error| failed(error.to_string()))?;
        let prefix = Path::parse(&target.key).map_err(|error| failed(error.to_string()))?;
        let store = store(&target, stores).map_err(failed)?;
        Ok(Self { store, prefix, location })
    }

    /// The location, as the operator wrote it.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// True if there is an object of this name.
    ///
    /// # Errors
    /// If the store does not answer, or refuses.
    pub async fn has(&self, name: &str) -> Result<bool, BucketError> {
        match self.store.head(&self.at(name)).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// The content of an object, if there is one.
    ///
    /// # Errors
    /// If the store does not answer, or refuses.
    pub async fn read(&self, name: &str) -> Result<Option<Bytes>, BucketError> {
        let read = async { self.store.get(&self.at(name)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// The size of an object and what tells it from another of its name, if there is one.
    ///
    /// # Errors
    /// If the store does not answer, or refuses.
    pub async fn look_up(&self, name: &str) -> Result<Option<(u64, String)>, BucketError> {
        match self.store.head(&self.at(name)).await {
            Ok(object) => {
                let version = object.e_tag.unwrap_or_else(|| object.last_modified.to_rfc3339());
                Ok(Some((object.size, version)))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// A part of an object.
    ///
    /// # Errors
    /// If there is no such part, or the store does not answer, or refuses.
    pub async fn read_part(&self, name: &str, part: Range<u64>) -> Result<Bytes, BucketError> {
        self.store.get_range(&self.at(name), part).await.map_err(|error| self.failed(name, &error))
    }

    /// Puts an object where none is; returns false if one is there already, which stays.
    ///
    /// # Errors
    /// If the store does not answer, or refuses.
    pub async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, BucketError> {
        let at = self.at(name);
        let mut attempts = 1;
        loop {
            let error = match self.store.put_opts(&at, bytes.clone().into(), PutMode::Create.into()).await {
                Ok(_) => return Ok(true),
                // Generic: a request whose answer was lost may have been done.
                Err(error @ (Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::Generic { .. })) => error,
                Err(error) => return Err(self.failed(name, &error)),
            };
            match self.store.head(&at).await {
                Ok(_) => return Ok(false),
                // S3 answers 409 while another is writing, who may fail yet.
                Err(Error::NotFound { .. }) if attempts < MAX_ATTEMPTS => {
                    tokio::time::sleep(ATTEMPT_PAUSE * attempts).await;
                    attempts += 1;
                }
                Err(_) => return Err(self.failed(name, &error)),
            }
        }
    }

    /// Puts an object, in place of the one that may be there.
    ///
    /// # Errors
    /// If the store does not answer, or refuses.
    pub async fn replace(&self, name: &str, bytes: Bytes) -> Result<(), BucketError> {
        let put = self.store.put(&self.at(name), bytes.into()).await;
        put.map(drop).map_err(|error| self.failed(name, &error))
    }

    /// Removes an object if there is one.
    ///
    /// # Errors
    /// If the store does not answer, or refuses.
    pub async fn remove(&self, name: &str) -> Result<(), BucketError> {
        match self.store.delete(&self.at(name)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    /// The names of the objects in `folder`, which ends with no slash; not of those in folders below it.
    ///
    /// # Errors
    /// If the store does not answer, or refuses.
    pub async fn names(&self, folder: &str) -> Result<Vec<String>, BucketError> {
        let folder = self.at(folder);
        let listed = self.store.list(Some(&folder)).try_filter_map(|object| {
            let mut below = object.location.prefix_match(&folder).into_iter().flatten();
            let name = below.next().filter(|_| below.next().is_none()).map(|part| part.as_ref().to_owned());
            async move { Ok(name) }
        });
        listed.try_collect().await.map_err(|error| self.failed("", &error))
    }

    fn at(&self, name: &str) -> Path {
        self.prefix.parts().chain(Path::from(name).parts()).collect()
    }

    fn failed(&self, name: &str, error: &Error) -> BucketError {
        let location = if name.is_empty() { self.location.clone() } else { format!("{}/{name}", self.location) };
        let advice = match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                "; credentials that may list, read and write there are needed"
            }
            _ => "",
        };
        BucketError { location, reason: format!("{error}{advice}") }
    }
}

fn store(target: &Target, stores: &ObjectStores) -> Result<Arc<dyn ObjectStore>, String> {
    let retries = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() };
    let connector = StoreConnector { authorities: stores.authorities.clone(), limits: OBJECTS };
    let bucket = target.bucket.clone();
    let text = |error: Error| error.to_string();
    Ok(match target.kind {
        StoreKind::S3 => {
            let builder = AmazonS3Builder::new().with_bucket_name(bucket).with_region(stores.region());
            let builder = builder.with_retry(retries).with_http_connector(connector);
            let builder = match stores.aws()? {
                Some(provider) => builder.with_credentials(provider),
                None => builder.with_skip_signature(true),
            };
            let builder = match &stores.endpoint {
                Some(endpoint) => builder.with_endpoint(endpoint).with_allow_http(true),
                None => builder.with_virtual_hosted_style_request(!target.bucket.contains('.')),
            };
            Arc::new(builder.build().map_err(text)?)
        }
        StoreKind::Gcs => {
            let builder = GoogleCloudStorageBuilder::new().with_bucket_name(bucket);
            let builder = builder.with_retry(retries).with_http_connector(connector);
            let builder = match stores.google()? {
                Some(provider) => builder.with_credentials(provider),
                None => builder.with_skip_signature(true),
            };
            Arc::new(builder.build().map_err(text)?)
        }
        StoreKind::Azure => {
            let builder = MicrosoftAzureBuilder::new().with_container_name(bucket).with_account(stores.account(target)?);
            let builder = builder.with_retry(retries).with_http_connector(connector);
            let builder = match stores.azure()? {
                Some(provider) => builder.with_credentials(provider),
                None => builder.with_skip_signature(true),
            };
            let builder = match &stores.azure_endpoint {
                Some(endpoint) => builder.with_endpoint(endpoint.clone()).with_allow_http(true),
                None => builder,
            };
            Arc::new(builder.build().map_err(text)?)
        }
        StoreKind::None => return Err("s3://, gs:// or az:// is needed".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_name_a_bucket_and_a_prefix() {
        let variables = [("AZURE_STORAGE_ACCOUNT_NAME", "maps"), ("AWS_REGION", "eu-west-1")];
        let stores = ObjectStores::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        });
        for (location, prefix) in [
            ("s3://bucket", ""),
            ("s3://bucket/", ""),
            ("s3://bucket/a/b", "a/b"),
            ("gs://bucket/a/", "a"),
            ("az://container/a", "a"),
            ("abfs://container@maps.dfs.core.windows.net/a", "a"),
        ] {
            let bucket = Bucket::open(location, &stores).expect(location);
            assert_eq!(bucket.prefix.as_ref(), prefix, "{location}");
            assert_eq!(bucket.at("items/1.json").as_ref(), format!("{prefix}/items/1.json").trim_start_matches('/'));
        }
        for location in ["s3://", "s3://a b/c", "s3:///a", "https://example.org/a", "results", "abfs://a@far.example/b"] {
            assert!(Bucket::open(location, &stores).is_err(), "{location}");
        }
    }
}
