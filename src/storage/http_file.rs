//! A file on another machine as a [`ByteSource`]: read by range, in blocks that are cached.
//!
//! The first answer tells the file's length and identity and holds its first bytes, where most formats keep their directories.
//! Later answers must come from the same version of the file; otherwise a mixture of two versions would be read.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use ureq::http::{HeaderMap, StatusCode, header};

use super::byte_source::check_range;
use super::client::{RemoteRequest, RemoteResponse};
use super::headers::content_range;
use super::{ByteSource, Client, ReadError, RemoteError, RemoteUrl, in_parallel};

/// Bytes of a block.
const BLOCK: u64 = 64 << 10;
/// Most blocks per request: larger requests are costly to repeat and leave less to fetch in parallel.
const MAX_RUN: u64 = 64;
/// Unwanted blocks between two wanted ones that are fetched along to save a request.
const MAX_GAP: u64 = 2;
/// Largest file taken whole from hosts without range requests, in bytes.
const MAX_WHOLE: u64 = 16 << 20;

/// A file on another machine.
pub struct HttpBytes {
    client: Arc<Client>,
    url: RemoteUrl,
    len: u64,
    tag: Tag,
    id: u64,
    /// All of it, if the host ignores range requests.
    whole: Option<Bytes>,
}

/// Validators (RFC 9110, 8.8) that tell one version of a file from another, if the host sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    etag: Option<String>,
    modified: Option<String>,
}

impl Tag {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let etag: Option<String> = text(header::ETAG);
        // Servers behind one name may differ in whether they mark it as weak.
        Self { etag: etag.map(|etag| etag.trim_start_matches("W/").to_owned()), modified: text(header::LAST_MODIFIED) }
    }

    fn contradicts(&self, other: &Self) -> bool {
        let differ = |a: &Option<String>, b: &Option<String>| a.is_some() && b.is_some() && a != b;
        match (&self.etag, &other.etag) {
            (Some(one), Some(other)) => one != other,
            _ => differ(&self.modified, &other.modified),
        }
    }
}

impl fmt::Debug for HttpBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpBytes").field("url", &self.url).field("len", &self.len).finish_non_exhaustive()
    }
}

impl HttpBytes {
    /// Opens a file by fetching its first bytes.
    ///
    /// # Errors
    /// [`RemoteError`] if it cannot be fetched, the host states no length, or the host ignores ranges and the file is large.
    pub fn open(client: &Arc<Client>, url: &RemoteUrl) -> Result<Self, RemoteError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let first = RemoteRequest::Range { first: 0, last: BLOCK - 1 };
        let answer = client.fetch(url, &first, MAX_WHOLE).map_err(|error| match error {
            RemoteError::TooLarge { .. } => RemoteError::no_ranges(url),
            error => error,
        })?;
        let tag = Tag::of(&answer.headers);
        let (id, client, url) = (NEXT.fetch_add(1, Ordering::Relaxed), client.clone(), url.clone());
        let RemoteResponse { status, headers, body } = answer;
        if status != StatusCode::PARTIAL_CONTENT {
            return Ok(Self { client, url, len: body.len() as u64, tag, id, whole: Some(body) });
        }
        let len = match content_range(&headers) {
            Some((0, end, Some(total))) if end == body.len() as u64 && end == total.min(BLOCK) => total,
            Some((_, _, None)) => return Err(RemoteError::Failed { url, reason: "its length is not stated".to_owned() }),
            _ => return Err(RemoteError::wrong_range(&url)),
        };
        client.blocks().insert((id, 0), body);
        Ok(Self { client, url, len, tag, id, whole: None })
    }

    /// Text that changes with the file, as far as the host's validators tell. It contains the address with its secrets.
    pub fn identity(&self) -> String {
        let Tag { etag, modified } = &self.tag;
        format!("{} {} {etag:?} {modified:?}", self.url.secret(), self.len)
    }

    /// The offset at which a block ends.
    fn end(&self, block: u64) -> u64 {
        ((block + 1) * BLOCK).min(self.len)
    }

    /// Fetches the blocks `first ..= last` with one request.
    fn fetch(&self, first: u64, last: u64) -> Result<Vec<(u64, Bytes)>, RemoteError> {
        let (start, end) = (first * BLOCK, self.end(last));
        let answer = self.client.fetch(&self.url, &RemoteRequest::Range { first: start, last: end - 1 }, end - start);
        let answer = match answer {
            // The answer is a whole file, or the file has become shorter.
            Err(RemoteError::TooLarge { .. } | RemoteError::Status { status: 416, .. }) => return Err(self.changed()),
            answer => answer?,
        };
        let range = content_range(&answer.headers);
        let is_other = range.is_some_and(|(.., total)| total.is_some_and(|total| total != self.len));
        if is_other || answer.status != StatusCode::PARTIAL_CONTENT || self.tag.contradicts(&Tag::of(&answer.headers)) {
            return Err(self.changed());
        }
        match range {
            Some((from, to, _)) if (from, to) == (start, end) && answer.body.len() as u64 == end - start => {}
            _ => return Err(RemoteError::wrong_range(&self.url)),
        }
        // Copied, because a slice would keep the whole answer in memory as long as one of its blocks is cached.
        let block = |block: u64| {
            let part = (block * BLOCK - start) as usize..(self.end(block) - start) as usize;
            (block, Bytes::copy_from_slice(&answer.body[part]))
        };
        Ok((first..=last).map(block).collect())
    }

    fn changed(&self) -> RemoteError {
        RemoteError::Changed { url: self.url.clone() }
    }

    /// The wanted blocks, from the cache or fetched: neighbours in one request, others in parallel.
    fn blocks(&self, wanted: &BTreeSet<u64>) -> Result<HashMap<u64, Bytes>, RemoteError> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for block in wanted {
            match self.client.blocks().get(&(self.id, *block)) {
                Some(bytes) => drop(found.insert(*block, bytes)),
                None => missing.push(*block),
            }
        }
        let runs = runs(&missing);
        let fetched = in_parallel(runs.len(), |index| self.fetch(runs[index].0, runs[index].1))?;
        for (block, bytes) in fetched.into_iter().flatten() {
            self.client.blocks().insert((self.id, block), bytes.clone());
            found.insert(block, bytes);
        }
        Ok(found)
    }
}

