//! The record of purges as stored bytes: laid out as the origin's record is.

use super::Record;
use crate::budget::{decode_record, encode_record};
use bytes::Bytes;

pub use crate::budget::Unreadable;

/// The stored form of a record; `None` if it cannot be encoded.
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
