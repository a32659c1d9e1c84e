//! A file on another machine as a [`ByteSource`]: read by range, in blocks that are cached.
//!
//! The first answer tells the file's length and identity and holds its first bytes, where most formats keep their directories.
//! Later answers must come from the same version of the file; otherwise a mixture of two versions would be read. Machines behind one
//! name may each have validators of their own for it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use ureq::http::{StatusCode, header};

use super::byte_source::check_range;
use super::client::{RemoteRequest, RemoteResponse};
use super::headers::content_range;
use super::validators::Validators;
use super::{ByteSource, Client, ReadError, RemoteError, RemoteUrl, in_parallel};
use crate::sync::IgnorePoison;

/// Bytes of a block.
const BLOCK: u64 = 64 << 10;
/// Most blocks per request: larger requests are costly to repeat and leave less to fetch in parallel.
const MAX_RUN: u64 = 64;
/// Unwanted blocks between two wanted ones that are fetched along to save a request.
const MAX_GAP: u64 = 2;
/// Largest file taken whole from hosts without range requests, in bytes.
const MAX_WHOLE: u64 = 16 << 20;
/// Bytes beyond a range that are accepted: some caches send whole blocks of their own.
const MAX_EXCESS: u64 = 1 << 20;
/// Requests that find out whether an unknown validator is that of another machine or of another version.
const MAX_PROBES: usize = 8;

/// A file on another machine.
pub struct HttpBytes {
    client: Arc<Client>,
    url: RemoteUrl,
    len: u64,
    /// The validators of the first answer; behind it, those of other machines that have the same file.
    known: Mutex<Vec<Validators>>,
    /// A hash of its first block.
    start: blake3::Hash,
    id: u64,
    /// All of it, if the host ignores range requests.
    whole: Option<Bytes>,
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
        let answer = match client.fetch(url, &first, MAX_WHOLE) {
            // Parts of a packed file are of no use, but the whole can be unpacked.
            Err(RemoteError::Packed { .. }) => client.fetch(url, &RemoteRequest::Get, MAX_WHOLE),
            answer => answer,
        };
        let answer = answer.map_err(|error| match error {
            RemoteError::TooLarge { .. } => RemoteError::no_ranges(url),
            error => error,
        })?;
        let RemoteResponse { status, headers, body } = answer;
        let known = Mutex::new(vec![Validators::of(&headers)]);
        let (id, client, url) = (NEXT.fetch_add(1, Ordering::Relaxed), client.clone(), url.clone());
        if status != StatusCode::PARTIAL_CONTENT {
            let (len, start) = (body.len() as u64, blake3::hash(&body));
            return Ok(Self { client, url, len, known, start, id, whole: Some(body) });
        }
        let (end, total) = match content_range(&headers) {
            Some((0, end, total)) if end == body.len() as u64 => (end, total),
            _ => return Err(RemoteError::wrong_range(&url)),
        };
        let len = match total {
            Some(total) => total,
            None => stated_length(&client, &url)?,
        };
        if end < len.min(BLOCK) || end > len {
            return Err(RemoteError::wrong_range(&url));
        }
        let body = body.slice(..len.min(BLOCK) as usize);
        let start = blake3::hash(&body);
        client.blocks().insert((id, 0), body);
        Ok(Self { client, url, len, known, start, id, whole: None })
    }

    /// Text that changes with the file, as far as the host's validators tell. It contains the address with its secrets.
    pub fn identity(&self) -> String {
        let known = self.known.lock().ignore_poison();
        format!("{} {} {}", self.url.secret(), self.len, known.first().map(Validators::identity).unwrap_or_default())
    }

    /// The offset at which a block ends.
    fn end(&self, block: u64) -> u64 {
        ((block + 1) * BLOCK).min(self.len)
    }

    /// Fetches the blocks `first ..= last` with one request.
    fn fetch(&self, first: u64, last: u64) -> Result<Vec<(u64, Bytes)>, RemoteError> {
        let (start, end) = (first * BLOCK, self.end(last));
        let (body, validators) = self.part(start, end)?;
        if !self.is_known(&validators) && !self.is_of_another_machine(&validators)? {
            return Err(self.changed());
        }
        // Copied, because a slice would keep the whole answer in memory as long as one of its blocks is cached.
        let block = |block: u64| {
            let part = (block * BLOCK - start) as usize..(self.end(block) - start) as usize;
            (block, Bytes::copy_from_slice(&body[part]))
        };
        Ok((first..=last).map(block).collect())
    }

    /// The bytes `start .. end` and the validators that came with them.
    fn part(&self, start: u64, end: u64) -> Result<(Bytes, Validators), RemoteError> {
        let wanted = RemoteRequest::Range { first: start, last: end - 1 };
        let answer = match self.client.fetch(&self.url, &wanted, end - start + MAX_EXCESS) {
            // The answer is a whole file, or the file has become shorter.
            Err(RemoteError::TooLarge { .. } | RemoteError::Status { status: 416, .. }) => return Err(self.changed()),
            answer => answer?,
        };
        let range = content_range(&answer.headers);
        let is_other = range.is_some_and(|(.., total)| total.is_some_and(|total| total != self.len));
        if is_other || answer.status != StatusCode::PARTIAL_CONTENT {
            return Err(self.changed());
        }
        match range {
            Some((from, to, _)) if from <= start && end <= to && answer.body.len() as u64 == to - from => {
                let part = (start - from) as usize..(end - from) as usize;
                Ok((answer.body.slice(part), Validators::of(&answer.headers)))
            }
            _ => Err(RemoteError::wrong_range(&self.url)),
        }
    }

    fn is_known(&self, validators: &Validators) -> bool {
        self.known.lock().ignore_poison().iter().any(|known| !known.contradict(validators))
    }

    /// True if unknown validators are those of another machine behind the same name, which has the same file: then the known ones
    /// are met again, in turn with them, and the file starts the same under both. A new version brings the known ones back no more.
    fn is_of_another_machine(&self, validators: &Validators) -> Result<bool, RemoteError> {
        let (mut is_known_again, mut is_met_again) = (false, false);
        for _ in 0..MAX_PROBES {
            let (start, found) = self.part(0, self.end(0))?;
            if blake3::hash(&start) != self.start {
                return Ok(false);
            }
            if self.is_known(&found) {
                is_known_again = true;
            } else {
                is_met_again |= !found.contradict(validators);
            }
            if is_known_again && is_met_again {
                self.known.lock().ignore_poison().push(validators.clone());
                return Ok(true);
            }
        }
        Ok(false)
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

/// The length of a file whose parts come without it.
fn stated_length(client: &Client, url: &RemoteUrl) -> Result<u64, RemoteError> {
    let answer = client.fetch(url, &RemoteRequest::Head, 0)?;
    let length = answer.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.trim().parse().ok());
    let reason = "its length is not stated".to_owned();
    length.ok_or_else(|| RemoteError::Failed { url: url.clone(), reason })
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
}
