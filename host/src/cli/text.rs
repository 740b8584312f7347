//! Numbers as people read them: thousands separated, shares with one digit, bytes and rates with a unit.

use std::io::IsTerminal;

/// `1234567` → `1,234,567`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `n` of `total` in percent, with one digit; `-` of nothing.
pub fn share(n: u64, total: u64) -> String {
    if total == 0 { "-".into() } else { format!("{:.1} %", n as f64 * 100.0 / total as f64) }
}

/// `n` in `seconds`: `19.6 k/s`.
pub fn rate(n: u64, seconds: f64) -> String {
    let rate = if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
    if rate < 1000.0 { format!("{rate:.0} /s") } else { format!("{:.1} k/s", rate / 1000.0) }
}

/// `3 GiB`, `1.2 MiB`, `17 B`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `s` for every number but one.
pub fn plural(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", thousands(n)) }
}

/// Colours for a terminal, nothing elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// For standard output.
    pub fn stdout() -> Paint {
        Paint(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What matters.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What is beside the point.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// What is fine.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What is not.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// What someone should look at.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (n, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567"), (100_000, "100,000")] {
            assert_eq!(thousands(n), expected);
        }
        assert_eq!(share(1, 3), "33.3 %");
        assert_eq!(share(0, 0), "-");
        assert_eq!(rate(98_000, 5.0), "19.6 k/s");
        assert_eq!(rate(10, 0.0), "0 /s");
        for (n, expected) in [(17, "17 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (250 << 20, "250 MiB")] {
            assert_eq!(bytes(n), expected);
        }
        assert_eq!(plural(1, "row"), "1 row");
        assert_eq!(plural(2000, "row"), "2,000 rows");
    }
}
