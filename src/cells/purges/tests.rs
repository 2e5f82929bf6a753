#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::cells::testing::{World, cells, entry, origin, run_tasks, visitor_of, with};
use crate::cells::{Election, Told};
use crate::config::Config;
use crate::purges::{Prefix, Tag};
use crate::question::policy::KeyPolicy;
use futures::executor::block_on;
use http::HeaderValue;

fn prefix(text: &str) -> Scope {
    Scope::Prefix(Prefix::parse(None, text, &KeyPolicy::default()).unwrap())
}

fn tag(name: &str) -> Scope {
    Scope::Tag(Tag::named(name).unwrap())
}

/// Another instance on the same store.
fn another(cells: &Cells<World>) -> Rc<Cells<World>> {
    Cells::new(
        Rc::clone(&cells.platform),
        Rc::clone(&cells.config),
        &origin(),
    )
}

/// Stores a page that is fresh for ten seconds.
fn fill(cells: &Cells<World>, path: &str, tags: &'static str) {
    let located = block_on(cells.locate(&visitor_of(path), false));
    let Election::Held(held) = block_on(cells.elect(&located)) else {
        panic!("another holds the lease");
    };
    let mut entry = entry(held.holder, cells.platform.now(), b"page");
    entry
        .headers
        .insert("surrogate-key", HeaderValue::from_static(tags));
    let told = Told::Resident {
        question: &located.question,
        names: &[],
        credentials_pass_until: None,
    };
    block_on(cells.publish(held, entry, told, &[]));
}

/// What a request finds.
fn found(cells: &Cells<World>, path: &str) -> &'static str {
    let located = block_on(cells.locate(&visitor_of(path), false));
    let now = cells.platform.now();
    match located.loaded.entry() {
        None => "nothing",
        Some(entry) if entry.invalidated => "invalidated",
        Some(entry) if entry.freshness.is_fresh(now) => "fresh",
        Some(_) => "stale",
    }
}

fn wait(cells: &Cells<World>, time: Duration) {
    block_on(cells.platform.sleep(time));
}

#[test]
fn a_purge_is_seen_by_every_instance_within_a_second() {
    let config = "[[rule]]\nmatch = { path = \"/a/*\" }\ntags = [\"ruled\"]\n";
    for (scope, concerns_b) in [
        (Scope::Everything, true),
        (prefix("/a/"), false),
        (tag("own"), false),
        (tag("Ruled"), false),
    ] {
        for (purge, expected) in [
            (Purge::Soft, "stale"),
            (Purge::Invalidate, "invalidated"),
            (Purge::Hard, "nothing"),
        ] {
            let one = with(Config::parse(config).unwrap());
            let other = another(&one);
            fill(&one, "/a/1", "other own");
            fill(&one, "/b", "");
            for path in ["/a/1", "/b"] {
                assert_eq!(found(&other, path), "fresh");
            }
            wait(&one, Duration::from_millis(100));
            let purging = one.purge_scopes(std::slice::from_ref(&scope), purge);
            assert_eq!(block_on(purging), Purged::Stored);
            let expected_b = if concerns_b { expected } else { "fresh" };
            assert_eq!(found(&one, "/a/1"), expected, "{scope:?}");
            assert_eq!(found(&one, "/b"), expected_b, "{scope:?}");
            wait(&one, READ_EVERY);
            assert_eq!(found(&other, "/a/1"), expected, "{scope:?}");
            assert_eq!(found(&other, "/b"), expected_b, "{scope:?}");
            // One that begins later knows it, too.
            assert_eq!(found(&another(&one), "/a/1"), expected, "{scope:?}");
            // What is fetched afterwards is not concerned.
            wait(&one, one.config.lease.clock_skew);
            fill(&one, "/a/1", "other own");
            assert_eq!(found(&other, "/a/1"), "fresh", "{scope:?}");
        }
    }
}

#[test]
fn the_record_is_read_beside_a_hit_and_once_for_all_hits_of_a_moment() {
    let cells = cells();
    fill(&cells, "/a", "");
    let asked = |cells: &Cells<World>| cells.platform.store.asked.get();
    wait(&cells, READ_EVERY);
    let before = asked(&cells);
    for _ in 0..100 {
        assert_eq!(found(&cells, "/a"), "fresh");
    }
    assert_eq!(asked(&cells) - before, 101);
}

