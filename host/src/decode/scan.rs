//! What a look at the bytes proves before and after parsing: depth, and surrogates in strings that nobody unescapes.
//!
//! The parser skips undeclared fields without unescaping their strings and without counting their depth. Both faults need
//! bytes that most payloads do not have, so one vectorised pass is enough for most.

/// Levels of nesting that a payload may have; no schema has more.
pub(super) const MAX_DEPTH: usize = 128;

/// What a payload may have, at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Suspects {
    /// `{` and `[`, also those in strings
    openers: usize,
    /// whether there is any `\`
    escapes: bool,
}

impl Suspects {
    /// One pass over the payload.
    pub(super) fn of(payload: &[u8]) -> Self {
        let mut suspects = Suspects::default();
        // a byte counts up to 255: such chunks are summed without widening every lane
        for chunk in payload.chunks(255) {
            let (mut openers, mut escapes) = (0_u8, 0_u8);
            for &byte in chunk {
                openers += u8::from(byte | 0x20 == b'{');
                escapes |= u8::from(byte == b'\\');
            }
            suspects.openers += usize::from(openers);
            suspects.escapes |= escapes != 0;
        }
        suspects
    }

    /// Whether `payload` nests deeper than [`MAX_DEPTH`], as far as it is JSON.
    pub(super) fn are_too_deep(self, payload: &[u8]) -> bool {
        self.openers > MAX_DEPTH && is_too_deep(payload)
    }

    /// Whether `payload`, which is JSON, has half a surrogate pair in any string.
    pub(super) fn have_lone_surrogate(self, payload: &[u8]) -> bool {
        self.escapes && has_lone_surrogate(payload)
    }
}

fn is_too_deep(payload: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut bytes = payload.iter();
    let mut in_text = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_text = !in_text,
            b'\\' if in_text => _ = bytes.next(),
            _ if in_text => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn has_lone_surrogate(mut payload: &[u8]) -> bool {
    while let Some(at) = payload.iter().position(|b| *b == b'\\') {
        let escape = &payload[at..];
        payload = match unit(escape) {
            Some(0xD800..=0xDBFF) if matches!(unit(&escape[6..]), Some(0xDC00..=0xDFFF)) => &escape[12..],
            Some(0xD800..=0xDFFF) => return true,
            Some(_) => &escape[6..],
            None => escape.get(2..).unwrap_or_default(),
        };
    }
    false
}

/// The UTF-16 unit of the `\uXXXX` at the start, if there is one.
fn unit(escape: &[u8]) -> Option<u32> {
    let digits = escape.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |value, &digit| Some(value * 16 + char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_brackets_outside_text_nest() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        for (payload, expected) in [
            (deep(128), false),
            (deep(129), true),
            (format!(r#"{{"a":"{}"}}"#, deep(500)), false),
            (format!(r#"{{"a":"\"{}"}}"#, deep(500)), false),
            (format!(r#"{{"a\\":{}}}"#, deep(128)), true),
            ("[]".repeat(500), false),
        ] {
            assert_eq!(Suspects::of(payload.as_bytes()).are_too_deep(payload.as_bytes()), expected, "{payload}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_found() {
        for (payload, expected) in [
            (r#""\ud83d\ude00""#, false),
            (r#""\ud83d""#, true),
            (r#""\ude00""#, true),
            (r#""\ud83d\u0041""#, true),
            (r#""\ud83dx\ude00""#, true),
            (r#""\ud83d\ud83d\ude00""#, true),
            (r#""\\ud83d""#, false),
            (r#""\\\ud83d""#, true),
            (r#""\u0041\n""#, false),
            (r#""plain""#, false),
        ] {
            assert_eq!(Suspects::of(payload.as_bytes()).have_lone_surrogate(payload.as_bytes()), expected, "{payload}");
        }
    }
}
