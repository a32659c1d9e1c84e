//! AWS Signature Version 4 for reading objects: a keyed hash over the request proves who sends it.
//!
//! After "Authenticating Requests: Using the Authorization Header" of the Amazon S3 API reference. Requests have no body, and
//! addresses of objects have no query.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::RemoteUrl;

/// SHA-256 of the empty body.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The key that signs requests.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) key_id: String,
    pub(super) secret: String,
    /// Session token of temporary credentials.
    pub(super) token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// The headers that sign a request for `url`, or for the part of it that `range` (the header's value) names.
pub(super) fn sign(
    credentials: &Credentials,
    region: &str,
    url: &RemoteUrl,
    range: Option<&str>,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = &time[..8];
    let mut headers = vec![("host", url.authority().to_owned())];
    headers.extend(range.map(|range| ("range", range.to_owned())));
    headers.push(("x-amz-content-sha256", EMPTY_SHA256.to_owned()));
    headers.push(("x-amz-date", time.clone()));
    headers.extend(credentials.token.clone().map(|token| ("x-amz-security-token", token)));

    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let request = format!("GET\n{}\n\n{lines}\n{names}\n{EMPTY_SHA256}", url.path());
    let scope = format!("{date}/{region}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let signature = hex(&keyed_hash(&signing_key(&credentials.secret, date, region, "s3"), &text));

    // The client adds `host` and `range` itself.
    headers.retain(|(name, _)| name.starts_with("x-amz-"));
    let key_id = &credentials.key_id;
    let authorization = format!("AWS4-HMAC-SHA256 Credential={key_id}/{scope},SignedHeaders={names},Signature={signature}");
    headers.push(("authorization", authorization));
    headers
}

/// The key of one day, region and service.
fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> Vec<u8> {
    let start = format!("AWS4{secret}").into_bytes();
    [date, region, service, "aws4_request"].iter().fold(start, |key, part| keyed_hash(&key, part))
}

fn keyed_hash(key: &[u8], text: &str) -> Vec<u8> {
    let mut hash = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    hash.update(text.as_bytes());
    hash.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(token: Option<&str>) -> Credentials {
        Credentials {
            key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            token: token.map(str::to_owned),
        }
    }

    fn signed(token: Option<&str>) -> Vec<(&'static str, String)> {
        let url = RemoteUrl::parse("https://examplebucket.s3.amazonaws.com/test.txt").expect("an address");
        let now = "2013-05-24T00:00:00Z".parse().expect("a time");
        sign(&credentials(token), "us-east-1", &url, Some("bytes=0-9"), now)
    }

    /// The example "GET Object" of the reference named above.
    #[test]
    fn the_published_request_has_the_published_signature() {
        let wanted = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
            SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
            Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        let headers = signed(None);
        assert_eq!(headers.last(), Some(&("authorization", wanted.to_owned())));
        assert!(headers.contains(&("x-amz-date", "20130524T000000Z".to_owned())));
        assert_eq!(headers.len(), 3);
    }

    /// "Examples of how to derive a signing key" of the AWS General Reference.
    #[test]
    fn the_published_secret_has_the_published_signing_key() {
        let key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam");
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn the_token_of_temporary_credentials_is_sent_and_signed() {
        let headers = signed(Some("session"));
        assert!(headers.contains(&("x-amz-security-token", "session".to_owned())));
        let (_, authorization) = headers.last().expect("headers");
        assert!(authorization.contains("x-amz-date;x-amz-security-token,"), "{authorization}");
        assert_ne!(Some(authorization), signed(None).last().map(|(_, value)| value));
        assert!(!format!("{:?}", credentials(Some("session"))).contains("session"));
    }
}
