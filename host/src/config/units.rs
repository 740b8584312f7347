//! Sizes and durations as people write them: a number and a unit, always both.

use std::time::Duration;

/// `"64MiB"`: bytes. KiB, MiB, GiB are powers of 1024; kB, MB, GB powers of 1000.
pub fn size(written: &str) -> Result<u64, String> {
    const EXAMPLE: &str = "a size needs a unit, as in \"64MiB\": B, KiB, MiB, GiB, kB, MB or GB";
    let (number, unit) = split(written).ok_or(EXAMPLE)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(EXAMPLE.into()),
    };
    number.checked_mul(bytes).ok_or_else(|| "more bytes than can be counted".into())
}

/// `"250ms"`, `"5s"`, `"1h30m"`, `"7d"`.
pub fn duration(written: &str) -> Result<Duration, String> {
    const EXAMPLE: &str = "a duration needs a unit, as in \"5s\": ms, s, m, h or d";
    const TOO_LONG: &str = "longer than time can be counted";
    let mut rest = written.trim();
    let mut milliseconds: u64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '_').ok_or(EXAMPLE)?;
        let unit_end = rest[number_end..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| number_end + at);
        let (number, unit) = split(&rest[..unit_end]).ok_or(EXAMPLE)?;
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(EXAMPLE.into()),
        };
        let part = number.checked_mul(factor).ok_or(TOO_LONG)?;
        milliseconds = milliseconds.checked_add(part).ok_or(TOO_LONG)?;
        rest = rest[unit_end..].trim_start();
    }
    if written.trim().is_empty() { Err(EXAMPLE.into()) } else { Ok(Duration::from_millis(milliseconds)) }
}

/// `500_000 KiB` → 500000 and `KiB`.
fn split(written: &str) -> Option<(u64, &str)> {
    let written = written.trim();
    let end = written.find(|c: char| !c.is_ascii_digit() && c != '_')?;
    let (number, unit) = written.split_at(end);
    Some((number.replace('_', "").parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_units() {
        for (written, bytes) in [("64MiB", 64 << 20), ("1 KiB", 1024), ("10_000B", 10_000), ("3MB", 3_000_000)] {
            assert_eq!(size(written), Ok(bytes), "{written}");
        }
        for wrong in ["", "64", "MiB", "1.5MiB", "-1B", "1 mib", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_carry_units() {
        for (written, ms) in
            [("250ms", 250), ("5s", 5_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("1h 1s", 3_601_000)]
        {
            assert_eq!(duration(written), Ok(Duration::from_millis(ms)), "{written}");
        }
        for wrong in ["", " ", "5", "s", "5 parsecs", "-5s", "1.5s", "5s7", "99999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
