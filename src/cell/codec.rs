//! Cells as stored bytes.
//!
//! ```text
//! format   1 byte    the version of this layout
//! check    4 bytes   CRC-32 of all that follows, little-endian
//! length   4 bytes   of the metadata, little-endian
//! metadata           JSON
//! body               the inline content, to the end
//! ```
//!
//! Whatever else a store holds under a cell's name (another format, a truncated
//! or damaged value, another program's data) is an [`Unreadable`] value. It is a
//! miss, and the next write replaces it, with one exception: a value of a newer
//! version, see [`Unreadable::Newer`]. Nothing here panics on any bytes.
//!
//! # Formats
//!
//! Format 3 has the layout of format 2, in which bodies may lie in chunks; in
//! format 1 all were inline. The versions that wrote formats 1 and 2 could store an
//! answer that was private to one visitor as an answer for everybody. So their
//! cells are [`Unreadable::Older`]: a miss, and the next write replaces them. The
//! chunks of a body that such a cell names are not removed; a store that matters
//! can be emptied with the upgrade.
//!
//! To change the format: raise `FORMAT`, and keep a stored example of the old one
//! in the tests. Keep reading the old one if its cells are still right. A later
//! format begins with its number, at most `FORMAT_LAST`, whatever follows it.

use super::{Body, Cell, Coming, Entry, Lease, Manifest, Marks, Nonce, Orphan, StoredUnder};
use crate::semantics::{Audience, Freshness};
use crate::time::Time;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The format that this version writes.
const FORMAT: u8 = 3;

/// The oldest format that this version reads.
const FORMAT_OLDEST: u8 = 3;

/// The first format that there was.
const FORMAT_FIRST: u8 = 1;

/// The first format that this version does not know.
const FORMAT_NEXT: u8 = FORMAT + 1;

/// The last number that a format may have. The first byte of other programs' data
/// is rarely as low.
const FORMAT_LAST: u8 = 15;

/// Most response fields of an entry. Hosts pass on fewer.
pub const FIELDS_MAX: usize = 1_024;

/// Most bytes that the names and values of an entry's fields have together. As
/// JSON they may be twice as long, which leaves as much for the rest.
pub const FIELD_BYTES_MAX: usize = 256 << 10;

/// Most bytes of metadata.
pub const METADATA_MAX: usize = 1 << 20;

/// Format byte, checksum and metadata length, in bytes.
const PREFIX: usize = 9;

/// Why a stored value cannot be read as a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Its first byte is not a format's number: another program's data.
    Format,
    /// It has the format of an older version, which this one does not read.
    Older,
    /// It has the format of a newer version.
    ///
    /// Nodes of that version use it, and may hold its lease. The caller neither
    /// uses it nor overwrites it: until the rollout is over it treats the key as if
    /// the store were not there. All other unreadable values are a miss, and the
    /// next write replaces them.
    Newer,
    /// It ends before it should.
    Truncated,
    /// Its checksum does not fit, its metadata is not valid, or it is larger than
    /// cells may be.
    Corrupt,
    /// It is a cell, but another key's.
    Foreign,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unreadable::Format => "unknown format",
            Unreadable::Older => "an older version's format",
            Unreadable::Newer => "a newer version's format",
            Unreadable::Truncated => "truncated",
            Unreadable::Corrupt => "corrupt",
            Unreadable::Foreign => "another key's cell",
        })
    }
}

/// Whether an entry may have these fields: [`encode`] refuses more. A response
/// with more is not stored.
pub fn may_store(headers: &HeaderMap) -> bool {
    let bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    headers.len() <= FIELDS_MAX && headers.iter().map(bytes).sum::<usize>() <= FIELD_BYTES_MAX
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    version: u64,
    nonce: Nonce,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<Lease>,
    #[serde(default)]
    marks: Marks,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<EntryMetadata>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    orphans: Vec<Orphan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    coming: Option<ComingMetadata>,
}

#[derive(Serialize, Deserialize)]
struct ComingMetadata {
    entry: EntryMetadata,
    names: Vec<String>,
    selector: String,
}

#[derive(Serialize, Deserialize)]
struct EntryMetadata {
    status: u16,
    headers: Vec<(String, String)>,
    request_time: Time,
    fetch_millis: u64,
    freshness: Freshness,
    lease: Nonce,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    invalidated: bool,
    audience: Audience,
    #[serde(default, skip_serializing_if = "StoredUnder::is_unknown")]
    under: StoredUnder,
    /// Bytes of content that follow the metadata.
    inline: u64,
    /// Where the content is, if not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunks: Option<Manifest>,
}

impl EntryMetadata {
    fn of(entry: &Entry) -> Self {
        EntryMetadata {
            status: entry.status.as_u16(),
            headers: entry
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), latin1_text(value.as_bytes())))
                .collect(),
            request_time: entry.request_time,
            fetch_millis: entry.fetch_millis,
            freshness: entry.freshness,
            lease: entry.lease,
            invalidated: entry.invalidated,
            audience: entry.audience,
            under: entry.under,
            inline: match &entry.body {
                Body::Inline(bytes) => bytes.len() as u64,
                Body::Chunked(_) => 0,
            },
            chunks: entry.body.manifest(),
        }
    }

    /// The entry, with the inline content `body` where there are no chunks.
    fn read(self, body: Bytes) -> Result<Entry, Unreadable> {
        Ok(Entry {
            status: StatusCode::from_u16(self.status).map_err(|_| Unreadable::Corrupt)?,
            headers: headers(self.headers)?,
            request_time: self.request_time,
            fetch_millis: self.fetch_millis,
            freshness: self.freshness,
            lease: self.lease,
            invalidated: self.invalidated,
            audience: self.audience,
            under: self.under,
            body: match self.chunks {
                None => Body::Inline(body),
                Some(manifest) if body.is_empty() && manifest.chunk_size > 0 => {
                    Body::Chunked(manifest)
                }
                Some(_) => return Err(Unreadable::Corrupt),
            },
        })
    }
}

