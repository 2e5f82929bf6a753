#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::cell::{Body, Manifest};
use crate::semantics::Freshness;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

const SKEW: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    max: Duration::from_secs(60),
};
const ME: Nonce = Nonce::new(1);
const OTHER: Nonce = Nonce::new(2);

fn at(millis: u64) -> Time {
    Time::from_unix_millis(millis)
}

fn nonce() -> Nonce {
    Nonce::new(99)
}

fn stamp(now: u64) -> Stamp {
    Stamp {
        nonce: nonce(),
        now: at(now),
    }
}

fn claim(holder: Nonce, now: u64) -> Claim {
    Claim {
        holder,
        now: at(now),
        duration: LEASE,
        clock_skew: SKEW,
    }
}

fn entry(body: &'static str, lease: Nonce) -> Entry {
    Entry {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        request_time: at(0),
        fetch_millis: 0,
        freshness: Freshness {
            lifetime_ms: 10_000,
            initial_age_ms: 0,
            response_time: at(0),
            stale_while_revalidate_ms: 60_000,
            stale_if_error_ms: 60_000,
            must_revalidate: false,
            no_cache: false,
            immutable: false,
        },
        lease,
        invalidated: false,
        body: Body::Inline(Bytes::from(body)),
    }
}

fn leased(holder: Nonce) -> Cell {
    lease(None, "k", &claim(holder, 1_000), nonce()).unwrap()
}

#[test]
fn the_first_lease_makes_the_cell() {
    let cell = leased(ME);
    assert_eq!((cell.version, cell.key.as_str()), (1, "k"));
    let lease = cell.lease.unwrap();
    assert_eq!((lease.start, lease.deadline), (at(1_000), at(6_000)));
}

#[test]
fn a_lease_is_others_until_its_deadline_and_the_skew_are_over() {
    let cell = leased(OTHER);
    for (now, expected) in [
        (1_000, Err(NoLease::Live { until: at(6_100) })),
        (6_000, Err(NoLease::Live { until: at(6_100) })),
        (6_099, Err(NoLease::Live { until: at(6_100) })),
        (6_100, Ok(ME)),
    ] {
        let got = lease(Some(&cell), "k", &claim(ME, now), nonce());
        let got = got.map(|cell| cell.lease.unwrap().holder);
        assert_eq!(got, expected, "{now}");
    }
}

#[test]
fn a_holder_stops_acting_before_others_may_take_over() {
    let lease = leased(ME).lease.unwrap();
    let end = Lease::acts_until(lease.deadline, SKEW);
    assert_eq!(end, at(5_900));
    // By a clock that is ahead of the holder's by the whole skew.
    assert!(lease.is_live(end.plus(SKEW), SKEW));
}

#[test]
fn every_write_has_a_new_version_and_nonce() {
    let cell = leased(ME);
    let renewed = renew(Some(&cell), ME, at(9_000), Nonce::new(7)).unwrap();
    assert_eq!((renewed.version, renewed.nonce), (2, Nonce::new(7)));
}

#[test]
fn a_renewal_never_shortens_a_lease() {
    let cell = leased(ME);
    for (deadline, expected) in [
        (9_000, 9_000),
        (6_001, 6_001),
        (6_000, 6_000),
        (2_000, 6_000),
    ] {
        let renewed = renew(Some(&cell), ME, at(deadline), nonce()).unwrap();
        assert_eq!(renewed.lease.unwrap().deadline, at(expected), "{deadline}");
    }
}

