//! Searches of STAC APIs (version 1.0, item search): which items lie in an area, page by page.

use std::fmt;

use super::document::{Item, Page, parse_page};
use crate::georef::Bounds;
use crate::raster::remote::{Client, RemoteError, RemoteUrl};
use crate::raster::{DatetimeRange, RasterError, Timestamp};

/// Locations of searches begin like this.
const PREFIX: &str = "stac+";

/// Bytes accepted in a page, items asked for in one, and pages followed.
const MAX_PAGE_BYTES: u64 = 16 << 20;
const PAGE_ITEMS: usize = 100;
const MAX_PAGES: usize = 10;

/// Items taken for one area where the location does not say.
const DEFAULT_ITEMS: usize = 200;
const MAX_ITEMS: usize = 1000;

/// What a location needs, in words.
const NEEDED: &str = "an address such as stac+https://example.org/v1/search?collections=sentinel-2-l1c&datetime=2024-06-01/2024-09-01\
                      &max_cloud=20 is needed (also: bbox=W,S,E,N, mosaic=day, newest or first, max_items=200)";

/// Whether a location is a search.
pub(in crate::raster) fn is_search(location: &str) -> bool {
    location.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX)) && location.contains("://")
}

/// Which items become one capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mosaicking {
    /// Those of one day and platform; the newest on top.
    #[default]
    Day,
    /// All of them, the newest on top.
    Newest,
    /// All of them, the oldest on top.
    First,
}

/// A search, but for its area.
#[derive(Clone)]
pub(super) struct Search {
    /// Up to the question mark.
    endpoint: String,
    /// Parameters of the host's own, tokens among them.
    others: Vec<String>,
    collections: String,
    datetime: Option<DatetimeRange>,
    max_cloud: Option<f64>,
    /// Where to look at all, degrees.
    pub(super) bounds: Option<Bounds>,
    pub(super) mosaic: Mosaicking,
    max_items: usize,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, collections, .. } = self;
        f.debug_struct("Search").field("endpoint", endpoint).field("collections", collections).finish_non_exhaustive()
    }
}

