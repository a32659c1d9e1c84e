//! Object stores, played by a host on loopback.

use std::sync::Arc;

use satlas_serve::raster::{self, ChunkCache, Imagery, Limits, OpenOptions};
use satlas_serve::storage::{Client, ClientOptions, ObjectStores, RemotePolicy};

use super::common::demo;
use super::host::{Host, Reply};

fn options(host: &Host, variables: &[(&str, &str)]) -> OpenOptions {
    let endpoint = host.url("");
    let variable = |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        name => variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
    };
    let object_stores = ObjectStores::from_variables(variable);
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
        authorization.contains("/eu-north-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,")
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
