#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::question::policy::KeyPolicy;
use http::{HeaderMap, HeaderName, HeaderValue};

fn at(millis: u64) -> Time {
    Time::from_unix_millis(millis)
}

fn prefix(text: &str) -> Scope {
    Scope::Prefix(Prefix::parse(None, text, &KeyPolicy::default()).unwrap())
}

fn tag(name: &str) -> Scope {
    Scope::Tag(Tag::named(name).unwrap())
}

fn softened(record: &Record, target: &str) -> Option<Time> {
    record.of_url(None, target).softened
}

#[test]
fn a_purge_concerns_what_its_scope_names() {
    let mut record = Record::default();
    record.add(&prefix("/products/*"), Purge::Soft, at(1));
    record.add(&prefix("/products/1?"), Purge::Soft, at(2));
    for (target, expected) in [
        ("/", None),
        ("/products", None),
        ("/products/", Some(at(1))),
        ("/products/1", Some(at(1))),
        ("/products/1?a=b", Some(at(2))),
        ("/products/12", Some(at(1))),
        ("/Products/1", None),
    ] {
        assert_eq!(softened(&record, target), expected, "{target}");
    }
    record.add(&Scope::Everything, Purge::Soft, at(3));
    assert_eq!(softened(&record, "/"), Some(at(3)));
    assert_eq!(softened(&record, "/products/1"), Some(at(3)));
}

#[test]
fn the_ways_of_a_purge_are_kept_apart_and_none_undoes_a_later_one() {
    let mut record = Record::default();
    for (purge, moment) in [
        (Purge::Soft, 5),
        (Purge::Hard, 3),
        (Purge::Invalidate, 4),
        (Purge::Soft, 2),
    ] {
        record.add(&Scope::Everything, purge, at(moment));
    }
    let found = record.of_url(None, "/");
    assert_eq!(found.softened, Some(at(5)));
    assert_eq!(found.purged, Some(at(3)));
    assert_eq!(found.invalidated, Some(at(4)));
}

#[test]
fn a_prefix_is_of_a_host_where_keys_have_hosts() {
    let key = KeyPolicy {
        lowercase: true,
        ..KeyPolicy::default()
    };
    let of_shop = Prefix::parse(Some("shop.example".to_owned()), "/API/%7E", &key).unwrap();
    for (host, target, expected) in [
        (Some("shop.example"), "/api/~1", true),
        (Some("www.example"), "/api/~1", false),
        (None, "/api/~1", true),
        (Some("shop.example"), "/api", false),
    ] {
        assert_eq!(of_shop.matches(host, target), expected, "{host:?} {target}");
    }
}

#[test]
fn what_is_no_prefix_is_refused() {
    let long = format!("/{}", "a".repeat(PREFIX_BYTES_MAX));
    for (text, problem) in [
        ("", NoPrefix::WithoutSlash),
        ("*", NoPrefix::WithoutSlash),
        ("products/", NoPrefix::WithoutSlash),
        ("/a*b", NoPrefix::Star),
        ("/**", NoPrefix::Star),
        ("/a b", NoPrefix::Characters),
        ("/a\n", NoPrefix::Characters),
        ("/a#b", NoPrefix::Characters),
        (&long, NoPrefix::TooLong),
    ] {
        let found = Prefix::parse(None, text, &KeyPolicy::default());
        assert_eq!(found, Err(problem), "{text}");
    }
}

#[test]
fn tags_are_read_from_both_fields() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("surrogate-key", "a  b"),
        ("cache-tag", "c, D,,e"),
        ("cache-tag", "f"),
        ("x-tag", "g"),
    ] {
        let name = HeaderName::from_static(name);
        headers.append(name, HeaderValue::from_static(value));
    }
    let found: Vec<Tag> = tags_of(&headers).collect();
    let expected = ["a", "b", "c", "d", "e", "f"].map(|name| Tag::named(name).unwrap());
    assert_eq!(found, expected);
    for name in ["", "a b", "a,b", "a\u{7f}", &"a".repeat(TAG_BYTES_MAX + 1)] {
        assert_eq!(Tag::named(name), None, "{name}");
    }
}

#[test]
fn a_full_record_purges_more_and_never_less() {
    let mut record = Record::default();
    for number in 0..=TAGS_MAX {
        record.add(
            &tag(&number.to_string()),
            Purge::Soft,
            at(number as u64 + 10),
        );
    }
    for number in 0..=PREFIXES_MAX {
        record.add(
            &prefix(&format!("/{number}/")),
            Purge::Hard,
            at(number as u64 + 10),
        );
    }
    assert_eq!(
        (record.tags.len(), record.prefixes.len()),
        (TAGS_MAX, PREFIXES_MAX)
    );
    // The oldest of each is one of everything now.
    let everything = record.of_url(None, "/other");
    assert_eq!(everything.softened, Some(at(10)));
    assert_eq!(everything.purged, Some(at(10)));
    let newest = record.of_url(None, &format!("/{PREFIXES_MAX}/a"));
    assert_eq!(newest.purged, Some(at(PREFIXES_MAX as u64 + 10)));
    assert!(encode(&record).unwrap().len() < 256 << 10);
}

#[test]
fn records_are_read_back_and_joined() {
    let mut one = Record::default();
    one.add(&tag("a"), Purge::Soft, at(5));
    one.add(&prefix("/a"), Purge::Hard, at(6));
    let mut other = Record::default();
    other.add(&tag("a"), Purge::Soft, at(7));
    other.add(&Scope::Everything, Purge::Invalidate, at(1));
    let read = decode(&encode(&one).unwrap()).unwrap();
    assert_eq!(read, one);
    one.add_all(&other);
    let found = one.of_tag(Tag::named("A").unwrap());
    assert_eq!(found.softened, Some(at(7)));
    assert_eq!(one.of_url(None, "/a").invalidated, Some(at(1)));
    assert_eq!(one.len(), 3);
}

#[test]
fn damaged_and_newer_records_are_told_apart() {
    let encoded = encode(&Record::default()).unwrap();
    for at in 0..encoded.len() {
        let mut damaged = encoded.to_vec();
        damaged[at] ^= 0x80;
        assert_eq!(decode(&damaged), Err(Unreadable::Corrupt), "{at}");
    }
    let mut newer = encoded.to_vec();
    newer[0] = 2;
    assert_eq!(decode(&newer), Err(Unreadable::Newer));
    assert_eq!(decode(b""), Err(Unreadable::Corrupt));
}

/// Everything would be stale for as long as the clock of one node is ahead.
#[test]
fn a_purge_of_a_clock_that_is_ahead_is_of_the_moment_at_which_it_is_seen() {
    let mut record = Record::default();
    record.add(&Scope::Everything, Purge::Soft, at(600_000));
    record.add(&tag("a"), Purge::Soft, at(10));
    let seen = record.seen_at(at(1_000));
    assert_eq!(softened(&seen, "/"), Some(at(1_000)));
    assert_eq!(seen.of_tag(Tag::named("a").unwrap()).softened, Some(at(10)));
}
