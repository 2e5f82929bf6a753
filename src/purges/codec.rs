//! The record of purges as stored bytes.
//!
//! ```text
//! format   1 byte    the version of this layout
//! check    4 bytes   CRC-32 of the rest, little-endian
//! record             JSON
//! ```

use super::Record;
use bytes::Bytes;

pub use crate::budget::Unreadable;

/// The format that this version writes.
const FORMAT: u8 = 1;

/// The last number that a format may have.
const FORMAT_LAST: u8 = 15;

/// Most bytes of a record. A full one has fewer than a quarter.
const LENGTH_MAX: usize = 1 << 20;

/// The stored form of a record; `None` if it cannot be encoded.
pub fn encode(record: &Record) -> Option<Bytes> {
    let json = serde_json::to_vec(record).ok()?;
    if json.len() > LENGTH_MAX {
        return None;
    }
    let mut value = vec![FORMAT];
    value.extend_from_slice(&crc32fast::hash(&json).to_le_bytes());
    value.extend_from_slice(&json);
    Some(value.into())
}

/// Reads a stored record.
///
/// # Errors
///
/// If the value is not a record of this version.
pub fn decode(value: &[u8]) -> Result<Record, Unreadable> {
    let (format, rest) = value.split_first().ok_or(Unreadable::Corrupt)?;
    if *format > FORMAT && *format <= FORMAT_LAST {
        return Err(Unreadable::Newer);
    }
    let (check, json) = rest.split_first_chunk::<4>().ok_or(Unreadable::Corrupt)?;
    let whole = *format == FORMAT
        && json.len() <= LENGTH_MAX
        && crc32fast::hash(json) == u32::from_le_bytes(*check);
    if !whole {
        return Err(Unreadable::Corrupt);
    }
    serde_json::from_slice(json).map_err(|_| Unreadable::Corrupt)
}
