#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::cell::{Doubt, Draft, Listed, Pass, Retry, Selecting, StoredUnder, Unsettled};
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
        alone: 0,
        each_use: false,
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
            audience: Audience::Anonymous,
            under: Default::default(),
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
                done: 2,
            }),
        }),
        marks: Marks {
            pass: Some(Pass {
                until: Time::from_unix_millis(9),
                since: Time::from_unix_millis(8),
                times: 3,
            }),
            retry: Some(Retry {
                not_before: Time::from_unix_millis(10),
                failures: 2,
                doubted: true,
            }),
            doubt: Some(Doubt {
                times: 2,
                since: Time::from_unix_millis(7),
            }),
            unsettled: Some(Unsettled {
                times: 3,
                not_before: Time::from_unix_millis(12),
            }),
            asked_again: true,
            resident: Some("http3:*/*".into()),
            vary: vec![Selecting {
                name: "dnt".into(),
                seen: Time::from_unix_millis(3),
            }],
            credentials_pass_until: Some(Time::from_unix_millis(11)),
            for_everyone_until: Some(Time::from_unix_millis(13)),
            variants: [false, true]
                .map(|again| Listed {
                    id: format!("cell/{again}"),
                    again,
                })
                .into(),
            invalidated: Some(Time::from_unix_millis(8)),
            purged: Some(Time::from_unix_millis(7)),
            softened: Some(Time::from_unix_millis(6)),
            swept: None,
            kept: Some(100),
            stored_bytes: Some(1 << 40),
            overfull: true,
        },
        orphans: vec![Orphan {
            body: Nonce::new(6),
            chunks: 7,
            since: Time::from_unix_millis(9),
        }],
        coming: None,
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

/// The cell, with an entry whose body is being written.
fn with_coming() -> Cell {
    let mut cell = cell(b"caf\xe9", b"{}");
    let mut entry = cell.entry.clone().unwrap();
    entry.body = Body::Chunked(Manifest {
        body: Nonce::new(5),
        length: Coming::UNKNOWN,
        chunk_size: 9,
    });
    cell.coming = Some(Box::new(Coming {
        entry,
        names: vec!["dnt".into()],
        selector: "http3:*/*~3:dnt-".into(),
    }));
    cell
}

#[test]
fn an_entry_that_is_being_written_is_read_back() {
    let cell = with_coming();
    let bytes = encode(&cell).unwrap();
    assert_eq!(decode(&bytes, "GET /a"), Ok(cell));
}

#[test]
fn an_entry_that_nobody_is_writing_is_not_read() {
    let change = |change: &dyn Fn(&mut Cell)| {
        let mut cell = with_coming();
        change(&mut cell);
        let read = decode(&encode(&cell).unwrap(), "GET /a").unwrap();
        assert_eq!(read.coming, None);
        assert_eq!(
            Cell {
                coming: None,
                ..cell
            },
            read
        );
    };
    let draft = |cell: &mut Cell, draft| cell.lease.as_mut().unwrap().draft = draft;
    change(&|cell| cell.lease = None);
    change(&|cell| draft(cell, None));
    change(&|cell| {
        let other = Draft {
            body: Nonce::new(9),
            chunks: 6,
            done: 2,
        };
        draft(cell, Some(other));
    });
    change(&|cell| {
        let coming = cell.coming.as_mut().unwrap();
        coming.entry.body = Body::Inline(Bytes::new());
    });
    change(&|cell| {
        let coming = cell.coming.as_mut().unwrap();
        coming.selector = "a".repeat(Coming::BYTES_MAX);
    });
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
        coming: None,
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
        (b"\x03", Unreadable::Truncated),
        (b"\x03\0\0\0\0\xff\xff\xff\xff", Unreadable::Truncated),
        (b"\x03\0\0\0\0\0\0\0\0", Unreadable::Corrupt),
        (b"{\"json\":true}", Unreadable::Format),
        (b"\0\0\0\0\0\0\0\0\0\0\0", Unreadable::Format),
        (b"\x10\0\0\0\0\0\0\0\0\0\0", Unreadable::Format),
    ] {
        let bytes = Bytes::copy_from_slice(bytes);
        assert_eq!(decode(&bytes, "GET /a"), Err(problem), "{bytes:?}");
    }
}

