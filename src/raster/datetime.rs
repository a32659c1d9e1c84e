//! When a capture was taken, and the times a request asks for (RFC 3339, as OGC API and STAC write them).

use std::str::FromStr;

pub use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::raster::error::RasterError;

/// `datetime=`: an instant, a whole day, or an interval. Its ends are included and may be open.
///
/// ```
/// use satlas_serve::raster::DatetimeRange;
/// let range: DatetimeRange = "2024-06-01T00:00:00Z/..".parse().unwrap();
/// assert!(range.contains("2024-06-01T00:00:00Z".parse().unwrap()));
/// assert!(!range.contains("2024-05-31T23:59:59Z".parse().unwrap()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DatetimeRange {
    /// First instant; `None` leaves the past open.
    pub start: Option<Timestamp>,
    /// Last instant; `None` leaves the future open.
    pub end: Option<Timestamp>,
}

impl DatetimeRange {
    /// True if an instant lies in the range.
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= instant) && self.end.is_none_or(|end| instant <= end)
    }
}

impl FromStr for DatetimeRange {
    type Err = RasterError;

    fn from_str(text: &str) -> Result<Self, RasterError> {
        let parsed = match text.split_once('/') {
            None => span(text).map(|(start, end)| (Some(start), Some(end))),
            Some((start, end)) => {
                let side = |text: &str| match text {
                    "" | ".." => Some(None),
                    text => span(text).map(Some),
                };
                side(start)
                    .zip(side(end))
                    .filter(|(start, end)| start.is_some() || end.is_some())
                    .map(|(start, end)| (start.map(|(first, _)| first), end.map(|(_, last)| last)))
            }
        };
        parsed
            .filter(|(start, end)| start.zip(*end).is_none_or(|(start, end)| start <= end))
            .map(|(start, end)| Self { start, end })
            .ok_or_else(|| RasterError::InvalidOption {
                what: "datetime",
                value: text.chars().take(100).collect(),
                needed: "a date such as 2024-06-01, an instant such as 2024-06-01T10:00:00Z, or two of them in time order \
                         separated by a slash, one of which may be .., are needed"
                    .to_owned(),
            })
    }
}

/// The instant that a text names, or the first instant of a day.
///
/// # Errors
/// [`RasterError::InvalidOption`] if `text` is neither an RFC 3339 instant nor a date.
pub(crate) fn instant_or_day(text: &str) -> Result<Timestamp, RasterError> {
    span(text).map(|(first, _)| first).ok_or_else(|| RasterError::InvalidOption {
        what: "datetime",
        value: text.chars().take(100).collect(),
        needed: "a date such as 2024-06-01 or an instant such as 2024-06-01T10:00:00Z is needed".to_owned(),
    })
}

/// The instant that a catalogue writes: with an offset, or else as UTC; the first instant of a day.
pub(crate) fn instant_as_utc(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse().ok().or_else(|| utc(text.parse().ok()?))
}

/// First and last instant of an instant or a date.
fn span(text: &str) -> Option<(Timestamp, Timestamp)> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some((instant, instant));
    }
    // The length rules out a time without an offset, which parses as a date.
    let date: Date = (text.len() == 10).then(|| text.parse().ok())??;
    let at = |hour, minute, second, nanosecond| utc(date.at(hour, minute, second, nanosecond));
    Some((at(0, 0, 0, 0)?, at(23, 59, 59, 999_999_999)?))
}

fn utc(datetime: DateTime) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(datetime).ok()
}

/// The time in a TIFF `DateTime` tag, `YYYY:MM:DD HH:MM:SS`. TIFF has no time zones; UTC is assumed.
pub(crate) fn from_tiff_tag(text: &str) -> Option<Timestamp> {
    let digits: String = text.trim_end_matches('\0').trim().chars().filter(char::is_ascii_digit).collect();
    from_digits(&digits)
}

/// The time in a name: the first date with a time of day (`T31UFU_20240601T104021_B02.jp2`, `s1a-…-20240601t051234-…`,
/// `20240601_104021_…`, `2024-06-01T10-40-21`, `2024153T104021`), else the first date (`20240601`, `2024-06-01`, `2024_06_01`,
/// `A2024153`), whose day begins in UTC.
pub(crate) fn from_name(name: &str) -> Option<Timestamp> {
    let dates: Vec<(Option<Timestamp>, bool)> = runs_of_digits(name).map(|start| date_at(name, start)).collect();
    let first = |timed: bool| dates.iter().filter(|(_, has_time)| *has_time == timed).find_map(|(datetime, _)| *datetime);
    first(true).or_else(|| first(false))
}

