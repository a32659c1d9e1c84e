//! Credentials of object stores, found and renewed by `object_store`: keys, web identity tokens, container and instance
//! roles, service accounts. Profiles of AWS come from [`super::aws_profile`].

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::azure::{AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{CredentialProvider, RetryConfig, StaticCredentialProvider};

use super::Authorities;
use super::aws_profile::{AwsProfile, Variables};
use super::store_http::{CREDENTIALS, StoreConnector};
use crate::sync::IgnorePoison;

/// Builders want the name of a bucket; credentials do not depend on it.
const ANY_BUCKET: &str = "any";
/// How long an instance without a role is not asked for one again.
const NO_ROLE_FOR: Duration = Duration::from_secs(600);

/// Variables that name credentials of AWS, and of the services that hand them out.
const AWS_VARIABLES: [&str; 12] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
];
/// Each of them is enough to know that requests are to be signed.
const AWS_ENOUGH: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];
const GOOGLE_VARIABLES: [&str; 4] = [
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
];
const AZURE_VARIABLES: [&str; 12] = [
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_AUTHORITY_HOST",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_IDENTITY_ENDPOINT",
    "AZURE_OBJECT_ID",
    "AZURE_MSI_RESOURCE_ID",
];
const AZURE_ENOUGH: [&str; 5] = [
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
];

/// Where the credentials of one store come from.
pub(super) enum Credentials<C> {
    /// None are wanted.
    Anonymous,
    /// Named by variables: without them nothing is asked.
    Named(Provider<C>),
    /// Those of the machine, if it has any.
    Ambient { provider: Provider<C>, failed: Mutex<Option<Instant>> },
    /// What is named cannot be used, and why.
    Unusable(String),
}

pub(super) type Provider<C> = Arc<dyn CredentialProvider<Credential = C>>;

impl<C> fmt::Debug for Credentials<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "anonymous",
            Self::Named(_) => "named",
            Self::Ambient { .. } => "ambient",
            Self::Unusable(_) => "unusable",
        })
    }
}

impl<C: Send + Sync + 'static> Credentials<C> {
    fn of(built: object_store::Result<Provider<C>>, is_named: bool) -> Self {
        match built {
            Ok(provider) if is_named => Self::Named(provider),
            Ok(provider) => Self::Ambient { provider, failed: Mutex::new(None) },
            Err(error) => Self::Unusable(error.to_string()),
        }
    }

    /// What gives credentials for requests that change something; `None` for anonymous requests.
    ///
    /// # Errors
    /// If credentials that are named cannot be read.
    pub(super) fn provider(&self) -> Result<Option<Provider<C>>, String> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Unusable(reason) => Err(reason.clone()),
            Self::Named(provider) | Self::Ambient { provider, .. } => Ok(Some(provider.clone())),
        }
    }

    /// Valid credentials, fetched or renewed where need be; none for anonymous requests.
    ///
    /// # Errors
    /// If credentials that are named cannot be read or fetched.
    pub(super) fn get(&self) -> Result<Option<Arc<C>>, String> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Unusable(reason) => Err(reason.clone()),
            Self::Named(provider) => wait_for(provider).map(Some),
            Self::Ambient { provider, failed } => {
                if failed.lock().ignore_poison().is_some_and(|at| at.elapsed() < NO_ROLE_FOR) {
                    return Ok(None);
                }
                let credential = wait_for(provider);
                if let Err(reason) = &credential {
                    tracing::debug!(reason, "this machine has no credentials; objects are read anonymously");
                    *failed.lock().ignore_poison() = Some(Instant::now());
                }
                Ok(credential.ok())
            }
        }
    }
}

/// Runs a provider on a thread of its own: the caller may be one that drives asynchronous tasks, which must not block on one.
fn wait_for<C: Send + Sync + 'static>(provider: &Provider<C>) -> Result<Arc<C>, String> {
    let wait = || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| error.to_string())?;
        runtime.block_on(provider.get_credential()).map_err(|error| error.to_string())
    };
    std::thread::scope(|scope| scope.spawn(wait).join()).unwrap_or_else(|_| Err("the look-up panicked".to_owned()))
}