/// An instance that had no request for an hour answered the second of two with what it
/// knew then.
#[test]
fn no_request_uses_what_was_known_long_before() {
    let known = Known {
        read: Some(Time::from_unix_millis(10_000)),
        asked: Some(Time::from_unix_millis(10_700)),
        ..Known::default()
    };
    for (now, is_due) in [
        (10_000, false),
        (10_599, false),
        // Another reads.
        (10_700, false),
        (10_999, false),
        (11_000, true),
        (3_610_000, true),
        // The clock was set back.
        (9_999, true),
    ] {
        let now = Time::from_unix_millis(now);
        assert_eq!(known.is_due(now), is_due, "{now}");
    }
    assert!(Known::default().is_due(Time::from_unix_millis(10_700)));
}

#[test]
fn a_purge_that_the_store_does_not_take_holds_here_and_is_written_later() {
    let one = cells();
    let other = another(&one);
    fill(&one, "/a", "");
    assert_eq!(found(&other, "/a"), "fresh");
    one.platform.store.is_read_only.set(true);
    let purging = one.purge_scopes(&[Scope::Everything], Purge::Hard);
    assert_eq!(block_on(purging), Purged::Pending);
    assert_eq!(found(&one, "/a"), "nothing");
    one.platform.store.is_read_only.set(false);
    assert_eq!(run_tasks(&one), 1);
    assert!(one.known_purges.0.borrow().pending.is_empty());
    wait(&one, TRUSTED_FOR);
    assert_eq!(found(&other, "/a"), "nothing");
}

#[test]
fn a_purge_that_the_store_never_takes_is_said_to_be_lost() {
    let cells = cells();
    cells.platform.store.fails.set(true);
    let scopes = [Scope::Everything, prefix("/a")];
    let purged = block_on(cells.purge_scopes(&scopes, Purge::Soft));
    assert_eq!(purged, Purged::Pending);
    assert_eq!(run_tasks(&cells), 1);
    let log = cells.platform.log.borrow();
    let lost = log.iter().filter(|line| line.contains("purge-lost"));
    assert_eq!(lost.count(), 1, "{log:?}");
}

#[test]
fn the_record_of_a_newer_version_is_not_overwritten_and_a_damaged_one_is() {
    for (format, expected) in [(2_u8, Purged::Pending), (200, Purged::Stored)] {
        let cells = cells();
        let name = purges_id(&cells.origin);
        let value = Bytes::from(vec![format, 1, 2, 3, 4, 5]);
        let store = &cells.platform.store;
        block_on(crate::store::Store::swap(&store.inner, &name, None, &value)).unwrap();
        let purging = cells.purge_scopes(&[Scope::Everything], Purge::Soft);
        assert_eq!(block_on(purging), expected);
        let stored = block_on(crate::store::Store::load(&store.inner, &name)).unwrap();
        assert_eq!(stored == Some(value), expected == Purged::Pending);
    }
}

#[test]
fn purges_of_several_instances_at_once_are_all_kept() {
    let one = cells();
    let other = another(&one);
    fill(&one, "/a", "x y");
    for (cells, scope) in [(&one, tag("x")), (&other, prefix("/q")), (&one, tag("z"))] {
        let purged = block_on(cells.purge_scopes(&[scope], Purge::Soft));
        assert_eq!(purged, Purged::Stored);
    }
    let later = another(&one);
    assert_eq!(found(&later, "/a"), "stale");
    assert_eq!(later.purges_known(), 3);
}

/// A read that took long brought back what the record had been before a purge.
#[test]
fn a_read_that_was_overtaken_does_not_undo_a_purge() {
    let record = |version, scopes: &[Scope]| {
        let mut record = Record::default();
        record.version = version;
        for scope in scopes {
            record.add(scope, Purge::Soft, Time::from_unix_millis(1));
        }
        record
    };
    let at = |millis| Time::from_unix_millis(millis);
    let raw = |byte: u8| Some(Bytes::from(vec![byte]));
    let mut known = Known::default();
    known.note(raw(2), || record(2, &[tag("a"), tag("b")]), at(20));
    known.note(raw(1), || record(1, &[tag("a")]), at(10));
    assert_eq!((known.counting.len(), known.read), (2, Some(at(20))));
    // A write of this instance that was begun before, and is later.
    let three = record(3, &[tag("a"), tag("b"), tag("c")]);
    known.note(raw(3), || three, at(15));
    assert_eq!((known.counting.len(), known.read), (3, Some(at(20))));
    // The store was emptied.
    known.note(None, Record::default, at(30));
    assert_eq!((known.counting.len(), known.read), (0, Some(at(30))));
}