/// Where runs of digits start.
fn runs_of_digits(name: &str) -> impl Iterator<Item = usize> {
    let bytes = name.as_bytes();
    (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit() && (*at == 0 || !bytes[at - 1].is_ascii_digit()))
}

/// The date that the run of digits at `start` begins, and true if it has a time of day.
fn date_at(name: &str, start: usize) -> (Option<Timestamp>, bool) {
    let text = &name[start..];
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let is = |at: usize, accepted: &[u8]| bytes.get(at).is_some_and(|byte| accepted.contains(byte));
    let (date, end) = match digits(0) {
        14 => return (from_digits(&text[..14]), true),
        12 => return (from_digits(&format!("{}00", &text[..12])), true),
        8 => (text[..8].to_owned(), 8),
        // A year and the number of a day, which other numbers of seven digits are not: MODIS writes an A before it, others a time behind.
        7 => {
            let is_marked = start.checked_sub(1).is_some_and(|before| matches!(name.as_bytes()[before], b'A' | b'a'));
            match day_of_year(&text[..7]).filter(|_| is_marked || (is(7, b"Tt") && digits(8) >= 6)) {
                Some(date) => (date, 7),
                None => return (None, false),
            }
        }
        4 if is(4, b"-_.") && digits(5) == 2 && bytes.get(7) == bytes.get(4) && digits(8) == 2 => {
            ([&text[..4], &text[5..7], &text[8..10]].concat(), 10)
        }
        _ => return (None, false),
    };
    match time_at(&text[end..]).and_then(|time| from_digits(&[&date[..], &time].concat())) {
        Some(datetime) => (Some(datetime), true),
        None => (from_digits(&format!("{date}000000")), false),
    }
}

/// The time of day that follows a date, as six digits: `T104021`, `_104021`, `T10-40-21`, `_10_40_21`.
fn time_at(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let is_marked = matches!(bytes.first(), Some(b'T' | b't'));
    if !is_marked && !matches!(bytes.first(), Some(b'_' | b'-' | b' ')) {
        return None;
    }
    match digits(1) {
        6 => Some(text[1..7].to_owned()),
        // Fractions of a second may follow a time that is marked.
        6.. if is_marked => Some(text[1..7].to_owned()),
        2 if digits(4) == 2 && digits(7) == 2 && bytes.get(3) == bytes.get(6) && matches!(bytes[3], b'-' | b'_' | b':') => {
            Some([&text[1..3], &text[4..6], &text[7..9]].concat())
        }
        _ => None,
    }
}

/// `YYYYMMDD` of a year and the number of a day in it, `YYYYDDD`.
fn day_of_year(digits: &str) -> Option<String> {
    let (year, day) = (digits.get(..4)?.parse().ok()?, digits.get(4..)?.parse::<i64>().ok()?);
    let date = Date::new(year, 1, 1).ok()?.checked_add(jiff::Span::new().try_days(day - 1).ok()?).ok()?;
    (date.year() == year).then(|| format!("{:04}{:02}{:02}", date.year(), date.month(), date.day()))
}

/// Years in which imagery was taken; a number of eight digits outside them is no date.
const YEARS: std::ops::RangeInclusive<i16> = 1900..=2100;

