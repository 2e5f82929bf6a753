//! Cells as stored bytes.
//!
//! Input: `<status> <times…>`, an entry's fields, a key, metadata as JSON; the
//! whole of it is read as a stored value too.

use crate::input::Sections;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use leeward::cell::codec::{FIELDS_MAX, METADATA_MAX, Unreadable, decode, encode};
use leeward::cell::{
    Body, Cell, Doubt, Draft, Entry, Lease, Listed, Manifest, Marks, Nonce, Orphan, Pass, Retry,
    Selecting, StoredUnder, Unsettled,
};
use leeward::semantics::{Audience, Freshness};
use leeward::time::Time;

/// Everything below, for one input.
pub fn check(input: &[u8]) {
    let stored = Bytes::copy_from_slice(input);
    any_value(&stored, "");
    let mut input = Sections::of(input);
    let numbers = input.numbers();
    let fields = input.fields();
    let key = input.text();
    let metadata = input.bytes();
    let body = input.bytes();
    // With a checksum that fits, so that the metadata is looked at.
    any_value(&value(3, metadata, body), &key);
    for (format, problem) in [
        (0, Unreadable::Format),
        (1, Unreadable::Older),
        (2, Unreadable::Older),
        (4, Unreadable::Newer),
        (15, Unreadable::Newer),
        (16, Unreadable::Format),
    ] {
        let read = decode(&value(format, metadata, body), &key);
        assert_eq!(read, Err(problem), "{format}");
    }
    if let Some(cell) = cell(numbers, fields, key, body) {
        there_and_back(&cell);
        damaged(&cell, numbers);
    }
}

/// A stored value in this format.
fn value(format: u8, metadata: &[u8], body: &[u8]) -> Bytes {
    let length = u32::try_from(metadata.len()).unwrap_or(u32::MAX);
    let checked = [&length.to_le_bytes()[..], metadata, body].concat();
    let check = crc32fast::hash(&checked).to_le_bytes();
    [&[format][..], &check, &checked].concat().into()
}

/// Whatever can be read can be written so that it is read again.
fn any_value(stored: &Bytes, key: &str) {
    if let Ok(cell) = decode(stored, key) {
        assert_eq!(cell.key, key);
        there_and_back(&cell);
    }
}

fn there_and_back(cell: &Cell) {
    let Some(bytes) = written(cell) else {
        return;
    };
    assert_eq!(decode(&bytes, &cell.key).as_ref(), Ok(cell));
    assert!(decode(&bytes, &format!("{}x", cell.key)).is_err());
}

/// A cell's bytes, or none if it is too large to be written.
fn written(cell: &Cell) -> Option<Bytes> {
    let bytes = encode(cell).ok();
    let fields = cell.entry.as_ref().map_or(0, |entry| entry.headers.len());
    // An input of this many bytes may become as much metadata.
    let large = fields > FIELDS_MAX || cell.key.len() > METADATA_MAX / 8;
    assert!(bytes.is_some() || large, "{fields} fields");
    bytes
}

/// A bit that has changed, or an end that is missing, makes it unreadable.
fn damaged(cell: &Cell, numbers: [u64; 8]) {
    let bytes = encode(cell).unwrap_or_default();
    let place = numbers.iter().fold(0, |sum, n| n.wrapping_add(sum)) as usize % bytes.len().max(1);
    assert!(decode(&bytes.slice(..place), &cell.key).is_err());
    let mut changed = bytes.to_vec();
    if let Some(byte) = changed.get_mut(place) {
        *byte ^= 1 << (numbers[0] % 8);
        assert!(decode(&changed.into(), &cell.key).is_err());
    }
}

fn cell(numbers: [u64; 8], headers: HeaderMap, key: String, body: &[u8]) -> Option<Cell> {
    let [status, a, b, c, d, e, f, flags] = numbers;
    let status = StatusCode::from_u16(u16::try_from(status).ok()?).ok()?;
    let flag = |bit: u32| flags & (1 << bit) != 0;
    let nonce = |n: u64| Nonce::new(u128::from(n) << 64 | u128::from(f));
    Some(Cell {
        version: a,
        nonce: nonce(b),
        key,
        entry: flag(0).then(|| Entry {
            status,
            headers,
            request_time: Time::from_unix_millis(c),
            fetch_millis: d,
            freshness: Freshness {
                lifetime_ms: e,
                initial_age_ms: f,
                response_time: Time::from_unix_millis(a),
                stale_while_revalidate_ms: b,
                stale_if_error_ms: c,
                must_revalidate: flag(1),
                no_cache: flag(2),
                immutable: flag(3),
                alone: 0,
                each_use: false,
            },
            lease: nonce(d),
            invalidated: flag(4),
            audience: match flag(17) {
                true => Audience::Everyone,
                false => Audience::Anonymous,
            },
            under: StoredUnder {
                policy: u32::try_from(a & u64::from(u32::MAX)).unwrap_or(0),
                withholds_cookie: flag(18),
            },
            body: if flag(13) {
                Body::Chunked(Manifest {
                    body: nonce(c),
                    length: d,
                    chunk_size: (a as u32).max(1),
                })
            } else {
                Body::Inline(Bytes::copy_from_slice(body))
            },
        }),
        lease: flag(5).then(|| Lease {
            holder: nonce(e),
            start: Time::from_unix_millis(e),
            deadline: Time::from_unix_millis(f),
            revoked: flag(6),
            draft: flag(14).then(|| Draft {
                body: nonce(a),
                chunks: b as u32,
                done: c as u32,
            }),
        }),
        coming: None,
        marks: Marks {
            pass: flag(7).then_some(Pass {
                until: Time::from_unix_millis(a),
                since: Time::from_unix_millis(b),
                times: c as u32,
            }),
            retry: flag(9).then_some(Retry {
                not_before: Time::from_unix_millis(b),
                failures: c as u32,
                doubted: flag(23),
            }),
            doubt: flag(8).then_some(Doubt {
                times: d as u32,
                since: Time::from_unix_millis(e),
            }),
            unsettled: flag(24).then_some(Unsettled {
                times: d as u32,
                not_before: Time::from_unix_millis(f),
            }),
            asked_again: flag(15),
            resident: flag(20).then(|| "http3:*/*".to_owned()),
            vary: if flag(10) {
                vec![Selecting {
                    name: "accept".to_owned(),
                    seen: Time::from_unix_millis(c),
                }]
            } else {
                Vec::new()
            },
            credentials_pass_until: flag(21).then_some(Time::from_unix_millis(a)),
            for_everyone_until: flag(30).then_some(Time::from_unix_millis(b)),
            swept: flag(25).then_some(Time::from_unix_millis(b)),
            kept: flag(27).then_some(a as u32),
            stored_bytes: flag(30).then_some(a),
            overfull: flag(29),
            variants: (0..numbers[7] >> 18 & 3)
                .map(|n| Listed {
                    id: format!("cell/{n}"),
                    again: flag(22),
                })
                .collect(),
            invalidated: flag(11).then_some(Time::from_unix_millis(d)),
            purged: flag(12).then_some(Time::from_unix_millis(e)),
            softened: flag(16).then_some(Time::from_unix_millis(f)),
        },
        orphans: (0..numbers[7] >> 16 & 3)
            .map(|n| Orphan {
                body: nonce(n),
                chunks: d as u32,
                since: Time::from_unix_millis(c),
            })
            .collect(),
    })
}