/// Attempts at a token. A machine's own service either answers at once or is not there.
fn retries(is_named: bool) -> RetryConfig {
    RetryConfig {
        max_retries: if is_named { 2 } else { 0 },
        retry_timeout: Duration::from_secs(15),
        ..RetryConfig::default()
    }
}

fn settings<'a, K: std::str::FromStr>(
    names: &'a [&str],
    variable: Variables<'a>,
) -> impl Iterator<Item = (K, String)> + 'a {
    names.iter().filter_map(move |name| Some((name.to_ascii_lowercase().parse().ok()?, variable(name)?)))
}

/// Credentials for S3: those that variables name, else those of a profile, else (if `ambient`) the instance's role.
pub(super) fn aws(
    variable: Variables<'_>,
    profile: Result<&AwsProfile, &String>,
    ambient: bool,
) -> Credentials<AwsCredential> {
    let is_named = AWS_ENOUGH.iter().any(|name| variable(name).is_some());
    match profile {
        Err(reason) if !is_named => return Credentials::Unusable(reason.clone()),
        Ok(AwsProfile { key_id: Some(key_id), secret: Some(secret_key), token, .. }) if !is_named => {
            let credential = AwsCredential { key_id: key_id.clone(), secret_key: secret_key.clone(), token: token.clone() };
            return Credentials::Named(Arc::new(StaticCredentialProvider::new(credential)));
        }
        _ if !is_named && !ambient => return Credentials::Anonymous,
        _ => {}
    }
    let builder = AmazonS3Builder::new().with_bucket_name(ANY_BUCKET).with_http_connector(connector(variable));
    let builder = settings::<AmazonS3ConfigKey>(&AWS_VARIABLES, variable)
        .fold(builder.with_retry(retries(is_named)), |builder, (key, value)| builder.with_config(key, value));
    Credentials::of(builder.build().map(|store| Arc::clone(store.credentials())), is_named)
}

/// Credentials for Google Cloud Storage. `ambient`: whether gcloud's own file and the instance may be asked.
pub(super) fn google(variable: Variables<'_>, ambient: bool) -> Credentials<GcpCredential> {
    if let Some(bearer) = variable("GOOGLE_OAUTH_ACCESS_TOKEN") {
        return Credentials::Named(Arc::new(StaticCredentialProvider::new(GcpCredential { bearer })));
    }
    let is_named = GOOGLE_VARIABLES.iter().any(|name| variable(name).is_some());
    if !is_named && !ambient {
        return Credentials::Anonymous;
    }
    let builder = GoogleCloudStorageBuilder::new().with_bucket_name(ANY_BUCKET).with_http_connector(connector(variable));
    let builder = settings::<GoogleConfigKey>(&GOOGLE_VARIABLES, variable)
        .fold(builder.with_retry(retries(is_named)), |builder, (key, value)| builder.with_config(key, value));
    Credentials::of(builder.build().map(|store| Arc::clone(store.credentials())), is_named)
}

/// Credentials for Azure. `ambient`: whether the instance may be asked for its managed identity.
pub(super) fn azure(variable: Variables<'_>, ambient: bool) -> Credentials<AzureCredential> {
    let is_named = AZURE_ENOUGH.iter().any(|name| variable(name).is_some());
    if !is_named && !ambient {
        return Credentials::Anonymous;
    }
    let builder = MicrosoftAzureBuilder::new().with_container_name(ANY_BUCKET).with_account(ANY_BUCKET);
    let builder = builder.with_http_connector(connector(variable)).with_retry(retries(is_named));
    let builder = settings::<AzureConfigKey>(&AZURE_VARIABLES, variable)
        .fold(builder, |builder, (key, value)| builder.with_config(key, value));
    Credentials::of(builder.build().map(|store| Arc::clone(store.credentials())), is_named)
}

/// What asks the services that give credentials.
fn connector(variable: Variables<'_>) -> StoreConnector {
    StoreConnector { authorities: Authorities::from_variables(variable), limits: CREDENTIALS }
}
