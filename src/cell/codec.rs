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
//! Whatever else a store holds under a cell's name (another format, a cut or
//! damaged value, another program's data) is an [`Unreadable`] value: a miss,
//! which the next write replaces. Nothing here panics on any bytes.
//!
//! To change the format: add a byte, keep reading the old ones, and keep a
//! stored example of each in the tests. An older version reads a newer format
//! as a miss.

use super::{Body, Cell, Entry, Lease, Manifest, Marks, Nonce, Orphan};
use crate::semantics::Freshness;
use crate::time::Time;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The layout that this version writes. In format 1 every body was inline; a
/// reader of it would take one in chunks for an empty one.
const FORMAT: u8 = 2;

/// The oldest layout that this version reads.
const FORMAT_OLDEST: u8 = 1;

/// Format byte, checksum and metadata length, in bytes.
const PREFIX: usize = 9;

/// Why a stored value is no cell. Whoever reads it goes on as if nothing were
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Its first byte names a layout that this version does not know.
    Format,
    /// It ends before it should.
    Truncated,
    /// Its checksum does not fit, or its metadata makes no sense.
    Corrupt,
    /// It is a cell, but another key's.
    Foreign,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unreadable::Format => "unknown format",
            Unreadable::Truncated => "truncated",
            Unreadable::Corrupt => "corrupt",
            Unreadable::Foreign => "another key's cell",
        })
    }
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
    /// Bytes of content that follow the metadata.
    inline: u64,
    /// Where the content is, if not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunks: Option<Manifest>,
}

