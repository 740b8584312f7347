//! Values that Rust's primitives do not name: dates, instants, spans, decimals, JSON text.
//!
//! Newtypes over what crosses the boundary; no calendar beyond reading and writing ISO 8601.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

mod iso;

/// A day: days since 1970-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date32(pub i32);

/// An instant: microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A length of time in microseconds; in settings written with a unit: `"7d"`, `"5m"`, `"1h30m"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub i64);

/// A decimal number: `unscaled` divided by 10 to the power of `scale`. Compare the two parts, or the text: `1.0` and `1.00`
/// are not `==`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// all digits, as an integer
    pub unscaled: i128,
    /// how many of them stand behind the point
    pub scale: i8,
}

/// The text of one JSON value: how a struct, list or map is read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Json<'a>(pub &'a str);

impl<'a> Json<'a> {
    /// The value, read into a type of the plugin's own.
    pub fn parse<T: serde::Deserialize<'a>>(self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0)
    }
}

impl Sub for Timestamp {
    type Output = Span;
    /// Saturates: instants of garbage lie anywhere in 64 bits.
    fn sub(self, earlier: Timestamp) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    /// Saturates.
    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}

impl Timestamp {
    /// The hour of the day in UTC, 0 to 23.
    pub fn hour(self) -> i32 {
        (self.0.rem_euclid(iso::DAY) / iso::HOUR) as i32
    }

    /// The day in UTC.
    pub fn date(self) -> Date32 {
        // 64 bits of microseconds are fewer days than 32 bits hold
        Date32(self.0.div_euclid(iso::DAY) as i32)
    }
}

impl FromStr for Date32 {
    type Err = String;
    /// `2026-11-20`.
    fn from_str(text: &str) -> Result<Self, String> {
        iso::date(text).ok_or_else(|| format!("`{text}` is not a date like 2026-11-20"))
    }
}

impl FromStr for Timestamp {
    type Err = String;
    /// `2026-11-20T21:03:11.482Z`, with an offset or `Z`; without either it is UTC.
    fn from_str(text: &str) -> Result<Self, String> {
        iso::timestamp(text).ok_or_else(|| format!("`{text}` is not a time like 2026-11-20T21:03:11Z"))
    }
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        iso::span(text).ok_or_else(|| format!("`{text}` is not a duration like \"7d\", \"5m\" or \"250ms\""))
    }
}

impl FromStr for Decimal {
    type Err = String;
    /// `-12.50`: the scale is the number of digits behind the point.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a decimal like -12.50");
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let is_number =
            whole.strip_prefix('-').unwrap_or(whole).bytes().chain(part.bytes()).all(|b| b.is_ascii_digit());
        let scale = i8::try_from(part.len()).map_err(|_| wrong())?;
        let unscaled = format!("{whole}{part}").parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
        Ok(Decimal { unscaled, scale })
    }
}

impl fmt::Display for Date32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        iso::write_date(f, i64::from(self.0))
    }
}

impl fmt::Display for Timestamp {
    /// ISO 8601 in UTC, with as many digits of a second as it has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        iso::write_timestamp(f, self.0)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.unscaled.unsigned_abs().to_string();
        let sign = if self.unscaled < 0 { "-" } else { "" };
        match usize::try_from(self.scale) {
            Ok(0) => write!(f, "{sign}{digits}"),
            Ok(scale) => {
                let digits = format!("{digits:0>width$}", width = scale + 1);
                let (whole, part) = digits.split_at(digits.len() - scale);
                write!(f, "{sign}{whole}.{part}")
            }
            Err(_) => write!(f, "{sign}{digits}{}", "0".repeat(usize::from(self.scale.unsigned_abs()))),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: FromStr<Err = String> + fmt::Display>(text: &str, expected: &str) {
        let shown = text.parse::<T>().map_or_else(|error| error, |value| value.to_string());
        assert_eq!(shown, expected);
    }

    #[test]
    fn dates_and_times_are_read_and_written() {
        check::<Date32>("1970-01-01", "1970-01-01");
        check::<Date32>("2024-02-29", "2024-02-29");
        check::<Date32>("2023-02-29", "`2023-02-29` is not a date like 2026-11-20");
        check::<Date32>("1969-12-31", "1969-12-31");
        check::<Timestamp>("2026-11-20T21:03:11.482Z", "2026-11-20T21:03:11.482Z");
        check::<Timestamp>("2026-11-20T21:03:11+02:00", "2026-11-20T19:03:11Z");
        check::<Timestamp>("2026-11-20T21:03:11", "2026-11-20T21:03:11Z");
        check::<Timestamp>("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z");
        check::<Timestamp>("2026-11-20", "`2026-11-20` is not a time like 2026-11-20T21:03:11Z");
        check::<Timestamp>("2026-11-20T25:00:00Z", "`2026-11-20T25:00:00Z` is not a time like 2026-11-20T21:03:11Z");
        check::<Timestamp>("é026-11-20T21:03:11Z", "`é026-11-20T21:03:11Z` is not a time like 2026-11-20T21:03:11Z");
        assert_eq!("2026-11-20T21:03:11Z".parse::<Timestamp>().map(Timestamp::hour), Ok(21));
        assert_eq!(Timestamp(-1).date(), Date32(-1));
    }

    #[test]
    fn decimals_keep_their_digits() {
        check::<Decimal>("-12.50", "-12.50");
        check::<Decimal>("0.05", "0.05");
        check::<Decimal>("-0.05", "-0.05");
        check::<Decimal>("7", "7");
        check::<Decimal>("1e3", "`1e3` is not a decimal like -12.50");
        check::<Decimal>("1.+3", "`1.+3` is not a decimal like -12.50");
        check::<Decimal>("", "`` is not a decimal like -12.50");
        assert_eq!(Decimal { unscaled: 12, scale: -2 }.to_string(), "1200");
    }

    #[test]
    fn spans_carry_units() {
        assert_eq!("7d".parse(), Ok(Span(7 * 86_400_000_000)));
        assert_eq!("1h30m".parse(), Ok(Span(5_400_000_000)));
        assert_eq!("250ms".parse(), Ok(Span(250_000)));
        for wrong in ["", "7", "d", "7 days", "-5m", "99999999999999d"] {
            assert_eq!(
                wrong.parse::<Span>(),
                Err(format!("`{wrong}` is not a duration like \"7d\", \"5m\" or \"250ms\""))
            );
        }
    }

    #[test]
    fn differences_saturate() {
        assert_eq!(Timestamp(i64::MAX) - Timestamp(-1), Span(i64::MAX));
        assert_eq!(Timestamp(i64::MIN) + Span(-1), Timestamp(i64::MIN));
    }
}
