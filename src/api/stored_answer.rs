//! An encoded tile as a value of the shared cache: a line of JSON with its headers, then its body.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::answer::{CONTENT_BBOX, CONTENT_CRS, EncodedAnswer, INPUT_WARNINGS, MODEL_WEIGHTS};

/// The headers that say what a body is.
const KEPT: [HeaderName; 5] = [header::CONTENT_TYPE, CONTENT_BBOX, CONTENT_CRS, MODEL_WEIGHTS, INPUT_WARNINGS];

#[derive(Serialize, Deserialize)]
struct Head {
    headers: Vec<(String, String)>,
    /// Length of the body, which tells a whole one.
    bytes: usize,
}

/// The value that stands for an answer; `None` if it has a header that is no text.
pub(super) fn written(answer: &EncodedAnswer) -> Option<Bytes> {
    let kept = KEPT.into_iter().filter(|name| answer.headers.contains_key(name));
    let headers = kept.map(|name| Some((name.to_string(), answer.headers.get(name)?.to_str().ok()?.to_owned())));
    let head = Head { headers: headers.collect::<Option<_>>()?, bytes: answer.body.len() };
    let mut value = serde_json::to_vec(&head).ok()?;
    value.push(b'\n');
    value.extend_from_slice(&answer.body);
    Some(value.into())
}

/// The answer that a value stands for; `None` if it is none.
pub(super) fn read(value: &Bytes) -> Option<EncodedAnswer> {
    let end = value.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&value[..end]).ok()?;
    let body = value.slice(end + 1..);
    let mut headers = HeaderMap::new();
    for (name, text) in &head.headers {
        let name = KEPT.into_iter().find(|kept| kept.as_str() == name)?;
        headers.insert(name, HeaderValue::from_str(text).ok()?);
    }
    (body.len() == head.bytes && headers.contains_key(header::CONTENT_TYPE)).then_some(EncodedAnswer { body, headers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/png"));
        headers.insert(INPUT_WARNINGS, HeaderValue::from_static("dark | \"odd\""));
        for body in [&b"\n{\0\xff"[..], b""] {
            let answer = EncodedAnswer { body: Bytes::from_static(body), headers: headers.clone() };
            let value = written(&answer).unwrap();
            let again = read(&value).unwrap();
            assert_eq!((again.body, again.headers), (answer.body, answer.headers));
            assert!(read(&value.slice(..value.len() - 1)).is_none(), "cut short");
        }
    }

    #[test]
    fn what_is_no_answer_is_left_alone() {
        for text in
            ["", "tile", "{}\n", r#"{"headers":[["set-cookie","a=b"]],"bytes":0}"#, "{\"headers\":[],\"bytes\":0}\n"]
        {
            assert!(read(&Bytes::copy_from_slice(text.as_bytes())).is_none(), "{text}");
        }
        let foreign = "{\"headers\":[[\"content-type\",\"image/png\"],[\"set-cookie\",\"a=b\"]],\"bytes\":0}\n";
        assert!(read(&Bytes::from_static(foreign.as_bytes())).is_none());
    }
}
