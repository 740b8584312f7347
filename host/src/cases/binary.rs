//! Bytes within JSON: text where they are text, `{"base64": "…"}` where not, null where there are none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::record::Headers;

/// Bytes as JSON.
pub fn write(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => text.into(),
        Some(Err(_)) => json!({ "base64": BASE64.encode(bytes.unwrap_or_default()) }),
    }
}

/// Bytes from JSON; an error reads on from the key.
pub fn read(value: &Value) -> Result<Option<Bytes>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
        Value::Object(object) => {
            let text = object.get("base64").filter(|_| object.len() == 1).and_then(Value::as_str);
            let text = text.ok_or_else(wanted)?;
            BASE64.decode(text).map(|bytes| Some(bytes.into())).map_err(|e| format!("is not base64: {e}"))
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => Err(wanted()),
    }
}

fn wanted() -> String {
    "is a text, {\"base64\": \"…\"}, or null".to_owned()
}

/// Headers as JSON: an object, or a list of pairs where names repeat.
pub fn write_headers(headers: &[(String, Option<Bytes>)]) -> Value {
    let mut names: Vec<&String> = headers.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    // an object does not keep their order, either
    if names.len() == headers.len() && headers.is_sorted_by_key(|(name, _)| name) {
        headers
            .iter()
            .map(|(name, value)| (name.clone(), write(value.as_deref())))
            .collect::<serde_json::Map<_, _>>()
            .into()
    } else {
        headers.iter().map(|(name, value)| json!([name, write(value.as_deref())])).collect()
    }
}

/// Headers from JSON.
pub fn read_headers(value: &Value) -> Result<Headers, String> {
    let wanted = || "is an object, or a list of [name, value]".to_owned();
    let one = |name: &str, value: &Value| Ok((name.to_owned(), read(value)?));
    match value {
        Value::Object(headers) => headers.iter().map(|(name, value)| one(name, value)).collect(),
        Value::Array(pairs) => {
            let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
                Some([Value::String(name), value]) => one(name, value),
                Some(_) | None => Err(wanted()),
            };
            pairs.iter().map(pair).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(wanted()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_headers_come_back_as_they_were() {
        for bytes in [None, Some(&b""[..]), Some(b"text"), Some("Zo\u{eb}".as_bytes()), Some(b"\xff\x00")] {
            assert_eq!(read(&write(bytes)).unwrap().as_deref(), bytes);
        }
        let header = |name: &str, value: &'static [u8]| (name.to_owned(), Some(Bytes::from_static(value)));
        for headers in [
            vec![],
            vec![header("a", b"1"), ("b".to_owned(), None)],
            vec![header("b", b"1"), header("a", b"\xff")],
            vec![header("a", b"1"), header("a", b"2")],
        ] {
            assert_eq!(read_headers(&write_headers(&headers)).unwrap(), headers);
        }
        assert_eq!(write_headers(&[header("a", b"1")]), json!({ "a": "1" }));
        for wrong in [json!(1), json!({ "base64": "!" }), json!({ "base16": "00" })] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
        assert!(read_headers(&json!([["a"]])).is_err());
    }
}