impl Search {
    /// Reads a location.
    ///
    /// # Errors
    /// [`RasterError::InvalidOption`] naming what is wrong; [`RemoteError::BadUrl`] where it is no address.
    pub(super) fn parse(location: &str) -> Result<Self, RasterError> {
        let address = location.get(PREFIX.len()..).unwrap_or_default();
        let (endpoint, query) = address.split_once('?').unwrap_or((address, ""));
        let url = RemoteUrl::parse(endpoint)?;
        let wrong = |value: &str, reason: &str| RasterError::InvalidOption {
            what: "search",
            value: value.chars().take(100).collect(),
            needed: format!("{reason}; {NEEDED}"),
        };
        let mut search = Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            others: Vec::new(),
            collections: String::new(),
            datetime: None,
            max_cloud: None,
            bounds: None,
            mosaic: Mosaicking::default(),
            max_items: DEFAULT_ITEMS,
        };
        // Who names the landing page means the search below it.
        if !search.endpoint.ends_with("/search") {
            search.endpoint += "/search";
        }
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("collections", names)) => search.collections = names.to_owned(),
                Some(("datetime", range)) => search.datetime = Some(range.parse()?),
                Some(("max_cloud", percent)) => {
                    let is_share = |percent: &f64| (0.0..=100.0).contains(percent);
                    let cloud = percent.parse().ok().filter(is_share);
                    search.max_cloud = Some(cloud.ok_or_else(|| wrong(parameter, "percent from 0 to 100 are needed"))?);
                }
                Some(("bbox", edges)) => {
                    let bounds = parse_bounds(edges);
                    search.bounds = Some(bounds.ok_or_else(|| wrong(parameter, "west, south, east, north are needed"))?);
                }
                Some(("mosaic", "day")) => search.mosaic = Mosaicking::Day,
                Some(("mosaic", "newest")) => search.mosaic = Mosaicking::Newest,
                Some(("mosaic", "first")) => search.mosaic = Mosaicking::First,
                Some(("mosaic", _)) => return Err(wrong(parameter, "there is no such mosaic")),
                Some(("max_items", number)) => {
                    let number = number.parse().ok().filter(|number| (1..=MAX_ITEMS).contains(number));
                    search.max_items = number.ok_or_else(|| wrong(parameter, "1 to 1000 items can be taken"))?;
                }
                _ => search.others.push(parameter.to_owned()),
            }
        }
        if search.collections.is_empty() {
            return Err(wrong(url.host(), "its collections are not named"));
        }
        Ok(search)
    }

    /// What people call it.
    pub(super) fn title(&self) -> &str {
        &self.collections
    }

    /// The items that lie in `area` (degrees) and were taken within `datetime` as well as the search's own range; at most `most`
    /// of them, in the order of the host, which is the newest first at all known ones.
    ///
    /// # Errors
    /// [`RasterError::Remote`] where the host may not be asked or fails, and what it sends in place of items.
    pub(super) fn items(
        &self,
        client: &Client,
        area: Option<&Bounds>,
        datetime: Option<&DatetimeRange>,
        most: Option<usize>,
    ) -> Result<Vec<Item>, RasterError> {
        let most = most.unwrap_or(self.max_items);
        let range = match intersection(self.datetime.as_ref(), datetime) {
            Ok(range) => range,
            Err(Empty) => return Ok(Vec::new()),
        };
        let mut url = client.locate(&self.address(area, range.as_ref(), most, self.max_cloud))?;
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let json = match client.get(&url, MAX_PAGE_BYTES) {
                // Some hosts refuse what they do not know; clouds are looked at here, too.
                Err(RemoteError::Status { status: 400, .. }) if page == 0 && self.max_cloud.is_some() => {
                    url = client.locate(&self.address(area, range.as_ref(), most, None))?;
                    client.get(&url, MAX_PAGE_BYTES)?
                }
                answer => answer?,
            };
            let Page { items, next } = parse_page(&url.to_string(), &json)?;
            // Hosts need not know every condition.
            found.extend(items.into_iter().filter(|item| self.wants(item, range.as_ref())));
            match next {
                Some(next) if found.len() < most => url = url.join_beside(&next)?,
                _ => break,
            }
        }
        found.truncate(most);
        Ok(found)
    }

    fn address(&self, area: Option<&Bounds>, range: Option<&DatetimeRange>, most: usize, max_cloud: Option<f64>) -> String {
        let mut query = self.others.clone();
        query.push(format!("collections={}", self.collections));
        if let Some(Bounds { min_x, min_y, max_x, max_y }) = area {
            query.push(format!("bbox={min_x},{min_y},{max_x},{max_y}"));
        }
        if let Some(range) = range {
            let text = |end: Option<Timestamp>| end.map_or_else(|| "..".to_owned(), in_seconds);
            query.push(format!("datetime={}/{}", text(range.start), text(range.end)));
        }
        if let Some(percent) = max_cloud {
            // The query extension's form, `{"eo:cloud_cover":{"lte":20}}`; hosts without it pass it over.
            query.push(format!("query=%7B%22eo%3Acloud_cover%22%3A%7B%22lte%22%3A{percent}%7D%7D"));
        }
        query.push(format!("limit={}", most.min(PAGE_ITEMS)));
        format!("{}?{}", self.endpoint, query.join("&"))
    }

    fn wants(&self, item: &Item, range: Option<&DatetimeRange>) -> bool {
        let is_clear = self.max_cloud.is_none_or(|most| item.cloud_cover().is_none_or(|cloud| cloud <= most));
        let is_within = range.is_none_or(|range| item.datetime().is_some_and(|datetime| range.contains(datetime)));
        is_clear && is_within
    }
}

/// No instant is in both of two ranges.
struct Empty;

