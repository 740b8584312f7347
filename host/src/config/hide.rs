//! Covers values that look like secrets before a line of a file is shown.
//!
//! Works on the text, not on the parsed tree, since a file that does not parse is shown too. Every byte of a value
//! becomes a `*`, so that places in the text stay what they are. Placeholders (`${NAME}`, `${file:…}`) say where a secret
//! is, not what it is, and stay readable.

/// Parts of key names whose values are secrets.
const SECRET: [&str; 6] = ["password", "secret", "token", "jaas", "ssl.key.pem", "sasl.oauthbearer.config"];

/// Whether a setting of this name holds a secret.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET.iter().any(|part| key.contains(part))
}

/// The text with the values of secret keys covered; as long as before, byte by byte.
pub(super) fn secrets(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (equals, _) in text.match_indices('=') {
        let before = &text[..equals];
        let key = &before[before.rfind(['\n', ',', '{']).map_or(0, |at| at + 1)..];
        if is_secret(key) {
            cover(text, equals + 1, &mut bytes);
        }
    }
    String::from_utf8(bytes).expect("whole values are replaced by ASCII")
}

/// Covers the value that begins after `from`, unless it is a lone placeholder.
fn cover(text: &str, from: usize, bytes: &mut [u8]) {
    let start = from + text[from..].len() - text[from..].trim_start_matches([' ', '\t']).len();
    let rest = &text[start..];
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| rest.starts_with(quote));
    let (start, value) = match quote {
        Some(quote) => {
            let inner = &rest[quote.len()..];
            let end = match quote.len() {
                3 => inner.find(quote),
                _ => inner.find([quote.as_bytes()[0] as char, '\n']),
            };
            (start + quote.len(), &inner[..end.unwrap_or(inner.len())])
        }
        None => (start, &rest[..rest.find([',', '}', '\n', '#']).unwrap_or(rest.len())]),
    };
    if is_placeholder(value) {
        return;
    }
    for byte in &mut bytes[start..start + value.len()] {
        if !byte.is_ascii_whitespace() {
            *byte = b'*';
        }
    }
}

/// `${NAME}` or `${file:path}` and nothing else; a default (`${NAME:-x}`) is a secret written down.
pub(super) fn is_placeholder(value: &str) -> bool {
    value
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|inside| !inside.contains(['{', '}', '$']) && !inside.contains(":-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_keys_are_covered() {
        for (text, shown) in [
            ("password = \"hunter2\" # mine", "password = \"*******\" # mine"),
            ("password = \"hunter2", "password = \"*******"),
            ("kafka = { password = 'a b', group = \"g\" }", "kafka = { password = '* *', group = \"g\" }"),
            ("\"ssl.key.password\" = 'ä'", "\"ssl.key.password\" = '**'"),
            ("password = \"\"\"one\ntwo\"\"\"\nname = 1", "password = \"\"\"***\n***\"\"\"\nname = 1"),
            ("password = \"${KAFKA}\"", "password = \"${KAFKA}\""),
            ("password = \"${file:/run/x}\"", "password = \"${file:/run/x}\""),
            ("password = \"${KAFKA:-hunter2}\"", "password = \"*****************\""),
            ("name = \"password\"", "name = \"password\""),
            ("token = 12345", "token = *****"),
            ("# password = \"hunter2\"", "# password = \"*******\""),
        ] {
            assert_eq!(secrets(text), shown);
        }
    }
}
