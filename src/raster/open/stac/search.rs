//! Searches of STAC APIs (version 1.0, item search): which items lie in an area, page by page.

use std::fmt;

use serde_json::{Map, Value, json};

use super::document::{NextPage, Page, parse};
use super::item::Item;
use crate::georef::Bounds;
use crate::raster::datetime::{DatetimeRange, Timestamp};
use crate::raster::error::RasterError;
use crate::storage::{Client, RemoteError, RemoteUrl};

/// Prefix of search locations.
const PREFIX: &str = "stac+";

/// Bytes accepted in a page, items requested per page, and pages followed.
const MAX_PAGE_BYTES: u64 = 16 << 20;
const PAGE_ITEMS: usize = 100;
const MAX_PAGES: usize = 10;

/// Items taken per area, by default and at most.
const DEFAULT_ITEMS: usize = 200;
const MAX_ITEMS: usize = 1000;

/// What a location needs, for error messages.
const NEEDED: &str = "an address such as stac+https://example.org/v1/search?collections=sentinel-2-l1c&datetime=2024-06-01/2024-09-01\
                      &max_cloud=20 is needed (also: bbox=W,S,E,N, mosaic=day, newest or first, max_items=200, method=post)";

/// True if a location is a search.
pub(crate) fn is_search(location: &str) -> bool {
    location.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX)) && location.contains("://")
}

/// How items are combined into captures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mosaicking {
    /// One per day and platform; newest on top.
    #[default]
    Day,
    /// All in one, newest on top.
    Newest,
    /// All in one, oldest on top.
    First,
}

/// A search without its area.
#[derive(Clone)]
pub(super) struct Search {
    /// Up to the question mark.
    endpoint: String,
    /// Other parameters, which are passed on to the host; tokens among them.
    others: Vec<String>,
    collections: String,
    datetime: Option<DatetimeRange>,
    max_cloud: Option<f64>,
    /// Bounds of all searches, degrees.
    pub(super) bounds: Option<Bounds>,
    pub(super) mosaic: Mosaicking,
    max_items: usize,
    /// True if the host takes searches by POST only.
    by_post: bool,
}

/// Conditions of one search.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    area: Option<&'a Bounds>,
    range: Option<&'a DatetimeRange>,
    most: usize,
    max_cloud: Option<f64>,
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) items: Vec<Item>,
    /// What is odd about items, and why others are left out.
    pub(super) oddities: Vec<String>,
}

/// A request for a page: by POST if there is a document to send.
struct Question {
    url: RemoteUrl,
    document: Option<Map<String, Value>>,
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
    /// [`RasterError::InvalidOption`] for an invalid parameter, [`RasterError::Remote`] for an invalid address.
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
            by_post: false,
        };
        // The address of the landing page is accepted, too.
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
                Some(("method", "get")) => search.by_post = false,
                Some(("method", "post")) => search.by_post = true,
                Some(("method", _)) => return Err(wrong(parameter, "searches are sent by get or post")),
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

    /// Its title for display.
    pub(super) fn title(&self) -> &str {
        &self.collections
    }

    /// Up to `most` items in `area` (degrees), taken within both `datetime` and the search's own range, in the host's order (newest
    /// first at all known hosts).
    ///
    /// # Errors
    /// [`RasterError::Remote`] if the host is not allowed or fails, and [`RasterError`] if its answer is not a page of items.
    pub(super) fn items(
        &self,
        client: &Client,
        area: Option<&Bounds>,
        datetime: Option<&DatetimeRange>,
        most: Option<usize>,
    ) -> Result<Found, RasterError> {
        let most = most.unwrap_or(self.max_items);
        let range = match intersection(self.datetime.as_ref(), datetime) {
            Ok(range) => range,
            Err(Empty) => return Ok(Found::default()),
        };
        let mut wanted = Wanted { area, range: range.as_ref(), most, max_cloud: self.max_cloud };
        let mut by_post = self.by_post;
        let mut question = self.question(client, &wanted, by_post)?;
        let mut found = Found::default();
        let mut pages = 0;
        loop {
            let json = match question.ask(client) {
                // Some hosts take searches by POST only.
                Err(RemoteError::Status { status: 405 | 501, .. }) if pages == 0 && !by_post => {
                    by_post = true;
                    question = self.question(client, &wanted, by_post)?;
                    continue;
                }
                // Some hosts refuse unknown parameters; cloud cover is checked here anyway.
                Err(RemoteError::Status { status: 400, .. }) if pages == 0 && wanted.max_cloud.is_some() => {
                    wanted.max_cloud = None;
                    question = self.question(client, &wanted, by_post)?;
                    continue;
                }
                answer => answer?,
            };
            let Page { items, oddities, next } = parse(&question.url.to_string(), &json)?;
            // Hosts may ignore conditions, so all are checked here.
            found.items.extend(items.into_iter().filter(|item| self.wants(item, range.as_ref())));
            found.oddities.extend(oddities);
            pages += 1;
            match next {
                Some(next) if found.items.len() < most && pages < MAX_PAGES => {
                    question = question.next(next, || self.document(&wanted))?;
                }
                _ => break,
            }
        }
        found.items.truncate(most);
        Ok(found)
    }

    fn question(&self, client: &Client, wanted: &Wanted<'_>, by_post: bool) -> Result<Question, RasterError> {
        Ok(if by_post {
            let query = if self.others.is_empty() { String::new() } else { format!("?{}", self.others.join("&")) };
            let url = client.locate(&format!("{}{query}", self.endpoint))?;
            Question { url, document: Some(self.document(wanted)) }
        } else {
            Question { url: client.locate(&self.address(wanted))?, document: None }
        })
    }

    /// The address of a GET request.
    fn address(&self, wanted: &Wanted<'_>) -> String {
        let mut query = self.others.clone();
        query.push(format!("collections={}", self.collections));
        if let Some(Bounds { min_x, min_y, max_x, max_y }) = wanted.area {
            query.push(format!("bbox={min_x},{min_y},{max_x},{max_y}"));
        }
        if let Some(range) = wanted.range {
            query.push(format!("datetime={}", interval(range)));
        }
        if let Some(percent) = wanted.max_cloud {
            // Form of the query extension, `{"eo:cloud_cover":{"lte":20}}`; hosts without the extension ignore it.
            query.push(format!("query=%7B%22eo%3Acloud_cover%22%3A%7B%22lte%22%3A{percent}%7D%7D"));
        }
        query.push(format!("limit={}", wanted.most.min(PAGE_ITEMS)));
        format!("{}?{}", self.endpoint, query.join("&"))
    }

    /// The document of a POST request.
    fn document(&self, wanted: &Wanted<'_>) -> Map<String, Value> {
        let mut document = Map::new();
        let mut put = |name: &str, value: Value| drop(document.insert(name.to_owned(), value));
        put("collections", self.collections.split(',').collect());
        if let Some(Bounds { min_x, min_y, max_x, max_y }) = wanted.area {
            put("bbox", json!([min_x, min_y, max_x, max_y]));
        }
        if let Some(range) = wanted.range {
            put("datetime", interval(range).into());
        }
        if let Some(percent) = wanted.max_cloud {
            put("query", json!({"eo:cloud_cover": {"lte": percent}}));
        }
        put("limit", wanted.most.min(PAGE_ITEMS).into());
        document
    }

    fn wants(&self, item: &Item, range: Option<&DatetimeRange>) -> bool {
        let is_clear = self.max_cloud.is_none_or(|most| item.cloud_cover().is_none_or(|cloud| cloud <= most));
        let is_within = range.is_none_or(|range| item.datetime().is_some_and(|datetime| range.contains(datetime)));
        is_clear && is_within
    }
}

