//! Records of a topic as lines of a file that people keep: for `sluice try`, for cases, for a file source.
//!
//! Two forms. *Lines*: the payload and nothing else, as the file source reads it. *Cases*: the record with its coordinates, key
//! and headers, as `sluice test` and `sluice try` read it, see [`crate::cases`].
//!
//! What is masked never reaches the file: where columns are masked, a payload that is no JSON object is left out, and so are
//! key and headers, since nothing in them can be told apart. A masked value keeps its type, so that the record decodes as
//! before; every other value keeps its text.

use serde_json::{Value, json};

use crate::cases::{Keys, binary};
use crate::cli::values::mask;
use crate::decode::time;
use crate::source::kafka::peek::Peeked;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// payloads
    Lines,
    /// records, each as an object
    Cases,
}

/// Why a record cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// no payload, and a line holds nothing but payloads
    Tombstone,
    /// a payload that is not JSON and has line breaks or is no text
    NoLine,
    /// a payload in which nothing can be masked
    Unmaskable,
}

impl Left {
    /// Reads on from a number of records.
    pub fn as_str(self) -> &'static str {
        match self {
            Left::Tombstone => "without a value (--format cases can hold them)",
            Left::NoLine => "that no line can hold (--format cases can)",
            Left::Unmaskable => "in which nothing can be masked, since they are no JSON objects",
        }
    }
}

/// The line of a record, without its end.
pub fn line(record: &Peeked, topic: &str, form: Form, masks: &[String]) -> Result<String, Left> {
    let text = record.value.as_deref().map(std::str::from_utf8);
    let mut json = match text {
        Some(Ok(text)) => one_line(text),
        Some(Err(_)) | None => None,
    };
    if !masks.is_empty() {
        json = match (&json, &record.value) {
            (Some(text), _) => {
                let masked = masks
                    .iter()
                    .try_fold(text.clone(), |text, path| masked(&text, &path.split('.').collect::<Vec<_>>(), true));
                Some(masked.ok_or(Left::Unmaskable)?)
            }
            (None, Some(_)) => return Err(Left::Unmaskable),
            (None, None) => None,
        };
    }
    match form {
        Form::Lines => match (json, text) {
            (Some(json), _) => Ok(json),
            (None, Some(Ok(text))) if !text.contains(['\n', '\r']) => Ok(text.to_owned()),
            (None, Some(_)) => Err(Left::NoLine),
            (None, None) => Err(Left::Tombstone),
        },
        Form::Cases => Ok(case(record, topic, json, masks.is_empty())),
    }
}

fn case(record: &Peeked, topic: &str, json: Option<String>, whole: bool) -> String {
    let mut keys = vec![
        ("topic", json!(topic).to_string()),
        ("partition", record.partition.to_string()),
        ("offset", record.offset.to_string()),
    ];
    let time = record.timestamp.and_then(chrono::DateTime::from_timestamp_millis);
    keys.extend(
        time.map(|time| ("timestamp", json!(time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)).to_string())),
    );
    if let (true, Some(key)) = (whole, &record.key) {
        keys.push(("key", binary::write(Some(key)).to_string()));
    }
    if whole && !record.headers.is_empty() {
        keys.push(("headers", binary::write_headers(&record.headers).to_string()));
    }
    keys.push(match json {
        Some(json) => ("record", json),
        None => ("raw", binary::write(record.value.as_deref()).to_string()),
    });
    let keys: Vec<String> = keys.into_iter().map(|(key, text)| format!("\"{key}\": {text}")).collect();
    format!("{{{}}}", keys.join(", "))
}

/// JSON in one line; `None` where it is not JSON. Within its texts no line break stands as it is.
fn one_line(text: &str) -> Option<String> {
    let value = serde_json::from_str::<&serde_json::value::RawValue>(text).ok()?;
    Some(value.get().replace(['\n', '\r'], " "))
}

/// The object with the value at `path` masked, in each item of the arrays on the way; `None` where `top` is no object.
fn masked(text: &str, path: &[&str], top: bool) -> Option<String> {
    let Some((name, rest)) = path.split_first() else {
        return serde_json::from_str(text).ok().map(|v| covered(&v).to_string());
    };
    if let (false, Ok(items)) = (top, serde_json::from_str::<Vec<&serde_json::value::RawValue>>(text)) {
        let items: Option<Vec<String>> = items.into_iter().map(|item| masked(item.get(), path, false)).collect();
        return Some(format!("[{}]", items?.join(",")));
    }
    let Ok(Keys(keys)) = serde_json::from_str::<Keys>(text) else {
        // a value where an object was expected: it may be what was meant to be hidden
        return if top { None } else { serde_json::from_str(text).ok().map(|v| covered(&v).to_string()) };
    };
    let mut all = Vec::with_capacity(keys.len());
    for (key, value) in keys {
        let text = if key == *name { masked(value.get(), rest, false)? } else { value.get().to_owned() };
        all.push(format!("{}:{text}", Value::from(key)));
    }
    Some(format!("{{{}}}", all.join(",")))
}