#[test]
fn a_newer_versions_value_is_told_from_garbage() {
    let cell = encode(&cell(b"v", b"body")).unwrap();
    for format in FORMAT_NEXT..=FORMAT_LAST {
        let mut newer = cell.to_vec();
        newer[0] = format;
        for value in [newer, vec![format]] {
            let problem = decode(&value.into(), "GET /a");
            assert_eq!(problem, Err(Unreadable::Newer), "{format}");
        }
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
fn every_flipped_bit_is_unreadable() {
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
            r#"{{"version":2,"nonce":"a","key":"k","entry":{{"status":200,"headers":[],"request_time":1,"fetch_millis":2,"freshness":{{"lifetime_ms":1,"initial_age_ms":0,"response_time":3,"stale_while_revalidate_ms":0,"stale_if_error_ms":0,"must_revalidate":false,"no_cache":false,"immutable":false}},"lease":"1","audience":"Anonymous","inline":{inline},"chunks":{{"body":"b","length":9,"chunk_size":{size}}}}}}}"#
        )
    };
    for (inline, size, readable) in [(0, 4, true), (0, 0, false), (2, 4, false)] {
        let body = &b"hi"[..usize::from(inline)];
        let bytes = stored(FORMAT, json(inline, size).as_bytes(), body);
        assert_eq!(decode(&bytes, "k").is_ok(), readable, "{inline} {size}");
    }
}

/// Format 3 as it was first released. Never change these bytes.
#[test]
fn format_3_stays_readable() {
    let json = r#"{"version":2,"nonce":"0000000000000000000000000000000a","key":"k","lease":{"holder":"1","start":1,"deadline":2,"draft":{"body":"d","chunks":3}},"entry":{"status":200,"headers":[["x","\u00e9"]],"request_time":1,"fetch_millis":2,"freshness":{"lifetime_ms":1,"initial_age_ms":0,"response_time":3,"stale_while_revalidate_ms":0,"stale_if_error_ms":0,"must_revalidate":false,"no_cache":false,"immutable":false},"lease":"1","audience":"Anonymous","inline":0,"chunks":{"body":"b","length":300000,"chunk_size":262144}},"marks":{"pass":{"until":9,"since":8,"times":1},"retry":{"not_before":10,"failures":2},"doubt":{"times":2,"since":7},"asked_again":true,"resident":"http3:*/*","vary":[{"name":"dnt","seen":3}],"credentials_pass_until":11,"variants":[{"id":"cell/0"},{"id":"cell/1","again":true}],"invalidated":4,"purged":5,"softened":6},"orphans":[{"body":"c","chunks":2,"since":7}],"unknown":1}"#;
    let cell = decode(&stored(3, json.as_bytes(), b""), "k").unwrap();
    let entry = cell.entry.unwrap();
    assert_eq!(entry.headers["x"].as_bytes(), b"\xe9");
    let manifest = entry.body.manifest().unwrap();
    assert_eq!((manifest.body, manifest.chunks()), (Nonce::new(11), 2));
    assert_eq!(cell.lease.unwrap().draft.unwrap().body, Nonce::new(13));
    assert_eq!(cell.orphans[0].since, Time::from_unix_millis(7));
    assert_eq!(cell.nonce, Nonce::new(10));
    assert_eq!(entry.audience, Audience::Anonymous);
    let marks = cell.marks;
    assert_eq!(marks.vary[0].name, "dnt");
    assert_eq!(marks.resident.as_deref(), Some("http3:*/*"));
    let again: Vec<_> = marks.variants.iter().map(|known| known.again).collect();
    assert_eq!((marks.asked_again, again), (true, vec![false, true]));

    let json = r#"{"version":2,"nonce":"0000000000000000000000000000000a","key":"k","entry":{"status":404,"headers":[["x","\u00e9"]],"request_time":1,"fetch_millis":2,"freshness":{"lifetime_ms":1,"initial_age_ms":0,"response_time":3,"stale_while_revalidate_ms":0,"stale_if_error_ms":0,"must_revalidate":false,"no_cache":false,"immutable":false},"lease":"1","audience":"Anonymous","inline":2},"unknown":1}"#;
    let entry = decode(&stored(3, json.as_bytes(), b"hi"), "k")
        .unwrap()
        .entry;
    let entry = entry.unwrap();
    assert_eq!(entry.status, StatusCode::NOT_FOUND);
    assert_eq!(entry.body, Body::Inline(Bytes::from_static(b"hi")));
}

