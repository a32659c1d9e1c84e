//! JSON as catalogues write it: `null` for lists, numbers as text, `NaN`, bytes that are not UTF-8.
//!
//! A field whose value cannot be read counts as absent where nothing but a hint is lost. Where pixels would be read wrongly without it
//! (scale, offset, no data), it is an error of what the field belongs to.

use std::borrow::Cow;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The value of a field, or the default if it is something else than the field holds.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(source: D) -> Result<T, D::Error> {
    Ok(T::deserialize(Value::deserialize(source)?).unwrap_or_default())
}

/// A list in which what cannot be read is left out; also a single value in the place of a list.
pub(super) fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(source: D) -> Result<Vec<T>, D::Error> {
    let values = match Value::deserialize(source)? {
        Value::Array(values) => values,
        value => vec![value],
    };
    Ok(values.into_iter().filter_map(|value| T::deserialize(value).ok()).collect())
}

/// A number, also as text; `None` for everything else.
pub(super) fn number<'de, D: Deserializer<'de>>(source: D) -> Result<Option<f64>, D::Error> {
    Ok(number_in(&Value::deserialize(source)?))
}

/// Several numbers; `None` if anything else is among them.
pub(super) fn numbers<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Vec<f64>>, D::Error> {
    let Value::Array(values) = Value::deserialize(source)? else { return Ok(None) };
    Ok(values.iter().map(number_in).collect())
}

/// A number on which the meaning of pixels depends; `null` for none.
///
/// # Errors
/// If it is something else.
pub(super) fn exact_number<'de, D: Deserializer<'de>>(source: D) -> Result<Option<f64>, D::Error> {
    match Value::deserialize(source)? {
        Value::Null => Ok(None),
        value => number_in(&value).map(Some).ok_or_else(|| D::Error::custom(unexpected("a number", &value))),
    }
}

/// A yes or no on which the meaning of pixels depends; `null` for neither.
///
/// # Errors
/// If it is something else.
pub(super) fn exact_bool<'de, D: Deserializer<'de>>(source: D) -> Result<Option<bool>, D::Error> {
    match Value::deserialize(source)? {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(value)),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        value => Err(D::Error::custom(unexpected("true or false", &value))),
    }
}

/// A text, also written as a number.
///
/// # Errors
/// If it is something else.
pub(super) fn text<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    match Value::deserialize(source)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        value => Err(D::Error::custom(unexpected("a text", &value))),
    }
}

/// An EPSG code: `32632`, `32632.0`, `"32632"` or `"EPSG:32632"`; `None` for everything else.
pub(super) fn epsg_code<'de, D: Deserializer<'de>>(source: D) -> Result<Option<u32>, D::Error> {
    let value = match Value::deserialize(source)? {
        Value::String(text) => {
            let prefix = text.get(..5).filter(|prefix| prefix.eq_ignore_ascii_case("EPSG:"));
            Value::String(text[prefix.map_or(0, str::len)..].to_owned())
        }
        value => value,
    };
    let is_code = |code: &f64| code.fract() == 0.0 && (1.0..f64::from(u32::MAX)).contains(code);
    Ok(number_in(&value).filter(is_code).map(|code| code as u32))
}

fn number_in(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// What is wrong with a value, of which the first characters are repeated.
pub(super) fn unexpected(needed: &str, found: &Value) -> String {
    let found: String = found.to_string().chars().take(40).collect();
    format!("{needed} is needed where {found} stands")
}

/// A document as JSON allows it: without a byte order mark, in UTF-8, and with `NaN` and the infinities as texts, which many writers
/// leave bare.
pub(super) fn cleaned(json: &[u8]) -> Cow<'_, str> {
    const BARE: [(&str, &str); 3] = [("NaN", "\"nan\""), ("-Infinity", "\"-inf\""), ("Infinity", "\"inf\"")];
    let text = String::from_utf8_lossy(json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json));
    if !BARE.iter().any(|(bare, _)| text.contains(bare)) {
        return text;
    }
    let mut clean = String::with_capacity(text.len());
    let (mut rest, mut is_in_text) = (&*text, false);
    while let Some(next) = rest.chars().next() {
        let bare = BARE.iter().find(|(bare, _)| !is_in_text && rest.starts_with(bare));
        let taken = match (bare, next) {
            (Some((bare, _)), _) => bare.len(),
            // An escape and what it escapes.
            (None, '\\') => rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at),
            (None, next) => next.len_utf8(),
        };
        is_in_text ^= next == '"';
        clean.push_str(bare.map_or(&rest[..taken], |(_, text)| text));
        rest = &rest[taken..];
    }
    clean.into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bare_numbers_that_are_none_become_texts_and_texts_stay() {
        for (text, wanted) in [
            (r#"{"a": NaN, "b": [Infinity, -Infinity]}"#, r#"{"a": "nan", "b": ["inf", "-inf"]}"#),
            (r#"{"a": "NaN \" NaN", "é\\": NaN}"#, r#"{"a": "NaN \" NaN", "é\\": "nan"}"#),
            ("\u{feff}{}", "{}"),
            ("\"NaN \\", "\"NaN \\"),
        ] {
            assert_eq!(cleaned(text.as_bytes()), wanted);
        }
        assert_eq!(cleaned(b"{\"a\": \"\xff\"}"), "{\"a\": \"\u{fffd}\"}");
    }

    #[test]
    fn codes_are_read_in_every_spelling() {
        for (value, wanted) in [
            (json!(32632), Some(32632)),
            (json!(32632.0), Some(32632)),
            (json!("32632"), Some(32632)),
            (json!("epsg:32632"), Some(32632)),
            (json!("EPSG:32632"), Some(32632)),
            (json!(null), None),
            (json!(-1), None),
            (json!(3.5), None),
            (json!("nan"), None),
            (json!("ÉÉÉ"), None),
            (json!({"code": 1}), None),
        ] {
            assert_eq!(epsg_code(&value).expect("never an error"), wanted, "{value}");
        }
    }

    #[test]
    fn what_pixels_depend_on_is_exact() {
        assert_eq!(exact_number(&json!("0.0001")).expect("a number"), Some(0.0001));
        assert_eq!(exact_number(&json!(null)).expect("none"), None);
        assert!(exact_number(&json!("small")).is_err() && exact_number(&json!([1])).is_err());
        assert_eq!(exact_bool(&json!("True")).expect("a truth"), Some(true));
        assert!(exact_bool(&json!("perhaps")).is_err());
    }
}
