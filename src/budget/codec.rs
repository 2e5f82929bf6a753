//! The record as stored bytes.
//!
//! ```text
//! format   1 byte    the version of this layout
//! check    4 bytes   CRC-32 of the rest, little-endian
//! record             JSON
//! ```

use super::Record;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// The format that this version writes.
const FORMAT: u8 = 1;

/// The last number that a format may have.
const FORMAT_LAST: u8 = 15;

/// Most bytes of a record.
const LENGTH_MAX: usize = 1 << 20;

/// Why a value cannot be read as a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// A newer version has written it: it is neither read nor overwritten.
    Newer,
    /// It is damaged, or another program's: the next write replaces it.
    Corrupt,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unreadable::Newer => "a newer version's format",
            Unreadable::Corrupt => "corrupt",
        })
    }
}

/// The stored form of a record; `None` if it is longer than a record may be.
pub fn encode(record: &Record) -> Option<Bytes> {
    encode_record(record)
}

/// Reads a stored record.
///
/// # Errors
///
/// If the value is not a record of this version.
pub fn decode(value: &[u8]) -> Result<Record, Unreadable> {
    decode_record(value)
}

/// The stored form of any of the records that all nodes write.
pub(crate) fn encode_record<T: Serialize>(record: &T) -> Option<Bytes> {
    let json = serde_json::to_vec(record).ok()?;
    if json.len() > LENGTH_MAX {
        return None;
    }
    let mut value = vec![FORMAT];
    value.extend_from_slice(&crc32fast::hash(&json).to_le_bytes());
    value.extend_from_slice(&json);
    Some(value.into())
}

/// Reads any of these records.
///
/// # Errors
///
/// If the value is not one of this version.
pub(crate) fn decode_record<T: DeserializeOwned>(value: &[u8]) -> Result<T, Unreadable> {
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
