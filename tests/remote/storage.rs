//! Object stores, played by a host on loopback.

use std::sync::Arc;

use satlas_serve::raster::{self, ChunkCache, Imagery, Limits, OpenOptions};
use satlas_serve::storage::{Client, ClientOptions, ObjectStores, RemotePolicy};

use super::common::demo;
use super::host::{Host, Reply};

fn options(host: &Host, variables: &[(&str, &str)]) -> OpenOptions {
    options_with(host, variables, |variable| ObjectStores::from_variables(variable))
}

fn options_with(
    host: &Host,
    variables: &[(&str, &str)],
    stores: impl Fn(&dyn Fn(&str) -> Option<String>) -> ObjectStores,
) -> OpenOptions {
    let endpoint = host.url("");
    let variable = |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        name => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
    };
    let object_stores = stores(&variable);
    let policy = RemotePolicy { hosts: vec!["127.0.0.1".to_owned()], allow_private: true };
    let client = Client::new(policy, ClientOptions { object_stores, ..ClientOptions::default() });
    let limits = Limits { max_bytes: 64 << 20, max_pixels: 1 << 26 };
    OpenOptions { limits, chunks: ChunkCache::new(1 << 20), remote: Some(Arc::new(client)) }
}

#[test]
fn objects_are_read_anonymously_or_with_signed_requests() {
    let host = Host::with_file(demo("world.tif"));
    let read = |variables: &[(&str, &str)]| {
        raster::open(Imagery::Location("s3://maps/2024/the world.tif"), None, &options(&host, variables)).unwrap()
    };
    assert_eq!(read(&[])[0].raster.info().width, 4096);
    read(&[("AWS_ACCESS_KEY_ID", "someone"), ("AWS_SECRET_ACCESS_KEY", "topsecret"), ("AWS_REGION", "eu-north-1")]);
    let [anonymous, signed] = &host.asked()[..] else { panic!("two requests") };
    assert_eq!(anonymous.target, "/maps/2024/the%20world.tif");
    assert_eq!(anonymous.header("authorization"), None);
    let authorization = signed.header("authorization").unwrap();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=someone/"), "{authorization}");
    assert!(
        authorization.contains("/eu-north-1/s3/aws4_request, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,")
    );
    assert_eq!(signed.header("host"), Some(host.address.to_string().as_str()), "what is signed is what is sent");
    assert_eq!(signed.header("range"), Some("bytes=0-65535"));
    assert!(signed.header("x-amz-date").is_some());
}

#[test]
fn a_bucket_in_another_region_is_named_with_its_region() {
    let host = Host::start(|_, _| Reply::new(301, "").header("x-amz-bucket-region", "us-west-2"));
    let error = raster::open(Imagery::Location("s3://maps/a.tif"), None, &options(&host, &[])).unwrap_err().to_string();
    assert!(error.contains("AWS_REGION=us-west-2"), "{error}");
}

#[test]
fn credentials_do_not_follow_a_redirect() {
    let target = Host::with_file(demo("world.tif"));
    let there = target.url("/elsewhere.tif");
    let host = Host::start(move |_, _| Reply::new(307, "").header("location", there.clone()));
    let key = [("AWS_ACCESS_KEY_ID", "someone"), ("AWS_SECRET_ACCESS_KEY", "topsecret")];
    raster::open(Imagery::Location("s3://maps/a.tif"), None, &options(&host, &key)).unwrap();
    assert!(host.asked()[0].header("authorization").is_some());
    assert!(target.asked()[0].headers.iter().all(|(name, _)| name != "authorization" && !name.starts_with("x-amz")));
}

/// A host that is the store and the metadata service of AWS at once; the service knows a role if `has_role`.
fn instance(has_role: bool) -> Host {
    let file = demo("world.tif");
    Host::start(move |asked, _| match asked.target.as_str() {
        "/latest/api/token" if has_role => Reply::new(200, "a-session"),
        "/latest/meta-data/iam/security-credentials/" => Reply::new(200, "reader"),
        "/latest/meta-data/iam/security-credentials/reader" => Reply::new(
            200,
            r#"{"AccessKeyId":"of-the-role","SecretAccessKey":"topsecret","Token":"a-token","Expiration":"2999-01-01T00:00:00Z"}"#,
        ),
        target if target.starts_with("/latest/") => Reply::new(404, ""),
        _ => Reply::part(&file, asked),
    })
}

fn opened_by_an_instance(host: &Host) {
    let service = host.url("");
    let options =
        options_with(host, &[("AWS_METADATA_ENDPOINT", &service)], |variable| ObjectStores::with_machine_role(variable));
    for place in ["s3://maps/a.tif", "s3://maps/b.tif"] {
        raster::open(Imagery::Location(place), None, &options).unwrap();
    }
}

#[test]
fn an_instance_signs_with_its_role_which_is_asked_for_once() {
    let host = instance(true);
    opened_by_an_instance(&host);
    let asked = host.asked();
    assert_eq!(asked.iter().filter(|asked| asked.target.starts_with("/latest/")).count(), 3);
    let reads: Vec<_> = asked.iter().filter(|asked| asked.target.starts_with("/maps/")).collect();
    for read in &reads {
        assert!(read.header("authorization").is_some_and(|text| text.contains("Credential=of-the-role/")));
        assert_eq!(read.header("x-amz-security-token"), Some("a-token"));
    }
    assert_eq!(reads.len(), 2);
}

#[test]
fn an_instance_without_a_role_reads_anonymously_and_asks_once() {
    let host = instance(false);
    opened_by_an_instance(&host);
    let asked = host.asked();
    assert_eq!(asked.iter().filter(|asked| asked.target.starts_with("/latest/")).count(), 1);
    assert!(asked.iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn a_web_identity_is_exchanged_for_credentials() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "an-identity").unwrap();
    let sts = Host::start(|_, _| {
        Reply::new(
            200,
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>of-the-pod</AccessKeyId><SecretAccessKey>topsecret</SecretAccessKey>\
             <SessionToken>a-token</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>\
             </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
        )
    });
    let host = Host::with_file(demo("world.tif"));
    let (endpoint, path) = (sts.url("/"), token.path().to_str().unwrap());
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_ENDPOINT_URL_STS", &endpoint),
    ];
    raster::open(Imagery::Location("s3://maps/a.tif"), None, &options(&host, &variables)).unwrap();
    assert!(sts.asked()[0].target.contains("WebIdentityToken=an-identity"));
    assert!(host.asked()[0].header("authorization").unwrap().contains("Credential=of-the-pod/"));
}

#[test]
fn azure_is_asked_with_the_signature_of_its_own_account() {
    let host = Host::with_file(demo("world.tif"));
    let endpoint = host.url("/maps");
    let variables = [
        ("AZURE_STORAGE_ACCOUNT_NAME", "maps"),
        ("AZURE_STORAGE_ENDPOINT", endpoint.as_str()),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=2024&sig=topsecret"),
    ];
    raster::open(Imagery::Location("az://c/the world.tif"), None, &options(&host, &variables)).unwrap();
    assert_eq!(host.asked()[0].target, "/maps/c/the%20world.tif?sv=2024&sig=topsecret");
    assert!(host.asked()[0].header("x-ms-version").is_some());
}
