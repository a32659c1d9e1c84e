//! `satlas-serve predict` on imagery that lies elsewhere: the real binary, and a host on loopback.

use std::process::{Command, Output};

use super::common::demo;
use super::host::{Host, Reply};

fn predict(inputs: &[&str], flags: &[&str]) -> (Output, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("answer.json");
    let ran = Command::new(env!("CARGO_BIN_EXE_satlas-serve"))
        .args(["predict", "--model", "trees", "--task", "tree_crown", "--weights", "offline", "--input"])
        .args(inputs)
        .args(flags)
        .arg("--output")
        .arg(&output)
        .env_remove("AWS_ENDPOINT_URL_S3")
        .output()
        .expect("the binary runs");
    (ran, std::fs::read(output).unwrap_or_default())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_address_is_predicted_on_as_the_file_behind_it() {
    let host = Host::with_file(demo("trees_osbs.tif"));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/static/demo/trees_osbs.tif");
    let (_, near) = predict(&[file], &[]);
    let (ran, far) = predict(&[&host.url("/scene.tif?sig=topsecret")], &["--allow-private-hosts"]);
    assert!(ran.status.success(), "{}", said(&ran));
    assert!(!near.is_empty() && near == far);
    assert!(host.asked().iter().all(|asked| asked.range().is_some()), "ranges of it are fetched");
    let (ran, chosen) = predict(&[file, &host.url("/scene.tif")], &["--allow-private-hosts", "--captures", "2"]);
    assert!(ran.status.success(), "{}", said(&ran));
    assert!(near == chosen);
}

#[test]
fn addresses_that_may_not_be_asked_are_refused_without_their_secrets() {
    let elsewhere = Host::with_file(demo("trees_osbs.tif"));
    let target = format!("http://localhost:{}/scene.tif", elsewhere.address.port());
    let host = Host::start(move |_, _| Reply::new(302, "").header("location", target.clone()));
    let address = host.url("/scene.tif?sig=topsecret");
    let (private, _) = predict(&[&address], &[]);
    let (redirected, _) = predict(&[&address], &["--allow-private-hosts"]);
    for (ran, words) in [(private, "--allow-private-hosts"), (redirected, "--allow-host localhost")] {
        assert_eq!(ran.status.code(), Some(1));
        assert!(said(&ran).contains(words) && !said(&ran).contains("topsecret"), "{}", said(&ran));
    }
    assert!(elsewhere.asked().is_empty());
}
