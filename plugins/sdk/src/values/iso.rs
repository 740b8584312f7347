//! Dates, times and durations as text. The calendar is the proleptic Gregorian one.

use std::fmt;

use super::{Date32, Span, Timestamp};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const DAY: i64 = 24 * HOUR;

/// `YYYY-MM-DD`.
pub(super) fn date(text: &str) -> Option<Date32> {
    let (year, month, day) = (digits(text, 0, 4)?, digits(text, 5, 2)?, digits(text, 8, 2)?);
    let is_shaped = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    let days = days_from_civil(year, month, day);
    // a day that does not exist comes back as another one
    let exists = (1..=12).contains(&month) && civil_from_days(days) == (year, month, day);
    (is_shaped && exists).then_some(())?;
    i32::try_from(days).ok().map(Date32)
}

/// `YYYY-MM-DDThh:mm:ss[.ffffff][Z|±hh:mm]`.
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    let day = date(text.get(..10)?)?;
    let time = text.get(10..)?;
    let bytes = time.as_bytes();
    let is_shaped = bytes.len() >= 9 && matches!(bytes[0], b'T' | b't' | b' ') && bytes[3] == b':' && bytes[6] == b':';
    let (hour, minute, second) = (digits(time, 1, 2)?, digits(time, 4, 2)?, digits(time, 7, 2)?);
    (is_shaped && hour < 24 && minute < 60 && second < 60).then_some(())?;
    let mut rest = time.get(9..)?;
    let mut micros = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        (1..=9).contains(&length).then_some(())?;
        micros = digits(&format!("{:0<6.6}", &fraction[..length]), 0, 6)?;
        rest = &fraction[length..];
    }
    let offset = match rest.as_bytes() {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes = digits(rest, 1, 2)? * 60 + digits(rest, 4, 2)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    Some(Timestamp(i64::from(day.0) * DAY + hour * HOUR + minute * MINUTE + second * SECOND + micros - offset * MINUTE))
}

/// Whole numbers with units, largest first by custom and not by force: `1h30m`.
pub(super) fn span(text: &str) -> Option<Span> {
    let mut rest = text;
    let mut total = 0i64;
    while !rest.is_empty() {
        let number = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest.bytes().skip(number).take_while(u8::is_ascii_alphabetic).count();
        let each = match &rest[number..number + unit] {
            "us" => 1,
            "ms" => 1_000,
            "s" => SECOND,
            "m" | "min" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            "w" => 7 * DAY,
            _ => return None,
        };
        total = total.checked_add(rest[..number].parse::<i64>().ok()?.checked_mul(each)?)?;
        rest = &rest[number + unit..];
    }
    (!text.is_empty()).then_some(Span(total))
}

pub(super) fn write_date(f: &mut fmt::Formatter<'_>, days: i64) -> fmt::Result {
    let (year, month, day) = civil_from_days(days);
    write!(f, "{year:04}-{month:02}-{day:02}")
}

pub(super) fn write_timestamp(f: &mut fmt::Formatter<'_>, micros: i64) -> fmt::Result {
    write_date(f, micros.div_euclid(DAY))?;
    let time = micros.rem_euclid(DAY);
    write!(f, "T{:02}:{:02}:{:02}", time / HOUR, time % HOUR / MINUTE, time % MINUTE / SECOND)?;
    match time % SECOND {
        0 => {}
        part => write!(f, ".{}", format!("{part:06}").trim_end_matches('0'))?,
    }
    f.write_str("Z")
}

/// `length` decimal digits of `text` from `start`.
fn digits(text: &str, start: usize, length: usize) -> Option<i64> {
    let digits = text.as_bytes().get(start..start + length)?;
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Days since 1970-01-01. Years begin in March here, so that the leap day is the last of its year, and come in eras of 400.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + days.div_euclid(146_097) * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}