/// Formats 1 and 2 as they were released. The versions that wrote them could store
/// one visitor's answer for everybody.
#[test]
fn cells_that_may_hold_a_private_entry_of_an_older_version_are_misses() {
    for (format, json, body) in [
        (
            1,
            r#"{"version":2,"nonce":"0000000000000000000000000000000a","key":"k","entry":{"status":404,"headers":[["x","\u00e9"]],"request_time":1,"fetch_millis":2,"freshness":{"lifetime_ms":1,"initial_age_ms":0,"response_time":3,"stale_while_revalidate_ms":0,"stale_if_error_ms":0,"must_revalidate":false,"no_cache":false,"immutable":false},"lease":"1","inline":2},"unknown":1}"#,
            &b"hi"[..],
        ),
        (
            2,
            r#"{"version":2,"nonce":"0000000000000000000000000000000a","key":"k","lease":{"holder":"1","start":1,"deadline":2,"draft":{"body":"d","chunks":3}},"entry":{"status":200,"headers":[["x","\u00e9"]],"request_time":1,"fetch_millis":2,"freshness":{"lifetime_ms":1,"initial_age_ms":0,"response_time":3,"stale_while_revalidate_ms":0,"stale_if_error_ms":0,"must_revalidate":false,"no_cache":false,"immutable":false},"lease":"1","inline":0,"chunks":{"body":"b","length":300000,"chunk_size":262144}},"orphans":[{"body":"c","chunks":2,"since":7}],"unknown":1}"#,
            b"",
        ),
    ] {
        let cell = decode(&stored(format, json.as_bytes(), body), "k");
        assert_eq!(cell, Err(Unreadable::Older), "{format}");
    }
}

