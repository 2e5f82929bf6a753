#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::cell::{Body, Manifest, Progress};
use crate::semantics::{Audience, Freshness};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

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
        backoff: BACKOFF,
        random: 0,
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
            alone: 0,
            each_use: false,
        },
        lease,
        invalidated: false,
        audience: Audience::Anonymous,
        under: Default::default(),
        body: Body::Inline(Bytes::from(body)),
    }
}

fn leased(holder: Nonce) -> Cell {
    lease(None, "k", None, &claim(holder, 1_000), nonce()).unwrap()
}

/// A refresh that has failed without a word of the origin.
const FAILURE: Failure = Failure {
    backoff: BACKOFF,
    random: 0,
    not_before: None,
    doubt: false,
    brief: None,
};

const PASS: Duration = Duration::from_secs(120);

fn strings<const N: usize>(names: [&str; N]) -> [String; N] {
    names.map(str::to_owned)
}

/// The names of the selecting fields that a cell knows.
fn names(cell: &Cell) -> Vec<&str> {
    let vary = cell.marks.vary.iter();
    vary.map(|selecting| selecting.name.as_str()).collect()
}

/// A selector that names its fields.
fn selector(names: &[HeaderName]) -> String {
    let names: Vec<_> = names.iter().map(HeaderName::as_str).collect();
    format!("by {}", names.join(" "))
}

