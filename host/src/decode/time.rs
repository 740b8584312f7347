//! Dates and timestamps from text: `YYYY-MM-DD`, and RFC 3339.
//!
//! A timestamp is `YYYY-MM-DD`, `T` or a space, `HH:MM:SS`, any number of decimals, and `Z` or an offset (`+02:00`,
//! `+0200`, `+02`). A column holds microseconds: further decimals, which many clocks write, are cut off. No local time is
//! guessed: text without an offset is not a point in time.

use chrono::NaiveDate;

/// Why text is no date or timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// it has another form
    Form,
    /// it is a timestamp without an offset, where one is needed
    NoOffset,
    /// it is a timestamp with an offset, where there must be none
    Offset,
    /// it has the form, but no calendar or clock has such a day or time
    Range,
}

const UNIX_EPOCH_FROM_CE: i32 = 719_163;

/// Days since 1970-01-01.
pub(crate) fn date(text: &str) -> Result<i32, Misfit> {
    let bytes = text.as_bytes();
    if bytes.len() == 10 { days(bytes) } else { Err(Misfit::Form) }
}

/// Microseconds since 1970-01-01T00:00:00Z; for `zoned` text with an offset, otherwise for text without.
pub(crate) fn timestamp(text: &str, zoned: bool) -> Result<i64, Misfit> {
    let bytes = text.as_bytes();
    if bytes.len() < 19 || !matches!(bytes[10], b'T' | b't' | b' ') || bytes[13] != b':' || bytes[16] != b':' {
        return Err(Misfit::Form);
    }
    let (hour, minute, second) = (two(bytes, 11)?, two(bytes, 14)?, two(bytes, 17)?);
    let (micros, rest) = fraction(&bytes[19..])?;
    let offset = match (rest, zoned) {
        ([], true) => return days(bytes).and(Err(Misfit::NoOffset)),
        ([], false) => 0,
        (rest, zoned) => {
            let offset = offset_minutes(rest)?;
            if !zoned {
                return Err(Misfit::Offset);
            }
            offset
        }
    };
    let days = days(bytes)?;
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Misfit::Range);
    }
    let minutes = (i64::from(days) * 24 + hour) * 60 + minute - offset;
    Ok((minutes * 60 + second) * 1_000_000 + micros)
}

/// The first ten bytes as days since the epoch.
fn days(bytes: &[u8]) -> Result<i32, Misfit> {
    if bytes[4] != b'-' || bytes[7] != b'-' {
        return Err(Misfit::Form);
    }
    let year = two(bytes, 0)? * 100 + two(bytes, 2)?;
    let (month, day) = (two(bytes, 5)?, two(bytes, 8)?);
    let date = NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32).ok_or(Misfit::Range)?;
    Ok(chrono::Datelike::num_days_from_ce(&date) - UNIX_EPOCH_FROM_CE)
}

fn two(bytes: &[u8], at: usize) -> Result<i64, Misfit> {
    match (bytes[at], bytes[at + 1]) {
        (tens @ b'0'..=b'9', ones @ b'0'..=b'9') => Ok(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => Err(Misfit::Form),
    }
}

/// `.123456789` as microseconds, and what follows.
fn fraction(bytes: &[u8]) -> Result<(i64, &[u8]), Misfit> {
    let Some(rest) = bytes.strip_prefix(b".") else { return Ok((0, bytes)) };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return Err(Misfit::Form);
    }
    let (digits, rest) = rest.split_at(digits);
    let micros = (0..6).fold(0, |value, i| value * 10 + digits.get(i).map_or(0, |b| i64::from(b - b'0')));
    Ok((micros, rest))
}

/// Minutes east of Greenwich.
fn offset_minutes(zone: &[u8]) -> Result<i64, Misfit> {
    let (sign, hours, minutes) = match zone {
        [b'Z' | b'z'] => return Ok(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => (sign, two(zone, 1)?, two(zone, 4)?),
        [sign @ (b'+' | b'-'), _, _, _, _] => (sign, two(zone, 1)?, two(zone, 3)?),
        [sign @ (b'+' | b'-'), _, _] => (sign, two(zone, 1)?, 0),
        _ => return Err(Misfit::Form),
    };
    if hours > 23 || minutes > 59 {
        return Err(Misfit::Range);
    }
    let east = hours * 60 + minutes;
    Ok(if *sign == b'-' { -east } else { east })
}

#[cfg(test)]
mod tests {
    use super::Misfit::{Form, NoOffset, Offset, Range};
    use super::*;

    #[test]
    fn a_date_is_ten_characters_that_the_calendar_has() {
        for (text, expected) in [
            ("1970-01-01", Ok(0)),
            ("1969-12-31", Ok(-1)),
            ("2026-11-20", Ok(20_777)),
            ("2024-02-29", Ok(19_782)),
            ("2026-02-29", Err(Range)),
            ("2026-13-01", Err(Range)),
            ("2026-1-01", Err(Form)),
            ("20261120", Err(Form)),
            ("2026-11-20T00:00:00Z", Err(Form)),
            ("２026-11-2", Err(Form)),
            ("", Err(Form)),
        ] {
            assert_eq!(date(text), expected, "{text}");
        }
    }

    #[test]
    fn a_timestamp_has_an_offset() {
        const AT: i64 = 1_795_208_591_000_000; // 2026-11-20T21:03:11Z
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Ok(0)),
            ("2026-11-20T21:03:11Z", Ok(AT)),
            ("2026-11-20 21:03:11z", Ok(AT)),
            ("2026-11-20t23:03:11+02:00", Ok(AT)),
            ("2026-11-20T23:03:11+0200", Ok(AT)),
            ("2026-11-20T23:03:11+02", Ok(AT)),
            ("2026-11-20T15:33:11-05:30", Ok(AT)),
            ("2026-11-20T21:03:11.5Z", Ok(AT + 500_000)),
            ("2026-11-20T21:03:11.123456999Z", Ok(AT + 123_456)),
            ("1969-12-31T23:59:59.999999+00:00", Ok(-1)),
            ("2026-11-20T21:03:11", Err(NoOffset)),
            ("2026-11-20T21:03:11.25", Err(NoOffset)),
            ("2026-11-20T21:03:11.Z", Err(Form)),
            ("2026-11-20T21:03:11 Z", Err(Form)),
            ("2026-11-20T21:03:11+2:00", Err(Form)),
            ("2026-11-20T21:03Z", Err(Form)),
            ("2026-11-20T24:00:00Z", Err(Range)),
            ("2026-11-20T23:59:60Z", Err(Range)),
            ("2026-11-31T23:59:59Z", Err(Range)),
            ("2026-11-20T23:59:59+24:00", Err(Range)),
            ("yesterday at half past 9", Err(Form)),
        ] {
            assert_eq!(timestamp(text, true), expected, "{text}");
        }
        assert_eq!(timestamp("2026-11-20T21:03:11", false), Ok(AT));
        assert_eq!(timestamp("2026-11-20T21:03:11Z", false), Err(Offset));
    }
}