/// Groups ascending block numbers into ranges (first and last), one request each.
fn runs(blocks: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for block in blocks {
        match runs.last_mut() {
            Some((first, last)) if block - *last <= MAX_GAP + 1 && block - *first < MAX_RUN => *last = *block,
            _ => runs.push((*block, *block)),
        }
    }
    runs
}

impl ByteSource for HttpBytes {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, ReadError> {
        Ok(self.get_ranges(&[(offset, len)])?.into_iter().next().unwrap_or_default())
    }

    fn get_ranges(&self, ranges: &[(u64, usize)]) -> Result<Vec<Bytes>, ReadError> {
        for (offset, len) in ranges {
            check_range(*offset, *len, self.len)?;
        }
        if let Some(whole) = &self.whole {
            return ranges.iter().map(|(offset, len)| whole.read_at(*offset, *len)).collect();
        }
        let of_range = |offset: u64, len: usize| offset / BLOCK..(offset + len as u64).div_ceil(BLOCK);
        let wanted = ranges.iter().filter(|(_, len)| *len > 0).flat_map(|(offset, len)| of_range(*offset, *len)).collect();
        let blocks = self.blocks(&wanted)?;
        let cut = |offset: u64, len: usize| {
            let end = offset + len as u64;
            let part = |block: u64| {
                let start = block * BLOCK;
                let within = offset.max(start) - start..end.min(self.end(block)) - start;
                blocks[&block].slice(within.start as usize..within.end as usize)
            };
            let mut parts = of_range(offset, len).map(part);
            match (parts.next(), parts.next()) {
                (None, _) => Bytes::new(),
                (Some(only), None) => only,
                (Some(first), Some(second)) => {
                    let mut all = BytesMut::with_capacity(len);
                    all.extend_from_slice(&first);
                    all.extend_from_slice(&second);
                    parts.for_each(|part| all.extend_from_slice(&part));
                    all.freeze()
                }
            }
        };
        Ok(ranges.iter().map(|(offset, len)| if *len == 0 { Bytes::new() } else { cut(*offset, *len) }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_close_to_each_other_come_with_one_request() {
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[3]), [(3, 3)]);
        assert_eq!(runs(&[0, 1, 2, 5, 9]), [(0, 5), (9, 9)]);
        let long: Vec<u64> = (0..MAX_RUN + 2).collect();
        assert_eq!(runs(&long), [(0, MAX_RUN - 1), (MAX_RUN, MAX_RUN + 1)]);
    }

    #[test]
    fn a_tag_contradicts_another_only_where_both_say_something() {
        let tag = |etag: Option<&str>, modified: Option<&str>| Tag {
            etag: etag.map(str::to_owned),
            modified: modified.map(str::to_owned),
        };
        assert!(tag(Some("a"), None).contradicts(&tag(Some("b"), None)));
        assert!(!tag(Some("a"), Some("x")).contradicts(&tag(Some("a"), Some("y"))));
        assert!(!tag(Some("a"), None).contradicts(&tag(None, Some("y"))));
        assert!(tag(None, Some("x")).contradicts(&tag(None, Some("y"))));
    }
}
