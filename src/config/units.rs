//! Sizes and durations as people write them: `512MiB`, `2GB`, `30s`, `500ms`, `5min`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

/// Binary and decimal multiples; a bare number is bytes.
const BYTE_UNITS: [(&str, u64); 11] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
    ("", 1),
];

impl ByteSize {
    /// So many mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// Whole mebibytes, at least one.
    pub fn as_mib(self) -> u64 {
        (self.0 >> 20).max(1)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let needed = || format!("found {text:?}; a size such as 512MiB, 2GB or 1048576 is needed");
        let (number, unit) = split_unit(text);
        let factor = BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(needed)?.1;
        let bytes = number.parse::<f64>().map_err(|_| needed())? * factor as f64;
        // Above 2^53 a float no longer counts single bytes, and no machine has so much memory.
        if (0.0..9.0e15).contains(&bytes) { Ok(Self(bytes as u64)) } else { Err(needed()) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = |(name, factor): &&(&str, u64)| name.ends_with("iB") && self.0 != 0 && self.0.is_multiple_of(*factor);
        match BYTE_UNITS.iter().rev().find(binary) {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// Units in seconds; a bare number is seconds.
const TIME_UNITS: [(&str, f64); 6] = [("ms", 0.001), ("s", 1.0), ("min", 60.0), ("m", 60.0), ("h", 3600.0), ("", 1.0)];

/// The longest time accepted: a year.
const LONGEST_S: f64 = 365.0 * 86_400.0;

impl Span {
    /// So many seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let needed = || format!("found {text:?}; a time such as 500ms, 30s or 5min (a year at most) is needed");
        let (number, unit) = split_unit(text);
        let factor = TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(needed)?.1;
        let seconds = number.parse::<f64>().map_err(|_| needed())? * factor;
        if (0.0..=LONGEST_S).contains(&seconds) { Ok(Self(Duration::from_secs_f64(seconds))) } else { Err(needed()) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match (millis % 3_600_000, millis % 60_000, millis % 1000) {
            (0, _, _) if millis > 0 => write!(f, "{}h", millis / 3_600_000),
            (_, 0, _) if millis > 0 => write!(f, "{}min", millis / 60_000),
            (_, _, 0) => write!(f, "{}s", millis / 1000),
            _ => write!(f, "{millis}ms"),
        }
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    (text[..end].trim_end(), &text[end..])
}

as_text!(ByteSize, Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("512", 512), ("1.5 KiB", 1536), ("2GB", 2_000_000_000), ("4GiB", 4 << 30)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1", "1 parsec", "1e300", "nan"] {
            assert!(text.parse::<ByteSize>().is_err_and(|error| error.contains("512MiB")), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, millis) in [("0", 0), ("500ms", 500), ("1.5s", 1500), ("2min", 120_000), ("1h", 3_600_000)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "s", "-1s", "3 fortnights", "inf", "1e9h"] {
            assert!(text.parse::<Span>().is_err_and(|error| error.contains("30s")), "{text}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for size in [0, 1, 1 << 10, 3 << 20, 1_000_000].map(ByteSize) {
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        for span in [0, 1, 999, 1000, 61_000, 120_000, 5_400_000, 86_400_000].map(|ms| Span(Duration::from_millis(ms))) {
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
