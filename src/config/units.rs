//! Spans of time and amounts of memory as people write them: `30s`, `512MB`.
//!
//! What is printed can be read again and means the same.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("expected a whole number with its unit, such as `500ms`, `10s`, `5m`, `2h` or `1d`")]
    Syntax,
    #[error("a duration needs its unit: `{0}s`, `{0}ms` or `{0}m`?")]
    NoUnit(u64),
    #[error("must be longer than 0")]
    Zero,
    #[error("at most 365d")]
    TooLong,
}

/// Milliseconds in each unit, the largest first, so that printing finds the shortest form.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Longest accepted duration: far above any use, far below what timers overflow at.
const MAX_DURATION: Duration = Duration::from_secs(365 * 86_400);

pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let (number, unit) = split_number(text).ok_or(DurationError::Syntax)?;
    if unit.is_empty() {
        return Err(DurationError::NoUnit(number));
    }
    let (_, factor) = TIME_UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(DurationError::Syntax)?;
    let millis = number.checked_mul(*factor).ok_or(DurationError::TooLong)?;
    let duration = Duration::from_millis(millis);
    if duration > MAX_DURATION {
        return Err(DurationError::TooLong);
    }
    Ok(duration)
}

/// The shortest exact form, down to milliseconds.
pub(super) fn print_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    print_exact(millis, &TIME_UNITS).unwrap_or_else(|| format!("{millis}ms"))
}

/// Why a text is no amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SizeError {
    #[error("expected bytes, or a whole number with its unit, such as `64KiB`, `512MB` or `2GiB`")]
    Syntax,
    #[error("must be larger than 0")]
    Zero,
    #[error("larger than any machine's memory")]
    TooLarge,
}

/// Bytes in each unit, the largest first: IEC 80000-13 for `KiB`, SI for `MB`.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

pub(super) fn parse_size(text: &str) -> Result<u64, SizeError> {
    let (number, unit) = split_number(text).ok_or(SizeError::Syntax)?;
    let factor = if unit.is_empty() {
        1
    } else {
        let known = SIZE_UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit));
        known.ok_or(SizeError::Syntax)?.1
    };
    match number.checked_mul(factor) {
        Some(0) => Err(SizeError::Zero),
        Some(bytes) => Ok(bytes),
        None => Err(SizeError::TooLarge),
    }
}

/// The shortest exact form.
pub(super) fn print_size(bytes: u64) -> String {
    print_exact(bytes, &SIZE_UNITS).unwrap_or_else(|| format!("{bytes}B"))
}

fn print_exact(amount: u64, units: &[(&str, u64)]) -> Option<String> {
    let (unit, factor) = units.iter().find(|(_, factor)| amount.is_multiple_of(*factor))?;
    Some(format!("{}{unit}", amount.checked_div(*factor)?))
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        let cases = [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ];
        for (text, millis) in cases {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(text), Ok(duration));
            assert_eq!(print_duration(duration), text);
        }
        assert_eq!(print_duration(Duration::from_millis(90_500)), "90500ms");
        assert_eq!(print_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn a_duration_without_unit_says_so() {
        assert_eq!(parse_duration("30"), Err(DurationError::NoUnit(30)));
        assert!(parse_duration("30").unwrap_err().to_string().contains("`30s`"));
        for bad in ["", "s", "-1s", "1.5s", "1h30m", "1 week", "1S"] {
            assert_eq!(parse_duration(bad), Err(DurationError::Syntax), "{bad}");
        }
        assert_eq!(parse_duration("366d"), Err(DurationError::TooLong));
        assert_eq!(
            parse_duration("18446744073709551615d"),
            Err(DurationError::TooLong)
        );
    }

    #[test]
    fn sizes_read_and_print() {
        let cases = [
            ("512MB", 512_000_000),
            ("16MiB", 16 << 20),
            ("1GB", 1_000_000_000),
            ("64KiB", 65_536),
            ("10kB", 10_000),
            ("7B", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(print_size(bytes), text);
        }
        assert_eq!(parse_size("1048576"), Ok(1 << 20));
        assert_eq!(parse_size("512mb"), Ok(512_000_000));
    }

    #[test]
    fn bad_sizes_say_why() {
        for bad in ["", "MB", "-1", "1.5GB", "12 parsecs"] {
            assert_eq!(parse_size(bad), Err(SizeError::Syntax), "{bad}");
        }
        assert_eq!(parse_size("0"), Err(SizeError::Zero));
        assert_eq!(parse_size("99999999TB"), Err(SizeError::TooLarge));
    }
}