/// A cell with this many fields and this many bytes of metadata that no field of
/// the record has.
fn forged(fields: usize, padding: usize) -> Bytes {
    let field = |number| format!(r#"["x-{number}","v"]"#);
    let fields: Vec<String> = (0..fields).map(field).collect();
    let json = format!(
        r#"{{"version":2,"nonce":"a","key":"k","entry":{{"status":200,"headers":[{}],"request_time":1,"fetch_millis":2,"freshness":{{"lifetime_ms":1,"initial_age_ms":0,"response_time":3,"stale_while_revalidate_ms":0,"stale_if_error_ms":0,"must_revalidate":false,"no_cache":false,"immutable":false}},"lease":"1","audience":"Anonymous","inline":0}},"unknown":"{}"}}"#,
        fields.join(","),
        "x".repeat(padding),
    );
    stored(FORMAT, json.as_bytes(), b"")
}

/// [`HeaderMap::with_capacity`] panics above 24,576 fields.
#[test]
fn a_forged_cell_with_25_000_fields_is_a_miss() {
    for (fields, readable) in [
        (FIELDS_MAX, true),
        (FIELDS_MAX + 1, false),
        (25_000, false),
        (40_000, false),
    ] {
        let cell = decode(&forged(fields, 0), "k");
        assert_eq!(cell.is_ok(), readable, "{fields}");
        if let Ok(cell) = cell {
            assert_eq!(cell.entry.unwrap().headers.len(), fields);
        }
    }
}

#[test]
fn metadata_that_is_too_long_is_a_miss() {
    let least = forged(0, 0).len() - PREFIX;
    for (padding, expected) in [
        (METADATA_MAX - least, None),
        (METADATA_MAX - least + 1, Some(Unreadable::Corrupt)),
    ] {
        assert_eq!(decode(&forged(0, padding), "k").err(), expected);
    }
}

/// What is written is read back, or is not written.
#[test]
fn a_cell_that_would_not_be_read_is_not_written() {
    let fields = |count: usize, value: &[u8]| {
        let mut headers = HeaderMap::new();
        for number in 0..count {
            let name = HeaderName::try_from(format!("x-{number}")).unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    };
    // Each byte of the last becomes two in JSON.
    let long = [0xe9; 1 << 10];
    for (headers, may, written) in [
        (fields(FIELDS_MAX, b"v"), true, true),
        (fields(FIELDS_MAX + 1, b"v"), false, false),
        (fields(250, &long), true, true),
        (fields(260, &long), false, true),
        (fields(600, &long), false, false),
    ] {
        assert_eq!(may_store(&headers), may, "{}", headers.len());
        let mut cell = cell(b"v", b"body");
        cell.entry.as_mut().unwrap().headers = headers;
        let bytes = encode(&cell);
        assert_eq!(bytes.is_ok(), written);
        if let Ok(bytes) = bytes {
            assert_eq!(decode(&bytes, "GET /a"), Ok(cell));
        }
    }
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
    (any::<[u64; 4]>(), moment(), any::<[bool; 4]>(), any::<u8>()).prop_map(
        |(times, received, flags, alone)| {
            let [lifetime_ms, initial_age_ms, swr, sie] = times;
            let [must_revalidate, no_cache, immutable, each_use] = flags;
            Freshness {
                lifetime_ms,
                initial_age_ms,
                response_time: received,
                stale_while_revalidate_ms: swr,
                stale_if_error_ms: sie,
                must_revalidate,
                no_cache,
                immutable,
                alone,
                each_use,
            }
        },
    )
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
        any::<([bool; 3], u32)>(),
        any_body(),
    )
        .prop_map(
            |(status, headers, request_time, fetch_millis, freshness, lease, others, body)| {
                let ([invalidated, everyone, withholds_cookie], policy) = others;
                Entry {
                    status: StatusCode::from_u16(status).unwrap(),
                    headers,
                    request_time,
                    fetch_millis,
                    freshness,
                    lease,
                    invalidated,
                    audience: match everyone {
                        true => Audience::Everyone,
                        false => Audience::Anonymous,
                    },
                    under: StoredUnder {
                        policy,
                        withholds_cookie,
                    },
                    body,
                }
            },
        )
}

fn any_marks() -> impl Strategy<Value = Marks> {
    let pass = (moment(), moment(), any::<u32>()).prop_map(|(until, since, times)| Pass {
        until,
        since,
        times,
    });
    let retry =
        (moment(), any::<u32>(), any::<bool>()).prop_map(|(not_before, failures, doubted)| Retry {
            not_before,
            failures,
            doubted,
        });
    let doubt = (any::<u32>(), moment()).prop_map(|(times, since)| Doubt { times, since });
    let unsettled =
        (any::<u32>(), moment()).prop_map(|(times, not_before)| Unsettled { times, not_before });
    let selecting = ("\\PC{0,9}", moment()).prop_map(|(name, seen)| Selecting { name, seen });
    let listed = ("\\PC{0,9}", any::<bool>()).prop_map(|(id, again)| Listed { id, again });
    let maybe = proptest::option::of::<BoxedStrategy<Time>>;
    let times = [(); 6].map(|()| maybe(moment().boxed()));
    (
        (
            proptest::option::of(pass),
            proptest::option::of(retry),
            proptest::option::of(doubt),
            proptest::option::of(unsettled),
        ),
        any::<bool>(),
        proptest::option::of("\\PC{0,9}"),
        proptest::collection::vec(selecting, 0..4),
        proptest::collection::vec(listed, 0..4),
        (times, proptest::option::of(any::<u32>()), any::<bool>()),
    )
        .prop_map(
            |(
                (pass, retry, doubt, unsettled),
                asked_again,
                resident,
                vary,
                variants,
                (times, kept, overfull),
            )| {
                let [
                    credentials_pass_until,
                    for_everyone_until,
                    invalidated,
                    purged,
                    softened,
                    swept,
                ] = times;
                Marks {
                    pass,
                    retry,
                    doubt,
                    unsettled,
                    asked_again,
                    resident,
                    vary,
                    credentials_pass_until,
                    for_everyone_until,
                    variants,
                    invalidated,
                    purged,
                    softened,
                    swept,
                    stored_bytes: kept.map(u64::from),
                    kept,
                    overfull,
                }
            },
        )
}

/// Every cell that there can be.
pub(in crate::cell) fn any_cell() -> impl Strategy<Value = Cell> {
    let draft = (nonce(), any::<u32>(), any::<u32>()).prop_map(|(body, chunks, done)| Draft {
        body,
        chunks,
        done,
    });
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
            coming: None,
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
