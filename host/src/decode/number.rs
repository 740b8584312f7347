//! Numbers, exactly as their text says: an integer or a decimal is never taken through a float.

/// Why a JSON number is no value of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// it has digits behind the point that the type has no room for
    Fraction,
    /// it is beyond the type's range
    Range,
}

/// The value of a JSON number times 10^`scale`, where that is an integer: `1.0`, `1e3` and `-0` are integers, `1.5` is not.
pub(super) fn scaled(text: &str, scale: i8) -> Result<i128, Misfit> {
    if let Some(short) = short_integer(text).filter(|_| scale == 0) {
        return Ok(short.into());
    }
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes()).map(|b| b - b'0');
    let all = whole.len() + fraction.len();
    let Some(trailing) = digits().rev().position(|d| d != 0) else { return Ok(0) };
    let leading = digits().position(|d| d != 0).unwrap_or(0);
    let significant = all - leading - trailing;
    // an exponent of more digits than an i64 has no other effect than its sign has
    let exponent = exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    let zeros = exponent.saturating_add(i64::from(scale) - fraction.len() as i64 + trailing as i64);
    if zeros < 0 {
        return Err(Misfit::Fraction);
    }
    if zeros.saturating_add(significant as i64) > 39 {
        return Err(Misfit::Range);
    }
    let zeros = std::iter::repeat_n(0, zeros as usize);
    digits()
        .skip(leading)
        .take(significant)
        .chain(zeros)
        .try_fold(0_i128, |value, digit| {
            let digit = i128::from(digit);
            value.checked_mul(10)?.checked_add(if negative { -digit } else { digit })
        })
        .ok_or(Misfit::Range)
}

/// The common case: an integer of at most 18 digits, without point or exponent.
fn short_integer(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if digits.len() > 18 {
        return None;
    }
    let mut value = 0_i64;
    for byte in digits.bytes() {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::Misfit::{Fraction, Range};
    use super::*;

    #[test]
    fn a_number_is_what_its_text_says() {
        for (text, scale, expected) in [
            ("0", 0, Ok(0)),
            ("-0", 0, Ok(0)),
            ("-0.0e5", 0, Ok(0)),
            ("0e99999999999999999999", 0, Ok(0)),
            ("1.0", 0, Ok(1)),
            ("1e3", 0, Ok(1000)),
            ("1E+3", 0, Ok(1000)),
            ("1.25e2", 0, Ok(125)),
            ("100e-2", 0, Ok(1)),
            ("1.5", 0, Err(Fraction)),
            ("1e-1", 0, Err(Fraction)),
            ("1.00000000000000000000000001", 0, Err(Fraction)),
            ("9007199254740993.0", 0, Ok(9_007_199_254_740_993)),
            ("-9223372036854775808", 0, Ok(i128::from(i64::MIN))),
            ("170141183460469231731687303715884105727", 0, Ok(i128::MAX)),
            ("-170141183460469231731687303715884105728", 0, Ok(i128::MIN)),
            ("170141183460469231731687303715884105728", 0, Err(Range)),
            ("1e39", 0, Err(Range)),
            ("1e99999999999999999999", 0, Err(Range)),
            ("1e-99999999999999999999", 0, Err(Fraction)),
            ("12.30", 2, Ok(1230)),
            ("12.3", 2, Ok(1230)),
            ("0.005", 2, Err(Fraction)),
            ("0.0050", 3, Ok(5)),
            ("1200", -2, Ok(12)),
            ("1250", -2, Err(Fraction)),
        ] {
            assert_eq!(scaled(text, scale), expected, "{text} at scale {scale}");
        }
    }
}