fn learned(names: &[String]) -> Learned<'_> {
    Learned {
        names,
        selector: &selector,
    }
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
        let got = lease(Some(&cell), "k", None, &claim(ME, now), nonce());
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
    type Settle<'a> = &'a dyn Fn(Option<&Cell>) -> Result<Cell, Fenced>;
    let transitions: [(&str, Settle<'_>); 6] = [
        ("draft", &|cell| draft(cell, ME, None, None, nonce())),
        ("renew", &|cell| renew(cell, ME, at(9_000), nonce())),
        ("publish", &|cell| {
            publish(cell, ME, entry("new", ME), None, stamp(0))
        }),
        ("pass", &|cell| pass(cell, ME, PASS, None, stamp(0))),
        ("fail", &|cell| fail(cell, ME, &FAILURE, None, stamp(0))),
        ("release", &|cell| release(cell, ME, stamp(0))),
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
    let taken = lease(Some(&cell), "k", None, &claim(OTHER, 20_000), nonce()).unwrap();
    let published = publish(
        Some(&taken),
        OTHER,
        entry("successor", OTHER),
        None,
        stamp(0),
    )
    .unwrap();
    for cell in [&taken, &published] {
        let late = publish(Some(cell), ME, entry("zombie", ME), None, stamp(0));
        assert_eq!(late, Err(Fenced::Lost));
    }
}

#[test]
fn publishing_clears_the_marks() {
    let mut cell = leased(ME);
    cell.marks.retry = Some(Retry {
        not_before: at(1),
        failures: 3,
        doubted: false,
    });
    cell.marks.pass = Some(Pass {
        until: at(1),
        since: at(0),
        times: 2,
    });
    cell.marks.doubt = Some(Doubt {
        times: 2,
        since: at(0),
    });
    let cell = publish(Some(&cell), ME, entry("new", ME), None, stamp(0)).unwrap();
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
        // At most four fifths of the maximum, to leave room for the spread.
        (7, 48),
        (8, 48),
    ] {
        let failed = fail(Some(&cell), ME, &FAILURE, None, stamp(now.as_unix_millis())).unwrap();
        let retry = failed.marks.retry.unwrap();
        assert_eq!(retry.failures, failures);
        assert_eq!(retry.not_before, now.plus(Duration::from_secs(delay)));
        assert!(failed.entry.is_some() && failed.lease.is_none());
        // Not before the mark; from then on.
        let early = retry.not_before.minus(Duration::from_millis(1));
        let refused = lease(
            Some(&failed),
            "k",
            None,
            &claim(ME, early.as_unix_millis()),
            nonce(),
        );
        let not_before = retry.not_before;
        assert_eq!(refused, Err(NoLease::Retry { not_before }));
        now = not_before;
        cell = lease(
            Some(&failed),
            "k",
            None,
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
        (7, 0, 48_000),
        (7, 125, 54_000),
        (7, 250, 60_000),
        (u32::MAX, 0, 48_000),
        (u32::MAX, 250, 60_000),
    ] {
        let delay = BACKOFF.delay(failures, random);
        assert_eq!(delay, Duration::from_millis(millis), "{failures} {random}");
        assert!(delay <= BACKOFF.delay_max(failures), "{failures} {random}");
    }
    for random in [u64::MAX, u64::MAX - 1, 1 << 32] {
        assert!(BACKOFF.delay(u32::MAX, random) <= BACKOFF.max);
    }
}

/// Keys that had failed for long came back together.
#[test]
fn the_delay_stays_spread_at_its_cap() {
    let delays: std::collections::BTreeSet<_> =
        (0..251).map(|random| BACKOFF.delay(99, random)).collect();
    assert_eq!(delays.len(), 251);
    assert_eq!(delays.last(), Some(&BACKOFF.max));
    // Even where the first delay is the maximum.
    let flat = Backoff {
        first: BACKOFF.max,
        max: BACKOFF.max,
    };
    assert_ne!(flat.delay(1, 0), flat.delay(1, 100));
    assert!(flat.delay(1, 250) <= flat.max);
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
        let late = publish(Some(cell), ME, entry("late", ME), None, stamp);
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
fn the_first_lease_of_a_key_sets_its_resident_and_later_ones_keep_it() {
    let claim_as = |cell: Option<&Cell>, resident, now| {
        lease(cell, "k", resident, &claim(ME, now), nonce()).unwrap()
    };
    let first = claim_as(None, Some("a"), 1_000);
    assert_eq!(first.marks.resident.as_deref(), Some("a"));
    let second = claim_as(Some(&first), Some("b"), 20_000);
    assert_eq!(second.marks.resident.as_deref(), Some("a"));
    // The cell of a variant has none.
    assert_eq!(claim_as(None, None, 1_000).marks.resident, None);
    // A cell that a mark made has none yet.
    let marked = pass_credentials(None, "k", at(9), nonce()).unwrap();
    let first = claim_as(Some(&marked), Some("a"), 1_000);
    assert_eq!(first.marks.resident.as_deref(), Some("a"));
}

#[test]
fn publishing_learns_the_selecting_fields_and_names_the_resident_by_them() {
    let cell = lease(None, "k", Some("plain"), &claim(ME, 1_000), nonce()).unwrap();
    let fields = strings(["referer", "dnt"]);
    let publish_at = |cell: &Cell, names: &[String], now| {
        let new = entry("new", ME);
        publish(Some(cell), ME, new, Some(&learned(names)), stamp(now)).unwrap()
    };
    let cell = publish_at(&cell, &fields, 2_000);
    assert_eq!(names(&cell), ["dnt", "referer"]);
    assert_eq!(cell.marks.resident.as_deref(), Some("by dnt referer"));
    assert!(cell.entry.is_some() && cell.lease.is_none());
    // An answer that names fewer fields forgets none of the others at once.
    let leased =
        |cell: &Cell, now| lease(Some(cell), "k", Some("x"), &claim(ME, now), nonce()).unwrap();
    let cell = publish_at(&leased(&cell, 10_000), &[], 10_000);
    assert_eq!(names(&cell), ["dnt", "referer"]);
    assert_eq!(cell.marks.resident.as_deref(), Some("by dnt referer"));
}

#[test]
fn a_field_that_no_answer_has_named_for_a_day_is_forgotten() {
    let day = u64::try_from(SELECTING_KEPT.as_millis()).unwrap();
    let both = strings(["dnt", "referer"]);
    let one = strings(["referer"]);
    let first = learn(None, "k", &both, stamp(1_000)).unwrap();
    for (now, expected) in [
        (1_000 + day - 1, &["dnt", "referer"][..]),
        (1_000 + day, &["referer"][..]),
    ] {
        let cell = lease(Some(&first), "k", Some("x"), &claim(ME, now), nonce()).unwrap();
        let published = publish(
            Some(&cell),
            ME,
            entry("new", ME),
            Some(&learned(&one)),
            stamp(now),
        )
        .unwrap();
        assert_eq!(names(&published), expected);
        let resident = format!("by {}", expected.join(" "));
        assert_eq!(published.marks.resident, Some(resident));
    }
}

#[test]
fn a_variants_cell_learns_nothing() {
    let cell = leased(ME);
    let cell = publish(Some(&cell), ME, entry("new", ME), None, stamp(0)).unwrap();
    assert_eq!((names(&cell), &cell.marks.resident), (vec![], &None));
}

#[test]
fn learning_drops_the_entry_of_the_resident_only_where_names_change() {
    let hour = u64::try_from(SEEN_PRECISION.as_millis()).unwrap();
    let day = u64::try_from(SELECTING_KEPT.as_millis()).unwrap();
    let known = strings(["referer"]);
    let mut cell = learn(None, "k", &known, stamp(1_000)).unwrap();
    assert_eq!((cell.version, cell.key.as_str()), (1, "k"));
    cell.entry = Some(entry("the resident's", OTHER));
    cell.marks.resident = Some("r".into());
    // Nothing to write while what is known is recent.
    assert_eq!(learn(Some(&cell), "k", &known, stamp(999 + hour)), None);
    assert_eq!(learn(Some(&cell), "k", &[], stamp(2_000)), None);
    for (what, names, now, stays) in [
        ("seen again", &known[..], 1_000 + hour, true),
        ("new", &strings(["dnt", "referer"]), 2_000, false),
        // A name that goes changes every selector of the key.
        ("forgotten", &[], 1_000 + day, false),
    ] {
        let next = learn(Some(&cell), "k", names, stamp(now)).unwrap();
        assert_eq!(next.entry.is_some(), stays, "{what}");
        assert_eq!(next.marks.resident.is_some(), stays, "{what}");
    }
    let seen = learn(Some(&cell), "k", &known, stamp(1_000 + hour)).unwrap();
    assert_eq!(seen.marks.vary[0].seen, at(1_000 + hour));
}

#[test]
fn learning_takes_nothing_from_the_holder_of_a_lease() {
    let cell = lease(None, "k", Some("r"), &claim(ME, 1_000), nonce()).unwrap();
    let next = learn(Some(&cell), "k", &strings(["dnt"]), stamp(2_000)).unwrap();
    assert_eq!(next.lease, cell.lease);
    assert!(publish(Some(&next), ME, entry("new", ME), None, stamp(2_000)).is_ok());
}

#[test]
fn a_pass_mark_counts_how_often_in_a_row_it_was_set() {
    let mut cell = leased(ME);
    cell.entry = Some(entry("old", OTHER));
    cell.marks.doubt = Some(Doubt {
        times: 2,
        since: at(0),
    });
    cell.marks.retry = Some(Retry {
        not_before: at(1),
        failures: 3,
        doubted: false,
    });
    for (now, times) in [(1_000, 1), (200_000, 2), (400_000, 3)] {
        let claimed = claim(ME, now);
        cell.lease = None;
        cell = lease(Some(&cell), "k", None, &claimed, nonce()).unwrap();
        cell = pass(Some(&cell), ME, PASS, None, stamp(now)).unwrap();
        let expected = Pass {
            until: at(now).plus(PASS),
            since: at(now),
            times,
        };
        assert_eq!(cell.marks.pass, Some(expected));
        assert_eq!((&cell.entry, cell.lease), (&None, None));
        assert_eq!((cell.marks.retry, cell.marks.doubt), (None, None));
    }
    // An answer that may be stored ends the row.
    let cell = lease(Some(&cell), "k", None, &claim(ME, 900_000), nonce()).unwrap();
    let mut cell = publish(Some(&cell), ME, entry("new", ME), None, stamp(900_000)).unwrap();
    cell.entry = None;
    let cell = lease(Some(&cell), "k", None, &claim(ME, 900_000), nonce()).unwrap();
    let cell = pass(Some(&cell), ME, PASS, None, stamp(900_000)).unwrap();
    assert_eq!(cell.marks.pass.unwrap().times, 1);
}

#[test]
fn a_failure_honours_the_later_of_backoff_and_the_origins_wish() {
    for (wish, expected) in [
        (None, 2_000),
        (Some(1_500), 2_000),
        (Some(2_000), 2_000),
        (Some(31_000), 31_000),
    ] {
        let failure = Failure {
            not_before: wish.map(at),
            ..FAILURE
        };
        let failed = fail(Some(&leased(ME)), ME, &failure, None, stamp(1_000)).unwrap();
        let retry = failed.marks.retry.unwrap();
        assert_eq!((retry.not_before, retry.failures), (at(expected), 1));
    }
}

/// An origin that comes back must not be asked for all keys at one moment.
#[test]
fn keys_whose_refreshes_failed_together_come_back_spread() {
    const KEYS: u64 = 2_000;
    let mut by_slice = std::collections::BTreeMap::new();
    for key in 0..KEYS {
        let failure = Failure {
            // As well mixed as what a platform gives.
            random: key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31),
            ..FAILURE
        };
        let failed = fail(Some(&leased(ME)), ME, &failure, None, stamp(1_000)).unwrap();
        let pause = failed.marks.retry.unwrap().not_before.since(at(2_000));
        // The first pause is one second, and up to a quarter longer.
        *by_slice.entry(pause.as_millis() / 25).or_insert(0_u64) += 1;
    }
    let most = by_slice.values().max().unwrap();
    assert!(*most <= KEYS / 8, "{by_slice:?}");
}

/// Keys that the origin had sent away with `Retry-After` came back together.
#[test]
fn the_pause_that_the_origin_wishes_is_spread_and_never_cut() {
    let marks: std::collections::BTreeSet<_> = (0..251)
        .map(|random| {
            let failure = Failure {
                not_before: Some(at(101_000)),
                random,
                ..FAILURE
            };
            let failed = fail(Some(&leased(ME)), ME, &failure, None, stamp(1_000)).unwrap();
            failed.marks.retry.unwrap().not_before
        })
        .collect();
    assert_eq!(marks.len(), 251);
    let longest = Backoff::spread_max(Duration::from_secs(100));
    assert_eq!(marks.first(), Some(&at(101_000)));
    assert_eq!(marks.last(), Some(&at(1_000).plus(longest)));
    assert_eq!(longest, Duration::from_secs(125));
}

/// The deadline of a cell's lease, from which on others may take over.
fn lease_is_over(cell: &Cell) -> u64 {
    cell.lease.unwrap().deadline.plus(SKEW).as_unix_millis()
}

/// A key whose publishing failed silently cost the origin a request for each lease.
#[test]
fn leases_that_are_not_settled_are_counted_and_pause_after_the_second() {
    let mut cell = leased(ME);
    assert_eq!(cell.marks.unsettled, None);
    // How many were not settled, and the pause after the lease that comes then.
    for (times, pause) in [
        (1, None),
        (2, Some(1)),
        (3, Some(2)),
        (4, Some(4)),
        (5, Some(8)),
    ] {
        let now = match cell.marks.unsettled {
            Some(mark) => mark.not_before.as_unix_millis().max(lease_is_over(&cell)),
            None => lease_is_over(&cell),
        };
        if let Some(mark) = cell.marks.unsettled.filter(|mark| mark.is_failing()) {
            let early = claim(OTHER, now - 1);
            let not_before = mark.not_before;
            let refused = lease(Some(&cell), "k", None, &early, nonce());
            assert_eq!(refused, Err(NoLease::Retry { not_before }));
            assert_eq!(cell.unpublishable(at(now - 1)), Some(not_before));
        }
        cell = lease(Some(&cell), "k", None, &claim(OTHER, now), nonce()).unwrap();
        let mark = cell.marks.unsettled.unwrap();
        let end = at(lease_is_over(&cell));
        let expected = pause.map_or(Time::default(), |pause| {
            end.plus(Duration::from_secs(pause))
        });
        assert_eq!((mark.times, mark.not_before), (times, expected), "{times}");
        let announced = cell.unpublishable(at(now));
        assert_eq!(announced, pause.map(|_| expected), "{times}");
    }
}

#[test]
fn whatever_settles_a_lease_ends_the_count_of_those_that_were_not() {
    let mut cell = leased(ME);
    for _ in 0..4 {
        let now = lease_is_over(&cell).max(
            cell.marks
                .unsettled
                .map_or(0, |mark| mark.not_before.as_unix_millis()),
        );
        cell = lease(Some(&cell), "k", None, &claim(ME, now), nonce()).unwrap();
    }
    assert_eq!(cell.marks.unsettled.unwrap().times, 4);
    let held = Some(&cell);
    for settled in [
        publish(held, ME, entry("new", ME), None, stamp(99_000)),
        pass(held, ME, PASS, None, stamp(99_000)),
        fail(held, ME, &FAILURE, None, stamp(99_000)),
        release(held, ME, stamp(99_000)),
    ] {
        assert_eq!(settled.unwrap().marks.unsettled, None);
    }
    let purged = |purge_kind| purge(&cell, purge_kind, stamp(99_000));
    assert_eq!(purged(Purge::Hard).marks.unsettled, None);
    assert!(purged(Purge::Soft).marks.unsettled.is_some());
    // A renewal settles nothing, and neither does a draft.
    let renewed = renew(held, ME, at(200_000), nonce()).unwrap();
    assert_eq!(renewed.marks.unsettled.unwrap().times, 4);
}

#[test]
fn answers_that_may_not_be_stored_are_counted_from_the_first() {
    let doubtful = Failure {
        doubt: true,
        ..FAILURE
    };
    let mut cell = leased(ME);
    cell.entry = Some(entry("old", OTHER));
    cell.lease = None;
    for (now, failure, expected) in [
        (1_000, &doubtful, Some((1, 1_000))),
        (5_000, &doubtful, Some((2, 1_000))),
        // A failure in between proves nothing about the resource.
        (9_000, &FAILURE, Some((2, 1_000))),
        (20_000, &doubtful, Some((3, 1_000))),
    ] {
        cell.marks.retry = None;
        cell = lease(Some(&cell), "k", None, &claim(ME, now), nonce()).unwrap();
        cell = fail(Some(&cell), ME, failure, None, stamp(now)).unwrap();
        let doubt = cell.marks.doubt.map(|doubt| (doubt.times, doubt.since));
        assert_eq!(doubt, expected.map(|(times, since)| (times, at(since))));
        assert!(cell.entry.is_some());
    }
}

#[test]
fn doubt_is_settled_by_three_answers_over_ten_seconds() {
    for (times, seconds, expected) in [
        (1, 60, false),
        (2, 60, false),
        (3, 9, false),
        (3, 10, true),
        (u32::MAX, 60, true),
    ] {
        let doubt = Doubt {
            times,
            since: at(1_000),
        };
        let now = at(1_000).plus(Duration::from_secs(seconds));
        assert_eq!(doubt.is_settled(now), expected, "{times} {seconds}");
        assert_eq!(
            Doubt::after(Some(doubt), now).times,
            times.saturating_add(1)
        );
    }
}

#[test]
fn an_error_page_is_shared_unless_a_purge_came() {
    let failure = Failure {
        brief: Some(entry("error", ME)),
        ..FAILURE
    };
    let failed = fail(Some(&leased(ME)), ME, &failure, None, stamp(1_000)).unwrap();
    assert_eq!(failed.entry.unwrap().body, Body::Inline("error".into()));
    assert_eq!(failed.marks.retry.unwrap().failures, 1);
    for kind in [Purge::Soft, Purge::Invalidate, Purge::Hard] {
        let purged = super::purge(&leased(ME), kind, stamp(1_000));
        let failed = fail(Some(&purged), ME, &failure, None, stamp(1_000)).unwrap();
        assert_eq!(failed.entry, None, "{kind:?}");
        assert_eq!(failed.marks.retry.unwrap().failures, 1);
    }
}

#[test]
fn a_hard_purge_forgets_what_the_key_has_learned_and_others_do_not() {
    let mut cell = lease(None, "k", Some("r"), &claim(ME, 1_000), nonce()).unwrap();
    cell = learn(Some(&cell), "k", &strings(["dnt"]), stamp(1_000)).unwrap();
    cell.marks.resident = Some("r".into());
    cell.marks.credentials_pass_until = Some(at(9_000));
    cell.marks.for_everyone_until = Some(at(9_000));
    cell.marks.pass = Some(Pass {
        until: at(9_000),
        since: at(1_000),
        times: 1,
    });
    cell.marks.doubt = Some(Doubt {
        times: 1,
        since: at(1_000),
    });
    for kind in [Purge::Soft, Purge::Invalidate] {
        let purged = super::purge(&cell, kind, stamp(2_000));
        let expected = Marks {
            softened: purged.marks.softened,
            invalidated: purged.marks.invalidated,
            ..cell.marks.clone()
        };
        assert_eq!(purged.marks, expected, "{kind:?}");
    }
    let purged = super::purge(&cell, Purge::Hard, stamp(2_000));
    let expected = Marks {
        purged: Some(at(2_000)),
        ..Marks::default()
    };
    assert_eq!(purged.marks, expected);
    assert!(purged.lease.unwrap().revoked);
}

#[test]
fn credentials_are_passed_until_the_latest_time_that_was_noted() {
    let first = pass_credentials(None, "k", at(5_000), nonce()).unwrap();
    assert_eq!(first.marks.credentials_pass_until, Some(at(5_000)));
    for (until, written) in [(4_000, false), (5_000, false), (5_001, true)] {
        let next = pass_credentials(Some(&first), "k", at(until), nonce());
        assert_eq!(next.is_some(), written, "{until}");
    }
}

#[test]
fn an_answer_for_everyone_is_noted_where_there_is_no_entry_until_one_is_not() {
    let first = note_for_everyone(None, "k", at(5_000), nonce()).unwrap();
    assert_eq!(first.marks.for_everyone_until, Some(at(5_000)));
    for (until, written) in [(5_000, false), (5_001, true)] {
        let next = note_for_everyone(Some(&first), "k", at(until), nonce());
        assert_eq!(next.is_some(), written, "{until}");
    }
    let held = lease(Some(&first), "k", Some("r"), &claim(ME, 1_000), nonce()).unwrap();
    let stored = publish(Some(&held), ME, entry("new", ME), None, stamp(1_000)).unwrap();
    assert_eq!(
        note_for_everyone(Some(&stored), "k", at(9_000), nonce()),
        None
    );
    // Also where it has been passed for longer.
    let mut both = pass_credentials(None, "k", at(9_000), nonce()).unwrap();
    both.marks.for_everyone_until = Some(at(5_000));
    let passed = pass_credentials(Some(&both), "k", at(8_000), nonce()).unwrap();
    assert_eq!(passed.marks.for_everyone_until, None);
    assert_eq!(passed.marks.credentials_pass_until, Some(at(9_000)));
}

#[test]
fn a_variant_that_is_asked_for_again_is_noted_once() {
    let cell = leased(ME);
    let published = publish(Some(&cell), ME, entry("new", ME), None, stamp(0)).unwrap();
    assert!(!published.marks.asked_again);
    let noted = asked_again(&published, nonce()).unwrap();
    assert!(noted.marks.asked_again);
    assert_eq!(
        (&noted.entry, noted.version),
        (&published.entry, published.version + 1)
    );
    assert_eq!(asked_again(&noted, nonce()), None);
    // A refresh is a request for what was there.
    let leased = lease(Some(&published), "k", None, &claim(ME, 9_000), nonce()).unwrap();
    let refreshed = publish(Some(&leased), ME, entry("new", ME), None, stamp(9_000)).unwrap();
    assert!(refreshed.marks.asked_again);
}

#[test]
fn a_variant_that_was_emptied_is_not_in_use() {
    let published = publish(Some(&leased(ME)), ME, entry("new", ME), None, stamp(0)).unwrap();
    let noted = asked_again(&published, nonce()).unwrap();
    let emptied = super::purge(&noted, Purge::Hard, stamp(1));
    assert!(!emptied.marks.asked_again);
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
    let names = strings(["referer"]);
    let brief = Failure {
        brief: Some(entry("error", ME)),
        ..FAILURE
    };
    let stamp = stamp(4_000);
    for (name, next, expected) in [
        (
            "publish",
            publish(Some(&cell), ME, entry("new", ME), None, stamp).unwrap(),
            &expected[..],
        ),
        (
            "publish another",
            publish(Some(&cell), ME, chunked(8, ME), None, stamp).unwrap(),
            &expected,
        ),
        (
            "renew the entry",
            publish(Some(&cell), ME, chunked(7, ME), None, stamp).unwrap(),
            &[],
        ),
        (
            "publish, and learn",
            publish(
                Some(&cell),
                ME,
                chunked(7, ME),
                Some(&learned(&names)),
                stamp,
            )
            .unwrap(),
            &[],
        ),
        (
            "pass",
            pass(Some(&cell), ME, PASS, None, stamp).unwrap(),
            &expected,
        ),
        (
            "fail",
            fail(Some(&cell), ME, &FAILURE, None, stamp).unwrap(),
            &[],
        ),
        (
            "fail, and share",
            fail(Some(&cell), ME, &brief, None, stamp).unwrap(),
            &expected,
        ),
        ("release", release(Some(&cell), ME, stamp).unwrap(), &[]),
        (
            "learn",
            learn(Some(&cell), "k", &names, stamp).unwrap(),
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
            done: 0,
        };
        super::draft(Some(cell), ME, Some(draft), None, nonce()).unwrap()
    };
    let cell = drafted(&leased(ME), 7);
    let expected = [(Nonce::new(7), 4, at(4_000))];
    let stamp = stamp(4_000);
    for (name, next, expected) in [
        (
            "publish",
            publish(Some(&cell), ME, chunked(7, ME), None, stamp).unwrap(),
            &[][..],
        ),
        (
            "publish another",
            publish(Some(&cell), ME, entry("new", ME), None, stamp).unwrap(),
            &expected,
        ),
        (
            "fail",
            fail(Some(&cell), ME, &FAILURE, None, stamp).unwrap(),
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
            lease(Some(&cell), "k", None, &claim(OTHER, 20_000), nonce()).unwrap(),
            &[(Nonce::new(7), 4, at(20_000))],
        ),
    ] {
        assert_eq!(orphans(&next), expected, "{name}");
    }
    // Left to another cell: not this one's affair any more.
    let left = super::draft(Some(&cell), ME, None, None, nonce()).unwrap();
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
    let listing = |added| Listing {
        added,
        again: &[],
        evicted: &[],
        garbage: &[],
        removed: &[],
    };
    let listed = |cell: &Cell| -> Vec<(String, bool)> {
        let variants = cell.marks.variants.iter();
        variants
            .map(|known| (known.id.clone(), known.again))
            .collect()
    };
    let one = enlist(None, "k", listing("a"), nonce()).unwrap();
    assert_eq!(enlist(Some(&one), "k", listing("a"), nonce()), None);
    let two = enlist(Some(&one), "k", listing("b"), nonce()).unwrap();
    assert_eq!(two.version, 2);
    assert_eq!(listed(&two), [("a".into(), false), ("b".into(), false)]);
    let garbage = [orphan(1), orphan(2), orphan(1)];
    let three = Listing {
        again: &strings(["b"]),
        evicted: &strings(["a"]),
        garbage: &garbage,
        ..listing("c")
    };
    let three = enlist(Some(&two), "k", three, nonce()).unwrap();
    assert_eq!(listed(&three), [("b".into(), true), ("c".into(), false)]);
    assert_eq!(three.orphans, [orphan(1), orphan(2)]);
    let four = Listing {
        garbage: &[orphan(2)],
        removed: &[orphan(1)],
        ..listing("d")
    };
    let four = enlist(Some(&three), "k", four, nonce()).unwrap();
    assert_eq!(four.orphans, [orphan(2)]);
    // What was found to be asked for again stays so.
    assert_eq!(
        listed(&four),
        [("b".into(), true), ("c".into(), false), ("d".into(), false)]
    );
}

#[test]
fn a_retry_mark_after_a_doubtful_answer_holds_while_its_entry_can_be_used() {
    let kept = entry("old", OTHER);
    assert!(kept.freshness.may_serve_on_error(at(2_000)));
    let mut touched = kept.clone();
    touched.invalidated = true;
    for (doubted, entry, expected) in [
        (true, Some(kept.clone()), true),
        (true, Some(touched.clone()), false),
        (true, None, false),
        (false, Some(kept), true),
        (false, Some(touched), true),
        (false, None, true),
    ] {
        let mut cell = leased(ME);
        cell.entry = entry;
        cell.marks.retry = Some(Retry {
            not_before: at(3_000),
            failures: 1,
            doubted,
        });
        let backoff = cell.backoff(at(2_000));
        assert_eq!(
            backoff,
            expected.then_some(at(3_000)),
            "{doubted} {:?}",
            cell.entry
        );
        assert_eq!(cell.backoff(at(3_000)), None);
    }
}

#[test]
fn a_failure_notes_whether_the_origin_answered() {
    for doubt in [true, false] {
        let failure = Failure { doubt, ..FAILURE };
        let failed = fail(Some(&leased(ME)), ME, &failure, None, stamp(1_000)).unwrap();
        assert_eq!(failed.marks.retry.unwrap().doubted, doubt);
    }
}

#[test]
fn a_body_that_a_304_confirms_is_not_garbage_though_its_entry_was_dropped_meanwhile() {
    let mut cell = leased(ME);
    cell.entry = Some(chunked(7, OTHER));
    cell.marks.resident = Some("r".into());
    let dropped = learn(Some(&cell), "k", &["dnt".to_owned()], stamp(1_000)).unwrap();
    assert_eq!((dropped.entry.is_some(), dropped.orphans.len()), (false, 1));
    let published = publish(Some(&dropped), ME, chunked(7, ME), None, stamp(2_000)).unwrap();
    assert_eq!(published.orphans, []);
}

/// A cell whose holder writes body 7, of which others may read what is complete.
fn written() -> Cell {
    let draft = Draft {
        body: Nonce::new(7),
        chunks: 4,
        done: 0,
    };
    let coming = Coming {
        entry: chunked(7, ME),
        names: Vec::new(),
        selector: String::new(),
    };
    super::draft(Some(&leased(ME)), ME, Some(draft), Some(&coming), nonce()).unwrap()
}

#[test]
fn what_is_complete_of_a_body_is_known_until_its_lease_ends() {
    let (skew, body) = (Duration::from_millis(100), Nonce::new(7));
    let cell = written();
    let lease = cell.lease.unwrap();
    let now = lease.start;
    let of = |cell: &Cell, now| cell.progress(ME, body, now, skew);
    assert_eq!(of(&cell, now), Progress::Written(0));
    let cell = progress(Some(&cell), ME, 3, nonce()).unwrap();
    assert_eq!(of(&cell, now), Progress::Written(3));
    assert!(cell.coming.is_some());
    // Two writes may cross; and there are no more than four.
    let earlier = progress(Some(&cell), ME, 2, nonce()).unwrap();
    assert_eq!(of(&earlier, now), Progress::Written(3));
    let later = progress(Some(&cell), ME, 9, nonce()).unwrap();
    assert_eq!(of(&later, now), Progress::Written(4));
    let renewed = renew(Some(&cell), ME, at(9_000), nonce()).unwrap();
    assert_eq!(of(&renewed, now), Progress::Written(3));
    assert!(renewed.coming.is_some());
    assert_eq!(
        progress(Some(&cell), Nonce::new(99), 4, nonce()),
        Err(Fenced::Lost)
    );

    let published = publish(Some(&cell), ME, chunked(7, ME), None, stamp(4_000)).unwrap();
    assert!(matches!(of(&published, now), Progress::Whole(_)));
    assert_eq!(published.coming, None);
    let gone = Progress::Gone;
    assert_eq!(of(&cell, lease.deadline.plus(skew)), gone);
    assert_eq!(cell.progress(Nonce::new(99), body, now, skew), gone);
    assert_eq!(cell.progress(ME, Nonce::new(8), now, skew), gone);
    for ended in [
        release(Some(&cell), ME, stamp(4_000)).unwrap(),
        fail(Some(&cell), ME, &FAILURE, None, stamp(4_000)).unwrap(),
        super::draft(Some(&cell), ME, None, None, nonce()).unwrap(),
        publish(Some(&cell), ME, entry("new", ME), None, stamp(4_000)).unwrap(),
    ] {
        assert_eq!(of(&ended, now), gone);
        assert_eq!(ended.coming, None);
    }
}

/// A store that refused a chunk in words of its own was asked for each visitor, one after
/// the other.
#[test]
fn what_cannot_be_stored_twice_in_a_row_is_passed_for_a_while() {
    let backoff = Backoff {
        first: Duration::from_secs(2),
        max: Duration::from_secs(60),
    };
    let once = unpublished(Some(&leased(ME)), ME, backoff, 0, stamp(4_000)).unwrap();
    assert_eq!((once.lease, once.unpublishable(at(4_000))), (None, None));
    let mut again = leased(ME);
    again.marks.unsettled = once.marks.unsettled;
    let twice = unpublished(Some(&again), ME, backoff, 0, stamp(5_000)).unwrap();
    assert_eq!(twice.unpublishable(at(5_000)), Some(at(7_000)));
    assert_eq!(twice.unpublishable(at(7_000)), None);
    let stored = publish(Some(&again), ME, entry("new", ME), None, stamp(5_000)).unwrap();
    assert_eq!(stored.marks.unsettled, None);
    let other = unpublished(Some(&again), Nonce::new(99), backoff, 0, stamp(5_000));
    assert_eq!(other, Err(Fenced::Lost));
}

/// Whoever comes after a purge may not have what was fetched before it.
#[test]
fn what_is_being_written_is_not_read_after_a_purge() {
    for purge in [Purge::Soft, Purge::Invalidate, Purge::Hard] {
        let purged = super::purge(&written(), purge, stamp(4_000));
        assert_eq!(purged.coming, None, "{purge:?}");
        // Nor may it be noted again.
        let lease = purged.lease.unwrap();
        let coming = written().coming;
        let again =
            super::draft(Some(&purged), ME, lease.draft, coming.as_deref(), nonce()).unwrap();
        assert_eq!(again.coming, None, "{purge:?}");
    }
}