#[test]
fn only_the_holder_settles_a_lease() {
    let mine = leased(ME);
    let others = leased(OTHER);
    let mut none = leased(ME);
    none.lease = None;
    let pass_mark = Pass {
        until: at(9),
        authorized_only: false,
    };
    type Settle<'a> = &'a dyn Fn(Option<&Cell>) -> Result<Cell, Fenced>;
    let transitions: [(&str, Settle<'_>); 7] = [
        ("draft", &|cell| draft(cell, ME, None, nonce())),
        ("renew", &|cell| renew(cell, ME, at(9_000), nonce())),
        ("publish", &|cell| {
            publish(cell, ME, entry("new", ME), stamp(0))
        }),
        ("pass", &|cell| pass(cell, ME, pass_mark, false, stamp(0))),
        ("fail", &|cell| fail(cell, ME, &BACKOFF, 0, stamp(0))),
        ("release", &|cell| release(cell, ME, stamp(0))),
        ("split", &|cell| {
            split(cell, ME, &["accept".into()], stamp(0))
        }),
    ];
    for (name, transition) in transitions {
        assert!(transition(Some(&mine)).is_ok(), "{name}");
        for cell in [Some(&others), Some(&none), None] {
            assert_eq!(transition(cell), Err(Fenced::Lost), "{name} {cell:?}");
        }
    }
}

#[test]
fn a_zombie_does_not_overwrite_what_its_successor_published() {
    let cell = leased(ME);
    let taken = lease(Some(&cell), "k", &claim(OTHER, 20_000), nonce()).unwrap();
    let published = publish(Some(&taken), OTHER, entry("successor", OTHER), stamp(0)).unwrap();
    for cell in [&taken, &published] {
        let late = publish(Some(cell), ME, entry("zombie", ME), stamp(0));
        assert_eq!(late, Err(Fenced::Lost));
    }
}

#[test]
fn publishing_clears_the_marks() {
    let mut cell = leased(ME);
    cell.marks.retry = Some(Retry {
        not_before: at(1),
        failures: 3,
    });
    cell.marks.pass = Some(Pass {
        until: at(1),
        authorized_only: false,
    });
    let cell = publish(Some(&cell), ME, entry("new", ME), stamp(0)).unwrap();
    assert_eq!((cell.lease, cell.marks), (None, Marks::default()));
    assert_eq!(cell.entry.unwrap().body, Body::Inline("new".into()));
}

#[test]
fn failures_keep_the_entry_and_double_the_delay() {
    let mut cell = leased(ME);
    cell.entry = Some(entry("old", OTHER));
    let mut now = at(1_000);
    for (failures, delay) in [
        (1, 1),
        (2, 2),
        (3, 4),
        (4, 8),
        (5, 16),
        (6, 32),
        (7, 60),
        (8, 60),
    ] {
        let failed = fail(Some(&cell), ME, &BACKOFF, 0, stamp(now.as_unix_millis())).unwrap();
        let retry = failed.marks.retry.unwrap();
        assert_eq!(retry.failures, failures);
        assert_eq!(retry.not_before, now.plus(Duration::from_secs(delay)));
        assert!(failed.entry.is_some() && failed.lease.is_none());
        // Not before the mark; from then on.
        let early = retry.not_before.minus(Duration::from_millis(1));
        let refused = lease(
            Some(&failed),
            "k",
            &claim(ME, early.as_unix_millis()),
            nonce(),
        );
        let not_before = retry.not_before;
        assert_eq!(refused, Err(NoLease::Retry { not_before }));
        now = not_before;
        cell = lease(
            Some(&failed),
            "k",
            &claim(ME, now.as_unix_millis()),
            nonce(),
        )
        .unwrap();
    }
}

#[test]
fn the_delay_is_spread_but_never_above_its_maximum() {
    for (failures, random, millis) in [
        (0, 0, 1_000),
        (1, 0, 1_000),
        (1, 250, 1_250),
        (1, 251, 1_000),
        (2, 125, 2_250),
        (7, 250, 60_000),
        (u32::MAX, u64::MAX, 60_000),
    ] {
        let delay = BACKOFF.delay(failures, random);
        assert_eq!(delay, Duration::from_millis(millis), "{failures} {random}");
    }
}

#[test]
fn purges() {
    let mut cell = leased(ME);
    cell.entry = Some(entry("old", OTHER));
    let now = at(4_000);
    let stamp = stamp(4_000);

    let soft = super::purge(&cell, Purge::Soft, stamp);
    let freshness = soft.entry.as_ref().unwrap().freshness;
    assert!(!freshness.is_fresh(now) && freshness.may_serve_while_revalidating(now));
    assert_eq!(soft.marks.softened, Some(now));

    let invalid = super::purge(&cell, Purge::Invalidate, stamp);
    assert!(invalid.entry.as_ref().unwrap().invalidated);
    assert_eq!(invalid.marks.invalidated, Some(now));

    let hard = super::purge(&cell, Purge::Hard, stamp);
    assert_eq!((&hard.entry, hard.marks.purged), (&None, Some(now)));

    // The lease stays, but what was fetched under it may predate the purge.
    for cell in [&soft, &invalid, &hard] {
        assert_eq!(cell.lease.unwrap().holder, ME);
        let late = publish(Some(cell), ME, entry("late", ME), stamp);
        assert_eq!(late, Err(Fenced::Purged));
        assert!(release(Some(cell), ME, stamp).is_ok());
    }
}

#[test]
fn a_soft_purge_makes_nothing_fresh_again() {
    let mut cell = leased(ME);
    cell.entry = Some(entry("old", OTHER));
    let stale = super::purge(&cell, Purge::Soft, stamp(50_000));
    assert_eq!(stale.entry.unwrap().freshness.lifetime_ms, 10_000);
}

#[test]
fn variants() {
    let mut cell = leased(ME);
    cell.entry = Some(entry("for one of them", OTHER));
    let names = ["accept-language".to_owned(), "accept".to_owned()];
    let cell = split(Some(&cell), ME, &names, stamp(0)).unwrap();
    assert_eq!(cell.marks.vary, ["accept", "accept-language"]);
    assert_eq!((&cell.entry, cell.lease), (&None, None));

    assert_eq!(super::vary(Some(&cell), "k", &names, stamp(0)), None);
    let wider = super::vary(Some(&cell), "k", &["cookie".into()], stamp(0)).unwrap();
    assert_eq!(wider.marks.vary, ["accept", "accept-language", "cookie"]);
    let first = super::vary(None, "k", &names, stamp(0)).unwrap();
    assert_eq!((first.version, first.key.as_str()), (1, "k"));
}

fn chunked(body: u128, lease: Nonce) -> Entry {
    Entry {
        body: Body::Chunked(Manifest {
            body: Nonce::new(body),
            length: 25,
            chunk_size: 10,
        }),
        ..entry("", lease)
    }
}

fn orphans(cell: &Cell) -> Vec<(Nonce, u32, Time)> {
    cell.orphans
        .iter()
        .map(|orphan| (orphan.body, orphan.chunks, orphan.since))
        .collect()
}

/// Whatever lets go of a body notes it, in the very write that does.
#[test]
fn no_body_is_let_go_of_unnoticed() {
    let mut cell = leased(ME);
    cell.entry = Some(chunked(7, OTHER));
    let expected = [(Nonce::new(7), 3, at(4_000))];
    let names = ["accept".to_owned()];
    let pass_mark = Pass {
        until: at(9),
        authorized_only: false,
    };
    let stamp = stamp(4_000);
    for (name, next, expected) in [
        (
            "publish",
            publish(Some(&cell), ME, entry("new", ME), stamp).unwrap(),
            &expected[..],
        ),
        (
            "publish another",
            publish(Some(&cell), ME, chunked(8, ME), stamp).unwrap(),
            &expected,
        ),
        (
            "renew the entry",
            publish(Some(&cell), ME, chunked(7, ME), stamp).unwrap(),
            &[],
        ),
        (
            "pass",
            pass(Some(&cell), ME, pass_mark, false, stamp).unwrap(),
            &expected,
        ),
        (
            "pass, and keep",
            pass(Some(&cell), ME, pass_mark, true, stamp).unwrap(),
            &[],
        ),
        (
            "fail",
            fail(Some(&cell), ME, &BACKOFF, 0, stamp).unwrap(),
            &[],
        ),
        ("release", release(Some(&cell), ME, stamp).unwrap(), &[]),
        (
            "split",
            split(Some(&cell), ME, &names, stamp).unwrap(),
            &expected,
        ),
        (
            "vary",
            super::vary(Some(&cell), "k", &names, stamp).unwrap(),
            &expected,
        ),
        (
            "discard",
            discard(&cell, Nonce::new(7), stamp).unwrap(),
            &expected,
        ),
        ("soft", super::purge(&cell, Purge::Soft, stamp), &[]),
        ("hard", super::purge(&cell, Purge::Hard, stamp), &expected),
    ] {
        assert_eq!(orphans(&next), expected, "{name}");
    }
    assert_eq!(discard(&cell, Nonce::new(8), stamp), None);
}

#[test]
fn a_draft_that_is_not_published_is_an_orphan() {
    let drafted = |cell: &Cell, body| {
        let draft = Draft {
            body: Nonce::new(body),
            chunks: 4,
        };
        super::draft(Some(cell), ME, Some(draft), nonce()).unwrap()
    };
    let cell = drafted(&leased(ME), 7);
    let expected = [(Nonce::new(7), 4, at(4_000))];
    let stamp = stamp(4_000);
    for (name, next, expected) in [
        (
            "publish",
            publish(Some(&cell), ME, chunked(7, ME), stamp).unwrap(),
            &[][..],
        ),
        (
            "publish another",
            publish(Some(&cell), ME, entry("new", ME), stamp).unwrap(),
            &expected,
        ),
        (
            "fail",
            fail(Some(&cell), ME, &BACKOFF, 0, stamp).unwrap(),
            &expected,
        ),
        (
            "release",
            release(Some(&cell), ME, stamp).unwrap(),
            &expected,
        ),
        (
            "renew",
            renew(Some(&cell), ME, at(9_000), nonce()).unwrap(),
            &[],
        ),
        ("hard", super::purge(&cell, Purge::Hard, stamp), &[]),
        (
            "take over",
            lease(Some(&cell), "k", &claim(OTHER, 20_000), nonce()).unwrap(),
            &[(Nonce::new(7), 4, at(20_000))],
        ),
    ] {
        assert_eq!(orphans(&next), expected, "{name}");
    }
    // Left to another cell: not this one's affair any more.
    let left = super::draft(Some(&cell), ME, None, nonce()).unwrap();
    let released = release(Some(&left), ME, stamp).unwrap();
    assert_eq!(orphans(&released), []);
    // A renewal keeps the draft.
    let renewed = renew(Some(&cell), ME, at(9_000), nonce()).unwrap();
    assert_eq!(
        orphans(&release(Some(&renewed), ME, stamp).unwrap()),
        expected
    );
}

#[test]
fn a_list_of_variants_names_each_once_and_answers_for_those_it_lost() {
    let orphan = |body| Orphan {
        body: Nonce::new(body),
        chunks: 3,
        since: at(5),
    };
    let add = |cell: Option<&Cell>, variant: &str, evicted: &[String], litter: &[Orphan]| {
        enlist(cell, "k", variant, evicted, litter, &[], nonce())
    };
    let one = add(None, "a", &[], &[]).unwrap();
    assert_eq!(add(Some(&one), "a", &[], &[]), None);
    let two = add(Some(&one), "b", &[], &[]).unwrap();
    assert_eq!(
        (two.version, &*two.marks.variants),
        (2, &["a".to_owned(), "b".to_owned()][..])
    );
    let litter = [orphan(1), orphan(2), orphan(1)];
    let three = add(Some(&two), "c", &["a".to_owned()], &litter).unwrap();
    assert_eq!(three.marks.variants, ["b", "c"]);
    assert_eq!(three.orphans, [orphan(1), orphan(2)]);
    let four = enlist(
        Some(&three),
        "k",
        "d",
        &[],
        &[orphan(2)],
        &[orphan(1)],
        nonce(),
    );
    assert_eq!(four.unwrap().orphans, [orphan(2)]);
}
