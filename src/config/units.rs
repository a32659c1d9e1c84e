//! Sizes and durations as people write them: `512MiB`, `2GB`, `30s`, `500ms`, `5min`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::friendly::{Spacing, SpanPrinter};
use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

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

/// The largest size: above 2^53 a float no longer counts single bytes, and no machine has so much memory.
const LARGEST_BYTES: u64 = 9_000_000_000_000_000;

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = normalised(text, "B").parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64());
        let size = size.filter(|size| *size <= LARGEST_BYTES);
        size.map(Self).ok_or_else(|| format!("found {text:?}; a size such as 512MiB, 2GB or 1048576 is needed"))
    }
}

impl fmt::Display for ByteSize {
    /// Exact, unlike the crate's: the largest binary unit of which the size is a whole multiple.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", bytesize::TIB), ("GiB", bytesize::GIB), ("MiB", bytesize::MIB), ("KiB", bytesize::KIB)];
        match units.into_iter().find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// The longest time: a year.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

impl Span {
    /// So many seconds.
    pub const fn seconds(count: u64) -> Self {
        Self(Duration::from_secs(count))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = normalised(text, "s").parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
        let span = span.filter(|span| *span <= LONGEST);
        span.map(Self)
            .ok_or_else(|| format!("found {text:?}; a time such as 500ms, 30s or 5min (a year at most) is needed"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SignedDuration::try_from(self.0) {
            Ok(span) => write!(f, "{}", SpanPrinter::new().spacing(Spacing::None).duration_to_string(&span)),
            // Longer than jiff counts, and than can be asked for.
            Err(_) => write!(f, "{}s", self.0.as_secs()),
        }
    }
}

/// The text as the crates read it: no plus sign, a digit on both sides of the point, and `unit` after a bare number.
fn normalised(text: &str, unit: &str) -> String {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let rest = if rest.is_empty() { unit } else { rest };
    match number.split_once('.') {
        Some((whole, fraction)) if number != "." => format!("{whole:0>1}.{fraction:0<1}{rest}"),
        _ => format!("{number}{rest}"),
    }
}

as_text!(ByteSize, Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("1.5 KiB", 1536),
            ("2GB", 2_000_000_000),
            ("4GiB", 4 << 30),
            (" 3 kB ", 3000),
            ("+7B", 7),
            (".5KB", 500),
            ("2.TiB", 2 << 40),
            ("1.5", 1),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "GiB", "-1", "1 parsec", "1e300", "nan", ".", "9007199254740993", "9PiB"] {
            assert!(text.parse::<ByteSize>().is_err_and(|error| error.contains("512MiB")), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, millis) in [
            ("0", 0),
            ("500ms", 500),
            ("1.5s", 1500),
            ("2min", 120_000),
            ("1h", 3_600_000),
            (" 5 m ", 300_000),
            ("+1", 1000),
            (".5", 500),
            ("2.s", 2000),
            ("0.25h", 900_000),
            ("1h 30m", 5_400_000),
        ] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "s", "-1s", "3 fortnights", "inf", "1e9h", ".", "8761h", "1d"] {
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