/// The instants in both of two ranges; `None` for all of time.
fn intersection(a: Option<&DatetimeRange>, b: Option<&DatetimeRange>) -> Result<Option<DatetimeRange>, Empty> {
    let (Some(a), Some(b)) = (a, b) else { return Ok(a.or(b).copied()) };
    let start = a.start.max(b.start);
    let end = match (a.end, b.end) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    if start.zip(end).is_some_and(|(start, end)| start > end) { Err(Empty) } else { Ok(Some(DatetimeRange { start, end })) }
}

/// An instant without its fraction, which not every host can read.
fn in_seconds(instant: Timestamp) -> String {
    let text = instant.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

fn parse_bounds(text: &str) -> Option<Bounds> {
    let edges = text.split(',').map(|edge| edge.parse().ok()).collect::<Option<Vec<f64>>>()?;
    let &[min_x, min_y, max_x, max_y] = &edges[..] else { return None };
    let is_sound = -180.0 <= min_x && min_x < max_x && max_x <= 180.0 && -90.0 <= min_y && min_y < max_y && max_y <= 90.0;
    is_sound.then_some(Bounds { min_x, min_y, max_x, max_y })
}

/// Who asks in the place of a server that may not ask anybody.
pub(super) fn nobody(location: &str) -> RasterError {
    let host = Search::parse(location).and_then(|search| Ok(RemoteUrl::parse(&search.endpoint)?));
    host.map_or_else(|error| error, |url| RemoteError::HostNotAllowed { host: url.host().to_owned() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "stac+https://a.org/v1?collections=s2,s1&datetime=2024-06-01/2024-06-02&max_cloud=20&bbox=1,2,3,4\
                        &mosaic=first&max_items=7&token=topsecret";

    #[test]
    fn a_location_says_what_to_search_for() {
        let search = Search::parse(FULL).expect("a search");
        let area = Bounds { min_x: 1.25, min_y: 2.0, max_x: 1.5, max_y: 2.25 };
        assert_eq!(
            search.address(Some(&area), search.datetime.as_ref(), 7, search.max_cloud),
            "https://a.org/v1/search?token=topsecret&collections=s2,s1&bbox=1.25,2,1.5,2.25\
             &datetime=2024-06-01T00:00:00Z/2024-06-02T23:59:59Z&query=%7B%22eo%3Acloud_cover%22%3A%7B%22lte%22%3A20%7D%7D&limit=7"
        );
        assert_eq!(search.mosaic, Mosaicking::First);
        assert!(!format!("{search:?}").contains("topsecret"));
        let short = Search::parse("stac+http://a.org/search?collections=s2").expect("a search");
        assert_eq!(short.address(None, None, 500, None), "http://a.org/search?collections=s2&limit=100");
        assert!(is_search(FULL) && !is_search("https://a.org/search?collections=s2") && !is_search("stac+"));
    }

    #[test]
    fn what_is_wrong_with_a_location_is_named() {
        for (query, words) in [
            ("", "collections"),
            ("collections=a&max_cloud=120", "max_cloud=120"),
            ("collections=a&bbox=1,2,3", "bbox"),
            ("collections=a&bbox=3,2,1,4", "bbox"),
            ("collections=a&bbox=nan,2,3,4", "bbox"),
            ("collections=a&mosaic=best", "mosaic=best"),
            ("collections=a&max_items=0", "max_items=0"),
            ("collections=a&datetime=june", "june"),
        ] {
            let error = Search::parse(&format!("stac+https://a.org/search?{query}")).expect_err(query).to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(Search::parse("stac+file:///etc?collections=a").is_err());
    }

    #[test]
    fn two_ranges_share_their_middle() {
        let range = |text: &str| text.parse::<DatetimeRange>().expect("a range");
        let (a, b) = (range("2024-06-01/.."), range("../2024-06-03"));
        let both = intersection(Some(&a), Some(&b)).ok().flatten();
        assert_eq!(both, Some(range("2024-06-01/2024-06-03")));
        assert!(intersection(Some(&range("2024-06-04/..")), Some(&b)).is_err());
        assert_eq!(intersection(None, Some(&b)).ok().flatten(), Some(b));
    }
}