impl Question {
    fn ask(&self, client: &Client) -> Result<bytes::Bytes, RemoteError> {
        match &self.document {
            None => client.get(&self.url, MAX_PAGE_BYTES),
            Some(document) => {
                client.post_json(&self.url, Value::from(document.clone()).to_string().as_bytes(), MAX_PAGE_BYTES)
            }
        }
    }

    /// The request for the next page. `whole` is the document of the search, onto which the next body is laid if the first page was
    /// requested by GET.
    fn next(self, next: NextPage, whole: impl FnOnce() -> Map<String, Value>) -> Result<Self, RasterError> {
        Ok(match next {
            NextPage::Get { href } => Self { url: self.url.join_beside(&href)?, document: None },
            NextPage::Post { href, body, merge } => {
                let mut document = if merge { self.document.unwrap_or_else(whole) } else { Map::new() };
                document.extend(body);
                Self { url: self.url.join_beside(&href)?, document: Some(document) }
            }
        })
    }
}

/// An interval in the form that searches take.
fn interval(range: &DatetimeRange) -> String {
    let text = |end: Option<Timestamp>| end.map_or_else(|| "..".to_owned(), in_seconds);
    format!("{}/{}", text(range.start), text(range.end))
}

/// Two ranges have no instant in common.
struct Empty;

/// The intersection of two ranges; `None` for all of time.
fn intersection(a: Option<&DatetimeRange>, b: Option<&DatetimeRange>) -> Result<Option<DatetimeRange>, Empty> {
    let (Some(a), Some(b)) = (a, b) else { return Ok(a.or(b).copied()) };
    let start = a.start.max(b.start);
    let end = match (a.end, b.end) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    if start.zip(end).is_some_and(|(start, end)| start > end) { Err(Empty) } else { Ok(Some(DatetimeRange { start, end })) }
}

/// An instant without fractions of a second, which not every host accepts.
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

/// The error for a search when remote files are not allowed at all.
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
        let wanted = Wanted { area: Some(&area), range: search.datetime.as_ref(), most: 7, max_cloud: search.max_cloud };
        assert_eq!(
            search.address(&wanted),
            "https://a.org/v1/search?token=topsecret&collections=s2,s1&bbox=1.25,2,1.5,2.25\
             &datetime=2024-06-01T00:00:00Z/2024-06-02T23:59:59Z&query=%7B%22eo%3Acloud_cover%22%3A%7B%22lte%22%3A20%7D%7D&limit=7"
        );
        assert_eq!(
            Value::from(search.document(&wanted)),
            json!({"collections": ["s2", "s1"], "bbox": [1.25, 2.0, 1.5, 2.25], "limit": 7,
                   "datetime": "2024-06-01T00:00:00Z/2024-06-02T23:59:59Z", "query": {"eo:cloud_cover": {"lte": 20.0}}})
        );
        assert_eq!(search.mosaic, Mosaicking::First);
        assert!(!format!("{search:?}").contains("topsecret"));
        let short = Search::parse("stac+http://a.org/search?collections=s2").expect("a search");
        let anything = Wanted { area: None, range: None, most: 500, max_cloud: None };
        assert_eq!(short.address(&anything), "http://a.org/search?collections=s2&limit=100");
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
            ("collections=a&method=put", "method=put"),
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
