//! How entries and checkpoints stand in their files: one JSON object whose last field is a digest of all before it.
//!
//! The digest is not against an attacker. It tells a file that a person edited, or a disk garbled, from one that Sluice
//! wrote: JSON alone cannot, `"to":1842` reads as well as `"to":184`.

use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a file is not what Sluice wrote; reads on from the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("is damaged: {0}")]
    Damaged(String),
    #[error("has format {0}, which a newer sluice wrote; this one reads formats up to {1}: use the newer one")]
    Newer(u32, u32),
}

/// The SHA-256 of some bytes, as 64 hex digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

const MARK: &str = ",\"sha256\":\"";
const TAIL: usize = MARK.len() + 64 + "\"}\n".len();

/// The text of a file.
pub(crate) fn seal(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_string(value).expect("entries and checkpoints have text keys and no odd floats");
    let digest = digest(text.as_bytes());
    let brace = text.pop();
    debug_assert_eq!(brace, Some('}'), "only objects are sealed");
    text.push_str(MARK);
    text.push_str(&digest);
    text.push_str("\"}\n");
    text.into_bytes()
}

/// The value in a file's text.
pub(super) fn open<T: DeserializeOwned>(text: &[u8], newest: u32) -> Result<T, Broken> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    // first of all: what a newer version seals otherwise is not damaged
    if let Ok(Format { format }) = serde_json::from_slice(text)
        && format > newest
    {
        return Err(Broken::Newer(format, newest));
    }
    let damaged = |why: &str| Broken::Damaged(why.to_owned());
    let text = std::str::from_utf8(text).map_err(|_| damaged("it is not text"))?;
    let cut = text.len().checked_sub(TAIL).filter(|&cut| text.is_char_boundary(cut));
    let (body, tail) = text.split_at(cut.ok_or_else(|| damaged("it is cut off"))?);
    let sum = tail
        .strip_prefix(MARK)
        .and_then(|rest| rest.strip_suffix("\"}\n"))
        .ok_or_else(|| damaged("it is cut off, or something was added"))?;
    if digest(format!("{body}}}").as_bytes()) != sum {
        return Err(damaged("its digest does not fit its text, so it was changed after it was written"));
    }
    serde_json::from_str(text).map_err(|e| Broken::Damaged(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        format: u32,
        to: i64,
        name: String,
    }

    fn thing() -> Thing {
        Thing { format: 1, to: 1842, name: "é \" }".into() }
    }

    #[test]
    fn what_was_sealed_opens() {
        let text = seal(&thing());
        assert_eq!(open::<Thing>(&text, 1).unwrap(), thing());
        assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok(), "people read it with any JSON tool");
    }

    #[test]
    fn every_truncation_is_noticed() {
        let text = seal(&thing());
        for end in 0..text.len() {
            assert!(matches!(open::<Thing>(&text[..end], 1), Err(Broken::Damaged(_))), "cut at {end}");
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let text = seal(&thing());
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(open::<Thing>(&changed, u32::MAX).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_as_such_even_if_it_is_sealed_otherwise() {
        let text = br#"{"format":2,"to":1,"name":"x","checksum":"other"}"#;
        assert_eq!(open::<Thing>(text, 1), Err(Broken::Newer(2, 1)));
    }
}