/// A value of the same type that says nothing.
fn covered(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => false.into(),
        Value::Number(_) => 0.into(),
        Value::String(text) if text.is_empty() => "".into(),
        Value::String(text) if time::timestamp(text, true).is_ok() => "1970-01-01T00:00:00Z".into(),
        Value::String(text) if time::date(text).is_ok() => "1970-01-01".into(),
        Value::String(text) => mask(text).into(),
        Value::Array(items) => items.iter().map(covered).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), covered(value))).collect::<serde_json::Map<_, _>>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(value: Option<&'static [u8]>) -> Peeked {
        Peeked {
            partition: 1,
            offset: 7,
            timestamp: Some(1_795_208_591_482),
            key: Some(Bytes::from_static(b"k")),
            value: value.map(Bytes::from_static),
            headers: vec![("source".into(), Some(Bytes::from_static(b"app")))],
        }
    }

    fn written(value: Option<&'static [u8]>, form: Form, masks: &[&str]) -> Result<String, Left> {
        line(&record(value), "visits", form, &masks.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn payloads_are_lines_where_a_line_can_hold_them() {
        for (value, expected) in [
            (Some(&b"{\"a\":  1.0,\n \"b\": \"x\\ny\"}\n"[..]), Ok("{\"a\":  1.0,  \"b\": \"x\\ny\"}")),
            (Some(b"not json"), Ok("not json")),
            (Some(b""), Ok("")),
            (Some(b"not\njson"), Err(Left::NoLine)),
            (Some(b"\xff"), Err(Left::NoLine)),
            (None, Err(Left::Tombstone)),
        ] {
            assert_eq!(written(value, Form::Lines, &[]), expected.map(str::to_owned), "{value:?}");
        }
    }

    #[test]
    fn a_case_holds_everything_and_reads_back() {
        let head = r#"{"topic": "visits", "partition": 1, "offset": 7, "timestamp": "2026-11-20T21:03:11.482Z", "key": "k", "headers": {"source":"app"}"#;
        for (value, tail) in [
            (Some(&b"{\"a\": 1}"[..]), r#""record": {"a": 1}}"#),
            (Some(b"not\njson"), r#""raw": "not\njson"}"#),
            (Some(b"\xff"), r#""raw": {"base64":"/w=="}}"#),
            (None, r#""raw": null}"#),
        ] {
            assert_eq!(written(value, Form::Cases, &[]).unwrap(), format!("{head}, {tail}"));
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.ndjson");
        let payloads = [Some(&b"{\"a\": 1}"[..]), Some(b"not\njson"), Some(b"\xff"), None];
        let lines: Vec<String> = payloads.iter().map(|value| written(*value, Form::Cases, &[]).unwrap()).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let raw = crate::cases::pipeline::records(&file).unwrap();
        for (n, payload) in payloads.iter().enumerate() {
            assert_eq!((raw.value(n), raw.key(n)), (*payload, Some(&b"k"[..])));
            assert_eq!((raw.records[n].offset, raw.records[n].timestamp), (7, Some(1_795_208_591_482)));
            assert_eq!(raw.headers(n), record(None).headers);
            assert_eq!(raw.partition(n).to_string(), "visits/1");
        }
    }

    #[test]
    fn what_is_masked_leaves_nothing_behind_and_keeps_its_type() {
        let payload =
            br#"{"n": 1.50, "user": {"login": "mlindqvist", "age": 7, "at": "2026-11-20T21:03:11Z", "ok": true},
            "items": [{"sku": "secret"}, {"sku": null}, "secret"]}"#;
        let masks = ["user.login", "user.age", "user.at", "user.ok", "items.sku", "none"];
        let line = written(Some(payload), Form::Cases, &masks).unwrap();
        for secret in ["mlindqvist", "secret", "\"k\"", "app", "2026-11-20T21:03:11Z\","] {
            assert!(!line.contains(secret), "{line}");
        }
        assert!(line.contains("\"n\":1.50"), "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            read["record"],
            json!({ "n": 1.5, "user": { "login": "ml***", "age": 0, "at": "1970-01-01T00:00:00Z", "ok": false },
                    "items": [{ "sku": "se***" }, { "sku": null }, "se***"] })
        );
        for unmaskable in [&b"secret"[..], b"[\"secret\"]", b"\"secret\"", b"{\"user\": 1, \"user\": 2}", b"\xff"] {
            for form in [Form::Lines, Form::Cases] {
                assert_eq!(written(Some(unmaskable), form, &["user.login"]), Err(Left::Unmaskable));
            }
        }
        assert!(written(None, Form::Cases, &["user.login"]).is_ok(), "a tombstone hides nothing");
        let whole =
            written(Some(br#"{"user": {"login": "mlindqvist", "list": ["mlindqvist"]}}"#), Form::Lines, &["user"]);
        assert_eq!(whole.unwrap(), r#"{"user":{"list":["ml***"],"login":"ml***"}}"#);
    }
}