/// `YYYYMMDDHHMMSS`.
fn from_digits(digits: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<i16>().ok();
    let byte = |from: usize| number(from, from + 2).map(|number| number as i8);
    if digits.len() != 14 {
        return None;
    }
    let year = number(0, 4).filter(|year| YEARS.contains(year))?;
    let datetime = DateTime::new(year, byte(4)?, byte(6)?, byte(8)?, byte(10)?, byte(12)?, 0).ok()?;
    utc(datetime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_date_is_the_whole_day() {
        let day: DatetimeRange = "2024-06-01".parse().unwrap();
        assert!(day.contains(instant("2024-06-01T00:00:00Z")) && day.contains(instant("2024-06-01T23:59:59Z")));
        assert!(!day.contains(instant("2024-06-02T00:00:00Z")) && !day.contains(instant("2024-05-31T23:59:59Z")));
    }

    #[test]
    fn an_interval_holds_its_ends_and_may_be_open() {
        let range: DatetimeRange = "2024-06-01/2024-06-03T12:00:00+02:00".parse().unwrap();
        assert!(range.contains(instant("2024-06-03T10:00:00Z")) && !range.contains(instant("2024-06-03T10:00:01Z")));
        let past: DatetimeRange = "../2024-06-01".parse().unwrap();
        assert!(past.contains(instant("1990-01-01T00:00:00Z")) && !past.contains(instant("2024-06-02T00:00:00Z")));
    }

    #[test]
    fn what_is_no_time_is_told_what_would_be() {
        for text in
            ["", "..", "../..", "/", "yesterday", "2024-13-01", "2024-06-02/2024-06-01", "2024-06-01T10:00:00", "a/b/c"]
        {
            let error = text.parse::<DatetimeRange>().unwrap_err().to_string();
            assert!(error.contains("2024-06-01T10:00:00Z"), "{text}: {error}");
        }
    }

    #[test]
    fn a_time_without_an_offset_is_taken_as_utc() {
        let wanted = Some(instant("2024-06-01T10:00:00Z"));
        for text in ["2024-06-01T10:00:00", "2024-06-01 10:00:00", "2024-06-01T10:00:00.000", " 2024-06-01T12:00:00+02:00 "]
        {
            assert_eq!(instant_as_utc(text), wanted, "{text}");
        }
        assert_eq!(instant_as_utc("2024-06-01"), Some(instant("2024-06-01T00:00:00Z")));
        for text in ["", "June", "2024-06-01/2024-06-02", "2024-13-01T00:00:00"] {
            assert_eq!(instant_as_utc(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_found_in_the_names_of_sentinel_2_files_and_in_tiff_tags() {
        let expected = Some(instant("2024-06-01T10:40:21Z"));
        for name in ["T31UFU_20240601T104021_B02.jp2", "S2A_MSIL1C_20240601T104021_N0510_R008_T31UFU_20240601T125000.SAFE"]
        {
            assert_eq!(from_name(name), expected, "{name}");
        }
        assert_eq!(from_tiff_tag("2024:06:01 10:40:21\0"), expected);
        assert_eq!(from_tiff_tag("2024:06:01"), None);
    }

    #[test]
    fn dates_in_the_common_forms_are_found_in_names() {
        for (name, wanted) in [
            ("s1a-iw-grd-vv-20240601t051234-20240601t051259-054123-069abc-001.tiff", "2024-06-01T05:12:34Z"),
            ("20240101_T31UFU_20240601T104021.tif", "2024-06-01T10:40:21Z"),
            ("scene20240601104021.tif", "2024-06-01T10:40:21Z"),
            ("LC08_L1TP_173059_20220706_20220722_02_T1_B1.TIF", "2022-07-06T00:00:00Z"),
            ("harbour_20240601.tif", "2024-06-01T00:00:00Z"),
            ("harbour-2024-06-01.tif", "2024-06-01T00:00:00Z"),
            ("2024_06_01_harbour.tif", "2024-06-01T00:00:00Z"),
            ("2024.06.01.tif", "2024-06-01T00:00:00Z"),
            ("20240601_104021_12_24b5_3B_AnalyticMS.tif", "2024-06-01T10:40:21Z"),
            ("20240601-104021.tif", "2024-06-01T10:40:21Z"),
            ("x_2024-06-01T104021Z.tif", "2024-06-01T10:40:21Z"),
            ("x_2024-06-01T10:40:21Z.tif", "2024-06-01T10:40:21Z"),
            ("x_2024-06-01_10-40-21.tif", "2024-06-01T10:40:21Z"),
            ("x_2024_06_01_10_40_21.tif", "2024-06-01T10:40:21Z"),
            ("202406011040.tif", "2024-06-01T10:40:00Z"),
            ("HLS.S30.T31UFU.2024153T104021.v2.0.B02.tif", "2024-06-01T10:40:21Z"),
            ("MOD09GA.A2024153.h18v04.061.tif", "2024-06-01T00:00:00Z"),
            ("20240531_20240601.tif", "2024-05-31T00:00:00Z"),
            ("20240601_991234.tif", "2024-06-01T00:00:00Z"),
            ("S2B_31UFU_20240601_0_L2A.tif", "2024-06-01T00:00:00Z"),
            ("é20240601.tif", "2024-06-01T00:00:00Z"),
        ] {
            assert_eq!(from_name(name), Some(instant(wanted)), "{name}");
        }
        for name in [
            "",
            "B02.tif",
            "20241301T104021",
            "2024-06-31",
            "2024-06_01",
            "12345678",
            "120240601",
            "2024-06-011",
            "31101234",
            "m_3807708_ne.tif",
            "A2024367.tif",
            "2024153.tif",
        ] {
            assert_eq!(from_name(name), None, "{name}");
        }
    }
}