/// The bytes of a cell.
///
/// # Errors
///
/// If the cell is larger than [`decode`] accepts, or its metadata cannot be written
/// as JSON. Does not happen to an entry whose fields [`may_store`] accepts.
pub fn encode(cell: &Cell) -> anyhow::Result<Bytes> {
    let entry = cell.entry.as_ref();
    let fields = entry.map_or(0, |entry| entry.headers.len());
    anyhow::ensure!(fields <= FIELDS_MAX, "{fields} response fields");
    let body = match entry.map(|entry| &entry.body) {
        Some(Body::Inline(bytes)) => bytes.clone(),
        Some(Body::Chunked(_)) | None => Bytes::new(),
    };
    let metadata = serde_json::to_vec(&Metadata {
        version: cell.version,
        nonce: cell.nonce,
        key: cell.key.clone(),
        lease: cell.lease,
        marks: cell.marks.clone(),
        entry: entry.map(EntryMetadata::of),
        orphans: cell.orphans.clone(),
        coming: cell.coming.as_ref().map(|coming| ComingMetadata {
            entry: EntryMetadata::of(&coming.entry),
            names: coming.names.clone(),
            selector: coming.selector.clone(),
        }),
    })?;
    anyhow::ensure!(
        metadata.len() <= METADATA_MAX,
        "{} bytes of metadata",
        metadata.len()
    );
    let length = u32::try_from(metadata.len())?;

    let mut check = crc32fast::Hasher::new();
    check.update(&length.to_le_bytes());
    check.update(&metadata);
    check.update(&body);

    let mut bytes = Vec::with_capacity(PREFIX + metadata.len() + body.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&check.finalize().to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&metadata);
    bytes.extend_from_slice(&body);
    Ok(bytes.into())
}

/// The cell of `key` in stored bytes. The body shares their memory.
pub fn decode(bytes: &Bytes, key: &str) -> Result<Cell, Unreadable> {
    let cell = decode_any(bytes)?;
    match cell.key == key {
        true => Ok(cell),
        false => Err(Unreadable::Foreign),
    }
}

/// The cell in stored bytes, whatever key it is of. The body shares their
/// memory.
pub fn decode_any(bytes: &Bytes) -> Result<Cell, Unreadable> {
    let (&format, rest) = bytes.split_first().ok_or(Unreadable::Truncated)?;
    match format {
        FORMAT_OLDEST..=FORMAT => {}
        FORMAT_FIRST..FORMAT_OLDEST => return Err(Unreadable::Older),
        FORMAT_NEXT..=FORMAT_LAST => return Err(Unreadable::Newer),
        _ => return Err(Unreadable::Format),
    }
    let (check, checked) = rest.split_first_chunk::<4>().ok_or(Unreadable::Truncated)?;
    let (length, rest) = checked
        .split_first_chunk::<4>()
        .ok_or(Unreadable::Truncated)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Unreadable::Corrupt)?;
    let metadata = rest.get(..length).ok_or(Unreadable::Truncated)?;
    if crc32fast::hash(checked) != u32::from_le_bytes(*check) {
        return Err(Unreadable::Corrupt);
    }
    if metadata.len() > METADATA_MAX {
        return Err(Unreadable::Corrupt);
    }
    let metadata: Metadata = serde_json::from_slice(metadata).map_err(|_| Unreadable::Corrupt)?;
    // `get` above has shown that prefix and metadata lie inside the value.
    let body = bytes.slice(PREFIX + length..);
    let entry = match metadata.entry {
        Some(entry) if entry.inline == body.len() as u64 => Some(entry.read(body)?),
        Some(_) => return Err(Unreadable::Corrupt),
        None => None,
    };
    // Nothing depends on it: what cannot be read is waited for.
    let draft = metadata.lease.and_then(|lease| lease.draft);
    let coming = metadata.coming.and_then(|coming| {
        let coming = Coming {
            entry: coming.entry.read(Bytes::new()).ok()?,
            names: coming.names,
            selector: coming.selector,
        };
        let is_of_draft = draft.is_some_and(|draft| coming.body(&draft).is_some());
        (is_of_draft && coming.is_small()).then(|| Box::new(coming))
    });
    Ok(Cell {
        version: metadata.version,
        nonce: metadata.nonce,
        key: metadata.key,
        entry,
        lease: metadata.lease,
        marks: metadata.marks,
        orphans: metadata.orphans,
        coming,
    })
}

fn headers(fields: Vec<(String, String)>) -> Result<HeaderMap, Unreadable> {
    if fields.len() > FIELDS_MAX {
        return Err(Unreadable::Corrupt);
    }
    // `with_capacity` panics where this is an error.
    let mut headers =
        HeaderMap::try_with_capacity(fields.len()).map_err(|_| Unreadable::Corrupt)?;
    for (name, value) in fields {
        let name = HeaderName::try_from(name).map_err(|_| Unreadable::Corrupt)?;
        let value = latin1_bytes(&value)
            .and_then(|bytes| HeaderValue::from_bytes(&bytes).ok())
            .ok_or(Unreadable::Corrupt)?;
        headers
            .try_append(name, value)
            .map_err(|_| Unreadable::Corrupt)?;
    }
    Ok(headers)
}

/// Field values are bytes; JSON has only text. Each byte becomes the character
/// of its number, so that ASCII stays readable and nothing is lost.
fn latin1_text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn latin1_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).ok())
        .collect()
}

#[cfg(test)]
pub(super) mod tests;