/// The bytes of a cell.
///
/// # Errors
///
/// If the metadata is longer than 4 GiB or cannot be written as JSON, neither
/// of which the limits on header fields allow.
pub fn encode(cell: &Cell) -> anyhow::Result<Bytes> {
    let body = match cell.entry.as_ref().map(|entry| &entry.body) {
        Some(Body::Inline(bytes)) => bytes.clone(),
        Some(Body::Chunked(_)) | None => Bytes::new(),
    };
    let metadata = serde_json::to_vec(&Metadata {
        version: cell.version,
        nonce: cell.nonce,
        key: cell.key.clone(),
        lease: cell.lease,
        marks: cell.marks.clone(),
        entry: cell.entry.as_ref().map(|entry| EntryMetadata {
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
            inline: body.len() as u64,
            chunks: entry.body.manifest(),
        }),
        orphans: cell.orphans.clone(),
    })?;
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
    if !(FORMAT_OLDEST..=FORMAT).contains(&format) {
        return Err(Unreadable::Format);
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
    let metadata: Metadata = serde_json::from_slice(metadata).map_err(|_| Unreadable::Corrupt)?;
    // `get` above has shown that prefix and metadata lie inside the value.
    let body = bytes.slice(PREFIX + length..);
    let entry = match metadata.entry {
        Some(entry) if entry.inline == body.len() as u64 => Some(Entry {
            status: StatusCode::from_u16(entry.status).map_err(|_| Unreadable::Corrupt)?,
            headers: headers(entry.headers)?,
            request_time: entry.request_time,
            fetch_millis: entry.fetch_millis,
            freshness: entry.freshness,
            lease: entry.lease,
            invalidated: entry.invalidated,
            body: match entry.chunks {
                None => Body::Inline(body),
                Some(manifest) if body.is_empty() && manifest.chunk_size > 0 => {
                    Body::Chunked(manifest)
                }
                Some(_) => return Err(Unreadable::Corrupt),
            },
        }),
        Some(_) => return Err(Unreadable::Corrupt),
        None => None,
    };
    Ok(Cell {
        version: metadata.version,
        nonce: metadata.nonce,
        key: metadata.key,
        entry,
        lease: metadata.lease,
        marks: metadata.marks,
        orphans: metadata.orphans,
    })
}

fn headers(fields: Vec<(String, String)>) -> Result<HeaderMap, Unreadable> {
    let mut headers = HeaderMap::with_capacity(fields.len());
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::cell::{Draft, Pass, Retry};
    use proptest::prelude::*;

    fn freshness() -> Freshness {
        Freshness {
            lifetime_ms: 2_000,
            initial_age_ms: 5,
            response_time: Time::from_unix_millis(1_000),
            stale_while_revalidate_ms: 30_000,
            stale_if_error_ms: 60_000,
            must_revalidate: false,
            no_cache: false,
            immutable: false,
        }
    }

    fn cell(value: &[u8], body: &[u8]) -> Cell {
        let mut headers = HeaderMap::new();
        headers.append("etag", HeaderValue::from_static("\"1\""));
        headers.append("link", HeaderValue::from_static("<a>"));
        headers.append("link", HeaderValue::from_static("<b>"));
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append("x-bytes", value);
        }
        Cell {
            version: 7,
            nonce: Nonce::new(u128::MAX - 1),
            key: "GET /a".into(),
            entry: Some(Entry {
                status: StatusCode::OK,
                headers,
                request_time: Time::from_unix_millis(900),
                fetch_millis: 100,
                freshness: freshness(),
                lease: Nonce::new(3),
                invalidated: true,
                body: Body::Inline(Bytes::copy_from_slice(body)),
            }),
            lease: Some(Lease {
                holder: Nonce::new(4),
                start: Time::from_unix_millis(1),
                deadline: Time::from_unix_millis(5_001),
                revoked: true,
                draft: Some(Draft {
                    body: Nonce::new(5),
                    chunks: 6,
                }),
            }),
            marks: Marks {
                pass: Some(Pass {
                    until: Time::from_unix_millis(9),
                    authorized_only: true,
                }),
                retry: Some(Retry {
                    not_before: Time::from_unix_millis(10),
                    failures: 2,
                }),
                vary: vec!["accept".into()],
                variants: vec!["cell/0".into(), "cell/1".into()],
                invalidated: Some(Time::from_unix_millis(8)),
                purged: Some(Time::from_unix_millis(7)),
                softened: Some(Time::from_unix_millis(6)),
            },
            orphans: vec![Orphan {
                body: Nonce::new(6),
                chunks: 7,
                since: Time::from_unix_millis(9),
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (value, body) in [
            (&b"plain"[..], &b"{}"[..]),
            (b"", b""),
            (b"caf\xe9 \xff", b"\0\x01binary"),
        ] {
            let cell = cell(value, body);
            let bytes = encode(&cell).unwrap();
            assert_eq!(decode(&bytes, "GET /a"), Ok(cell));
        }
    }

    #[test]
    fn an_empty_cell_is_read_back() {
        let cell = Cell {
            version: 1,
            nonce: Nonce::new(0),
            key: String::new(),
            entry: None,
            lease: None,
            marks: Marks::default(),
            orphans: Vec::new(),
        };
        assert_eq!(decode(&encode(&cell).unwrap(), ""), Ok(cell));
    }

    #[test]
    fn another_keys_cell_is_a_miss() {
        let bytes = encode(&cell(b"", b"")).unwrap();
        assert_eq!(decode(&bytes, "GET /b"), Err(Unreadable::Foreign));
    }

    #[test]
    fn what_other_programs_write_is_a_miss() {
        for (bytes, problem) in [
            (&b""[..], Unreadable::Truncated),
            (b"\x01", Unreadable::Truncated),
            (b"\x01\0\0\0\0\xff\xff\xff\xff", Unreadable::Truncated),
            (b"\x01\0\0\0\0\0\0\0\0", Unreadable::Corrupt),
            (b"{\"json\":true}", Unreadable::Format),
            // A newer version's.
            (b"\x03\0\0\0\0\0\0\0\0\0\0", Unreadable::Format),
            (b"\x03\0\0\0\0\0\0\0", Unreadable::Format),
            (b"\0\0\0\0\0\0\0\0\0\0\0", Unreadable::Format),
        ] {
            let bytes = Bytes::copy_from_slice(bytes);
            assert_eq!(decode(&bytes, "GET /a"), Err(problem), "{bytes:?}");
        }
    }

    #[test]
    fn every_prefix_is_a_miss() {
        let bytes = encode(&cell(b"v", b"body")).unwrap();
        for end in 0..bytes.len() {
            assert!(decode(&bytes.slice(..end), "GET /a").is_err(), "{end}");
        }
    }

    #[test]
    fn every_flipped_bit_is_a_miss() {
        let bytes = encode(&cell(b"v", b"body")).unwrap();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.to_vec();
                damaged[index] ^= 1 << bit;
                assert!(decode(&damaged.into(), "GET /a").is_err(), "{index}.{bit}");
            }
        }
    }

    fn stored(format: u8, json: &[u8], body: &[u8]) -> Bytes {
        let mut checked = u32::try_from(json.len()).unwrap().to_le_bytes().to_vec();
        checked.extend_from_slice(json);
        checked.extend_from_slice(body);
        let mut bytes = vec![format];
        bytes.extend_from_slice(&crc32fast::hash(&checked).to_le_bytes());
        bytes.extend_from_slice(&checked);
        bytes.into()
    }

    #[test]
    fn a_body_in_chunks_is_read_back() {
        let mut cell = cell(b"v", b"");
        cell.entry.as_mut().unwrap().body = Body::Chunked(Manifest {
            body: Nonce::new(8),
            length: 1 << 40,
            chunk_size: 1,
        });
        assert_eq!(decode(&encode(&cell).unwrap(), "GET /a"), Ok(cell));
    }

    #[test]
    fn a_manifest_that_makes_no_sense_is_a_miss() {
        let json = |inline: u8, size: u8| {
            format!(
                r#"{{"version":2,"nonce":"a","key":"k","entry":{{"status":200,"headers":[],"request_time":1,"fetch_millis":2,"freshness":{{"lifetime_ms":1,"initial_age_ms":0,"response_time":3,"stale_while_revalidate_ms":0,"stale_if_error_ms":0,"must_revalidate":false,"no_cache":false,"immutable":false}},"lease":"1","inline":{inline},"chunks":{{"body":"b","length":9,"chunk_size":{size}}}}}}}"#
            )
        };
        for (inline, size, readable) in [(0, 4, true), (0, 0, false), (2, 4, false)] {
            let body = &b"hi"[..usize::from(inline)];
            let bytes = stored(2, json(inline, size).as_bytes(), body);
            assert_eq!(decode(&bytes, "k").is_ok(), readable, "{inline} {size}");
        }
    }

    /// Format 2 as it was first released. Never change these bytes.
    #[test]
    fn format_2_stays_readable() {
        let json = br#"{"version":2,"nonce":"0000000000000000000000000000000a","key":"k","lease":{"holder":"1","start":1,"deadline":2,"draft":{"body":"d","chunks":3}},"entry":{"status":200,"headers":[["x","\u00e9"]],"request_time":1,"fetch_millis":2,"freshness":{"lifetime_ms":1,"initial_age_ms":0,"response_time":3,"stale_while_revalidate_ms":0,"stale_if_error_ms":0,"must_revalidate":false,"no_cache":false,"immutable":false},"lease":"1","inline":0,"chunks":{"body":"b","length":300000,"chunk_size":262144}},"orphans":[{"body":"c","chunks":2,"since":7}],"unknown":1}"#;
        let cell = decode(&stored(2, json, b""), "k").unwrap();
        let manifest = cell.entry.unwrap().body.manifest().unwrap();
        assert_eq!((manifest.body, manifest.chunks()), (Nonce::new(11), 2));
        assert_eq!(cell.lease.unwrap().draft.unwrap().body, Nonce::new(13));
        assert_eq!(cell.orphans[0].since, Time::from_unix_millis(7));
    }

    /// Format 1 as it was first released. Never change these bytes: what
    /// stores hold today has to stay readable.
    #[test]
    fn format_1_stays_readable() {
        let json = br#"{"version":2,"nonce":"0000000000000000000000000000000a","key":"k","entry":{"status":404,"headers":[["x","\u00e9"]],"request_time":1,"fetch_millis":2,"freshness":{"lifetime_ms":1,"initial_age_ms":0,"response_time":3,"stale_while_revalidate_ms":0,"stale_if_error_ms":0,"must_revalidate":false,"no_cache":false,"immutable":false},"lease":"1","inline":2},"unknown":1}"#;
        let cell = decode(&stored(1, json, b"hi"), "k").unwrap();
        let entry = cell.entry.unwrap();
        assert_eq!(cell.nonce, Nonce::new(10));
        assert_eq!(entry.status, StatusCode::NOT_FOUND);
        assert_eq!(entry.headers["x"].as_bytes(), b"\xe9");
        assert_eq!(entry.body, Body::Inline(Bytes::from_static(b"hi")));
    }

    fn moment() -> impl Strategy<Value = Time> {
        prop_oneof![any::<u64>(), 0..9u64, Just(u64::MAX)].prop_map(Time::from_unix_millis)
    }

    fn nonce() -> impl Strategy<Value = Nonce> {
        any::<u128>().prop_map(Nonce::new)
    }

    fn any_headers() -> impl Strategy<Value = HeaderMap> {
        let field = ("[a-zA-Z!#$%&'*+.^_`|~0-9-]{1,8}", any::<Vec<u8>>());
        proptest::collection::vec(field, 0..8).prop_map(|fields| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                if let (Ok(name), Ok(value)) =
                    (HeaderName::try_from(name), HeaderValue::from_bytes(&value))
                {
                    headers.append(name, value);
                }
            }
            headers
        })
    }

    fn any_freshness() -> impl Strategy<Value = Freshness> {
        (any::<[u64; 4]>(), moment(), any::<[bool; 3]>()).prop_map(|(times, received, flags)| {
            let [lifetime_ms, initial_age_ms, swr, sie] = times;
            let [must_revalidate, no_cache, immutable] = flags;
            Freshness {
                lifetime_ms,
                initial_age_ms,
                response_time: received,
                stale_while_revalidate_ms: swr,
                stale_if_error_ms: sie,
                must_revalidate,
                no_cache,
                immutable,
            }
        })
    }

    fn any_body() -> impl Strategy<Value = Body> {
        prop_oneof![
            any::<Vec<u8>>().prop_map(|body| Body::Inline(body.into())),
            (nonce(), any::<u64>(), 1..=u32::MAX).prop_map(|(body, length, chunk_size)| {
                Body::Chunked(Manifest {
                    body,
                    length,
                    chunk_size,
                })
            }),
        ]
    }

    fn any_orphans() -> impl Strategy<Value = Vec<Orphan>> {
        let orphan = (nonce(), any::<u32>(), moment());
        let orphan = orphan.prop_map(|(body, chunks, since)| Orphan {
            body,
            chunks,
            since,
        });
        proptest::collection::vec(orphan, 0..3)
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        (
            100..1_000u16,
            any_headers(),
            moment(),
            any::<u64>(),
            any_freshness(),
            nonce(),
            any::<bool>(),
            any_body(),
        )
            .prop_map(
                |(
                    status,
                    headers,
                    request_time,
                    fetch_millis,
                    freshness,
                    lease,
                    invalidated,
                    body,
                )| {
                    Entry {
                        status: StatusCode::from_u16(status).unwrap(),
                        headers,
                        request_time,
                        fetch_millis,
                        freshness,
                        lease,
                        invalidated,
                        body,
                    }
                },
            )
    }

    fn any_marks() -> impl Strategy<Value = Marks> {
        let option = proptest::option::of::<BoxedStrategy<Time>>;
        (
            proptest::option::of((moment(), any::<bool>())),
            proptest::option::of((moment(), any::<u32>())),
            proptest::collection::vec("\\PC{0,9}", 0..4),
            proptest::collection::vec("\\PC{0,9}", 0..4),
            option(moment().boxed()),
            option(moment().boxed()),
            option(moment().boxed()),
        )
            .prop_map(
                |(pass, retry, vary, variants, invalidated, purged, softened)| Marks {
                    pass: pass.map(|(until, authorized_only)| Pass {
                        until,
                        authorized_only,
                    }),
                    retry: retry.map(|(not_before, failures)| Retry {
                        not_before,
                        failures,
                    }),
                    vary,
                    variants,
                    invalidated,
                    purged,
                    softened,
                },
            )
    }

    fn any_cell() -> impl Strategy<Value = Cell> {
        let draft = (nonce(), any::<u32>()).prop_map(|(body, chunks)| Draft { body, chunks });
        let draft = proptest::option::of(draft);
        let lease = (nonce(), moment(), moment(), any::<bool>(), draft).prop_map(
            |(holder, start, deadline, revoked, draft)| Lease {
                holder,
                start,
                deadline,
                revoked,
                draft,
            },
        );
        (
            any::<u64>(),
            nonce(),
            any::<String>(),
            proptest::option::of(any_entry()),
            proptest::option::of(lease),
            any_marks(),
            any_orphans(),
        )
            .prop_map(|(version, nonce, key, entry, lease, marks, orphans)| Cell {
                version,
                nonce,
                key,
                entry,
                lease,
                marks,
                orphans,
            })
    }

    proptest! {
        #[test]
        fn any_cell_is_read_back(cell in any_cell()) {
            let bytes = encode(&cell).unwrap();
            prop_assert_eq!(decode(&bytes, &cell.key), Ok(cell));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes.into(), "GET /a");
        }

        #[test]
        fn damaged_metadata_does_not_panic(json in "[ -~]{0,80}") {
            let _ = decode(&stored(FORMAT, json.as_bytes(), b""), "");
        }
    }
}
