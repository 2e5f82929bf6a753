#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::cell::transition::Backoff;
use proptest::prelude::*;

pub(super) const LIMITS: Limits = Limits {
    slots: 8,
    streams: 3,
    lease: Duration::from_secs(5),
    clock_skew: Duration::from_millis(500),
    rate: None,
};

pub(super) const SETTINGS: BreakerSettings = BreakerSettings {
    failures: 3,
    pause: Backoff {
        first: Duration::from_secs(5),
        max: Duration::from_secs(120),
    },
    retry_after_max: Duration::from_secs(600),
};

fn at(millis: u64) -> Time {
    Time::from_unix_millis(1_000_000 + millis)
}

pub(super) fn id(number: u128) -> Nonce {
    Nonce::new(number)
}

fn take(record: &mut Record, holder: u128, class: Class, most: u32, now: Time) -> u32 {
    record.take(id(holder), (class, 0), most, now, &LIMITS)
}

fn report(record: &mut Record, outcome: Outcome, target: u32, now: Time) {
    let report = Report {
        outcome,
        target,
        epoch: record.breaker.epoch,
    };
    record.breaker.report(
        report,
        now,
        LIMITS.slots,
        &SETTINGS,
        u64::from(target) << 40,
    );
}

const BAD: Outcome = Outcome::Bad { retry_after: None };

/// A record whose breaker has just opened, and until when.
fn opened() -> (Record, Time) {
    let mut record = Record::default();
    for target in 1..=3 {
        report(&mut record, BAD, target, at(0));
    }
    let until = record.breaker.open_until(at(0)).unwrap();
    (record, until)
}

#[test]
fn no_more_slots_are_taken_than_there_are() {
    let mut record = Record::default();
    assert_eq!(take(&mut record, 1, Class::Fill, 5, at(0)), 5);
    assert_eq!(take(&mut record, 2, Class::Pass, 5, at(0)), 3);
    assert_eq!(take(&mut record, 3, Class::Fill, 1, at(0)), 0);
    assert_eq!(record.used(), 8);
    record.set(id(1), 0, PerClass::default(), at(0));
    assert_eq!(take(&mut record, 3, Class::Fill, 9, at(0)), 5);
}

#[test]
fn slots_of_a_dead_holder_are_free_after_a_lease_and_the_skew() {
    let mut record = Record::default();
    take(&mut record, 1, Class::Fill, 8, at(0));
    let full = record
        .clone()
        .at(at(5_499), &LIMITS, &SETTINGS, &Sightings::new(false));
    assert_eq!(full.free(Class::Fill, 0, at(5_499), &LIMITS), 0);
    let free = record.at(at(5_500), &LIMITS, &SETTINGS, &Sightings::new(false));
    assert_eq!(free.free(Class::Fill, 0, at(5_500), &LIMITS), 8);
}

#[test]
fn a_waiting_class_gets_its_reserve_and_no_class_loses_slots_to_one_that_does_not_wait() {
    let mut record = Record::default();
    assert_eq!(take(&mut record, 1, Class::Fill, 9, at(0)), 8);
    assert!(record.note_waiting(id(2), Class::Unsafe, at(0)));
    // Two fills end. They leave their slots to unsafe requests.
    let fills = |fill| PerClass {
        fill,
        ..PerClass::default()
    };
    let slots = fills(6);
    record.set(id(1), 0, slots, at(5_000));
    assert_eq!(take(&mut record, 1, Class::Fill, 1, at(10)), 0);
    assert_eq!(take(&mut record, 2, Class::Unsafe, 9, at(10)), 2);
    // The reserve is used, so fills may have what becomes free.
    let slots = fills(5);
    record.set(id(1), 0, slots, at(5_000));
    assert_eq!(take(&mut record, 1, Class::Fill, 1, at(20)), 1);
    // Nobody has waited for long: nothing is kept free.
    let later = at(6_000);
    let mut record = record.at(later, &LIMITS, &SETTINGS, &Sightings::new(false));
    assert_eq!(take(&mut record, 3, Class::Fill, 9, later), 8);
}

/// Sixty slow URLs of one visitor took all slots, and logins waited for the end of the slow
/// requests, for longer than they may.
#[test]
fn slow_pages_of_one_class_leave_a_slot_to_each_other() {
    let limits = Limits {
        slots: 16,
        ..LIMITS
    };
    let foreground = [Class::Fill, Class::Pass, Class::Unsafe];
    for flood in foreground {
        let mut record = Record::default();
        assert_eq!(record.take(id(1), (flood, 0), 60, at(0), &limits), 14);
        for (holder, class) in (2..).zip(foreground) {
            let expected = u32::from(class != flood);
            let taken = record.take(id(holder), (class, 0), 1, at(1), &limits);
            assert_eq!(taken, expected, "{flood:?}, {class:?}");
        }
        assert_eq!(record.used(), 16);
        // One that has used its slot gets it again.
        record.set(id(3), 0, PerClass::default(), at(2));
        assert_eq!(record.take(id(1), (flood, 0), 60, at(2), &limits), 0);
    }
}

/// The slot of a login that had ended went to the next slow page, and none was left for the
/// next login.
#[test]
fn slow_pages_do_not_get_the_idle_slot_that_is_left_to_logins() {
    let limits = Limits {
        slots: 16,
        ..LIMITS
    };
    let mut record = Record::default();
    assert_eq!(record.take(id(1), (Class::Fill, 0), 60, at(0), &limits), 14);
    assert_eq!(record.take(id(1), (Class::Unsafe, 0), 1, at(0), &limits), 1);
    let may = |record: &Record, to| record.may_reuse(Class::Unsafe, to, at(1), &limits);
    assert!(!may(&record, Class::Fill));
    assert!(may(&record, Class::Unsafe) && may(&record, Class::Pass));
    // There are others.
    let mut few = Record::default();
    few.take(id(1), (Class::Unsafe, 0), 14, at(0), &limits);
    assert!(may(&few, Class::Fill));
}

#[test]
fn a_class_gets_its_reserve_though_all_others_have_waited_lately() {
    let mut record = Record::default();
    for class in Class::COUNTED {
        record.note_waiting(id(9), class, at(0));
    }
    take(&mut record, 1, Class::Refresh, 5, at(0));
    take(&mut record, 2, Class::Pass, 9, at(0));
    for class in [Class::Fill, Class::Unsafe] {
        assert!(take(&mut record, 3, class, 1, at(1)) == 1, "{class:?}");
    }
    // The smallest budget has one slot for each.
    let limits = Limits {
        slots: SLOTS_MIN,
        ..LIMITS
    };
    let mut record = Record::default();
    for class in Class::COUNTED {
        record.note_waiting(id(9), class, at(0));
    }
    for class in Class::COUNTED {
        let taken = record.take(id(1), (class, 0), 4, at(1), &limits);
        assert_eq!(taken, 1, "{class:?}");
    }
}

#[test]
fn a_refresh_that_waits_gets_one_slot() {
    let mut record = Record::default();
    take(&mut record, 1, Class::Fill, 8, at(0));
    record.note_waiting(id(2), Class::Refresh, at(0));
    let slots = PerClass {
        fill: 7,
        ..PerClass::default()
    };
    record.set(id(1), 0, slots, at(5_000));
    assert_eq!(take(&mut record, 1, Class::Fill, 1, at(1)), 0);
    assert_eq!(take(&mut record, 2, Class::Refresh, 3, at(1)), 1);
}

#[test]
fn streams_count_apart() {
    let mut record = Record::default();
    assert_eq!(take(&mut record, 1, Class::Stream, 9, at(0)), 3);
    assert_eq!(take(&mut record, 1, Class::Fill, 9, at(0)), 8);
}

#[test]
fn a_note_that_an_instance_waits_is_not_written_too_often() {
    let mut record = Record::default();
    assert!(record.note_waiting(id(1), Class::Fill, at(0)));
    assert!(!record.note_waiting(id(2), Class::Fill, at(499)));
    assert!(record.others_wait(id(2), at(499), &LIMITS));
    assert!(!record.others_wait(id(1), at(499), &LIMITS));
    assert!(record.note_waiting(id(2), Class::Fill, at(500)));
    assert!(!record.others_wait(id(1), at(2_000), &LIMITS));
}

#[test]
fn one_broken_path_does_not_open_the_breaker() {
    let mut record = Record::default();
    for _ in 0..100 {
        report(&mut record, BAD, 7, at(0));
    }
    assert_eq!(record.breaker.phase, Phase::Closed);
}

#[test]
fn a_success_in_between_is_not_a_row() {
    let mut record = Record::default();
    for target in 0..6 {
        report(&mut record, BAD, target, at(0));
        report(&mut record, Outcome::Good, target, at(0));
    }
    assert_eq!(record.breaker.phase, Phase::Closed);
}

#[test]
fn half_of_twenty_failures_open_it_though_others_succeed() {
    let mut record = Record::default();
    for number in 0..19 {
        let outcome = if number % 2 == 0 { Outcome::Good } else { BAD };
        report(&mut record, outcome, number, at(100));
        assert_eq!(record.breaker.phase, Phase::Closed, "{number}");
    }
    report(&mut record, BAD, 19, at(100));
    assert!(record.breaker.open_until(at(100)).is_some());
}

#[test]
fn failures_of_more_than_ten_seconds_do_not_add_up() {
    let mut record = Record::default();
    for number in 0..60_u32 {
        let outcome = if number % 2 == 0 { Outcome::Good } else { BAD };
        report(&mut record, outcome, number, at(u64::from(number) * 600));
    }
    assert_eq!(record.breaker.phase, Phase::Closed);
}

#[test]
fn failures_to_connect_open_it_for_a_single_path() {
    let mut record = Record::default();
    for number in 0..3_u32 {
        let report = Report {
            outcome: Outcome::Unreachable,
            target: 7,
            epoch: 0,
        };
        let random = u64::from(number + 1) << 32;
        record
            .breaker
            .report(report, at(0), LIMITS.slots, &SETTINGS, random);
    }
    assert!(record.breaker.open_until(at(0)).is_some());
}

#[test]
fn while_open_nothing_goes_and_then_one_probe_however_many_ask() {
    let (mut record, until) = opened();
    assert_eq!(take(&mut record, 1, Class::Fill, 1, at(1)), 0);
    let taken: u32 = (1..=20)
        .map(|holder| take(&mut record, holder, Class::Fill, 4, until))
        .sum();
    assert_eq!(taken, 1);
}

#[test]
fn half_open_admits_one_two_four_and_then_all() {
    let (mut record, until) = opened();
    for (step, expected) in [1, 2, 4, 8].into_iter().enumerate() {
        let mut holders = Vec::new();
        for holder in 0..20 {
            let holder = 100 * step as u128 + holder;
            if take(&mut record, holder, Class::Fill, 1, until) == 1 {
                holders.push(holder);
            }
        }
        assert_eq!(holders.len(), expected, "{step}");
        for holder in holders {
            record.set(id(holder), record.breaker.epoch, PerClass::default(), until);
            report(&mut record, Outcome::Good, 0, until);
        }
    }
    assert_eq!(record.breaker.phase, Phase::Closed);
    assert_eq!(record.breaker.openings, 0);
}

#[test]
fn a_failed_probe_doubles_the_pause_up_to_a_bound() {
    let (mut record, mut until) = opened();
    let mut before = Duration::ZERO;
    for opening in 0..12_u32 {
        let now = until.plus(Duration::from_secs(1));
        record = record.at(now, &LIMITS, &SETTINGS, &Sightings::new(false));
        assert_eq!(
            take(&mut record, u128::from(opening), Class::Fill, 1, now),
            1
        );
        report(&mut record, BAD, opening, now);
        until = record.breaker.open_until(now).unwrap();
        let pause = until.since(now);
        assert!(
            pause >= before.min(Duration::from_secs(96)),
            "{opening}: {pause:?}"
        );
        assert!(pause <= SETTINGS.pause.max, "{opening}: {pause:?}");
        before = pause;
    }
}

#[test]
fn the_path_whose_probe_failed_leaves_the_next_probe_to_others_for_a_while() {
    let (mut record, until) = opened();
    record.take(id(1), (Class::Fill, 7), 1, until, &LIMITS);
    report(&mut record, BAD, 7, until);
    let until = record.breaker.open_until(until).unwrap();
    let mut record = record.at(until, &LIMITS, &SETTINGS, &Sightings::new(false));
    assert_eq!(record.take(id(2), (Class::Fill, 7), 1, until, &LIMITS), 0);
    assert_eq!(record.take(id(3), (Class::Fill, 8), 1, until, &LIMITS), 1);
}

#[test]
fn retry_after_extends_the_pause_up_to_its_bound() {
    for (asked, expected) in [(60, 60), (6_000, 600)] {
        let (mut record, _) = opened();
        // Of a request that was sent before the breaker opened.
        let late = Report {
            outcome: Outcome::Bad {
                retry_after: Some(Duration::from_secs(asked)),
            },
            target: 9,
            epoch: 0,
        };
        record
            .breaker
            .report(late, at(0), LIMITS.slots, &SETTINGS, 0);
        let until = record.breaker.open_until(at(0)).unwrap();
        assert_eq!(until.since(at(0)), Duration::from_secs(expected));
    }
}

#[test]
fn what_was_sent_before_it_opened_does_not_close_it() {
    let (mut record, until) = opened();
    take(&mut record, 1, Class::Fill, 1, until);
    for _ in 0..20 {
        let late = Report {
            outcome: Outcome::Good,
            target: 9,
            epoch: 0,
        };
        record
            .breaker
            .report(late, until, LIMITS.slots, &SETTINGS, 0);
    }
    assert_eq!(record.breaker.phase, Phase::HalfOpen { limit: 1, good: 0 });
}

/// A record that knows a page that worked, of target 99.
fn with_known_good() -> Record {
    let mut record = Record::default();
    record.breaker.checks.known_good = KnownGood::new("/", None, false, 99);
    assert!(record.breaker.checks.known_good.is_some());
    record
}

#[test]
fn a_visitor_with_pages_that_fail_does_not_open_the_breaker_while_another_works() {
    let mut record = with_known_good();
    for round in 0..100_u32 {
        let now = at(u64::from(round) * 1_000);
        for target in 0..20 {
            report(&mut record, BAD, 100 * (round + 1) + target, now);
        }
        assert_eq!(record.breaker.phase, Phase::Closed, "{round}");
        // One check decides, and none follows before it is forgotten.
        let is_checked = record.breaker.checks.state.is_under_way();
        assert_eq!(is_checked, round.is_multiple_of(5), "{round}");
        if is_checked {
            report(&mut record, Outcome::CheckPassed, 99, now);
        }
        assert!(record.breaker.failed.len() <= 3);
    }
}

#[test]
fn a_check_that_fails_opens_the_breaker_for_as_long_as_the_origin_asks() {
    let mut record = with_known_good();
    for target in 1..=3 {
        report(&mut record, BAD, target, at(0));
    }
    assert_eq!(record.breaker.phase, Phase::Closed);
    let failed = Outcome::CheckFailed {
        retry_after: Some(Duration::from_secs(60)),
    };
    report(&mut record, failed, 99, at(10));
    let until = record.breaker.open_until(at(10)).unwrap();
    assert_eq!(until.since(at(10)), Duration::from_secs(60));
    // The next page that works takes its place, even a style sheet.
    let page = KnownGood::new("/site.css", None, false, 98);
    assert!(record.breaker.checks.prefers(page.as_ref()));
}

/// The check of a page failed after another page had worked and taken its place: the breaker
/// opened, and the page that worked counted as failed.
#[test]
fn a_check_of_a_page_that_was_replaced_meanwhile_does_not_open_the_breaker() {
    for fails_since in [false, true] {
        let mut record = with_known_good();
        for target in 1..=3 {
            report(&mut record, BAD, target, at(0));
        }
        assert!(record.breaker.checks.state.is_under_way());
        record.breaker.checks.known_good = KnownGood::new("/other", None, false, 98);
        report(&mut record, Outcome::Good, 98, at(10));
        if fails_since {
            for target in 1..=3 {
                report(&mut record, BAD, target, at(15));
            }
        }
        let failed = Outcome::CheckFailed { retry_after: None };
        report(&mut record, failed, 99, at(20));
        assert_eq!(record.breaker.phase, Phase::Closed);
        // Only what has failed since is checked, by the other page.
        assert_eq!(record.breaker.checks.state.is_under_way(), fails_since);
        let css = KnownGood::new("/site.css", None, false, 97);
        assert!(!record.breaker.checks.prefers(css.as_ref()));
        if fails_since {
            report(&mut record, failed, 98, at(30));
            assert!(record.breaker.open_until(at(30)).is_some());
        }
    }
}

/// The path of the page that is remembered was among those that failed, with a visitor's
/// query: the breaker opened without a check.
#[test]
fn a_failure_of_the_remembered_pages_path_does_not_replace_the_check() {
    for targets in [[99, 1, 2], [1, 99, 2], [1, 2, 99]] {
        let mut record = with_known_good();
        for target in targets {
            report(&mut record, BAD, target, at(0));
        }
        assert_eq!(record.breaker.phase, Phase::Closed, "{targets:?}");
        assert!(record.breaker.checks.state.is_under_way(), "{targets:?}");
        let failed = Outcome::CheckFailed { retry_after: None };
        report(&mut record, failed, 99, at(10));
        assert!(record.breaker.open_until(at(10)).is_some(), "{targets:?}");
    }
}

#[test]
fn failures_to_connect_need_no_check() {
    let mut record = with_known_good();
    for target in 1..=3 {
        report(&mut record, Outcome::Unreachable, target, at(0));
    }
    assert!(record.breaker.open_until(at(0)).is_some());
}

#[test]
fn a_probe_that_fails_is_checked_and_counts_as_good_if_the_origin_passes() {
    for passes in [true, false] {
        let (opened, until) = opened();
        let mut record = with_known_good();
        record.breaker = Breaker {
            checks: record.breaker.checks,
            ..opened.breaker
        };
        assert_eq!(take(&mut record, 1, Class::Fill, 1, until), 1);
        report(&mut record, BAD, 7, until);
        assert_eq!(record.breaker.phase, Phase::HalfOpen { limit: 1, good: 0 });
        if passes {
            report(&mut record, Outcome::CheckPassed, 99, until);
            // The visitor goes on.
            report(&mut record, BAD, 8, until);
            assert_eq!(record.breaker.phase, Phase::HalfOpen { limit: 2, good: 0 });
        } else {
            let outcome = Outcome::CheckFailed { retry_after: None };
            report(&mut record, outcome, 99, until);
            assert!(record.breaker.open_until(until).is_some());
        }
        assert!(record.breaker.checks.known_good.is_some());
    }
}

#[test]
fn a_check_that_finds_no_slot_opens_the_breaker_unless_a_request_succeeded() {
    for succeeds in [true, false] {
        let mut record = with_known_good();
        for target in 1..=3 {
            report(&mut record, BAD, target, at(0));
        }
        if succeeds {
            report(&mut record, Outcome::Good, 4, at(1));
        }
        report(&mut record, Outcome::CheckBusy, 99, at(5_000));
        let is_open = record.breaker.open_until(at(5_000)).is_some();
        assert_eq!(is_open, !succeeds);
        assert_eq!(record.breaker.checks.state, Check::None);
    }
}

/// Half open, two slots counted, and requests for pages that fail took them one after the
/// other for as long as the check waited. The breaker opened for the pages that work.
#[test]
fn a_check_that_pages_that_fail_kept_from_a_slot_is_repeated_while_half_open() {
    let target = 99;
    for others_fail in [true, false] {
        let (mut record, until) = opened();
        record.breaker.checks = with_known_good().breaker.checks;
        record.take(id(1), (Class::Fill, 1), 1, until, &LIMITS);
        report(&mut record, BAD, 1, until);
        assert!(record.breaker.checks.state.is_under_way());
        for _ in 0..usize::from(others_fail) * 3 {
            report(&mut record, BAD, 1, until.plus(CHECK_TIME / 2));
        }
        let mut now = until.plus(CHECK_TIME);
        report(&mut record, Outcome::CheckBusy, target, now);
        let is_repeated = record.breaker.checks.state.is_under_way();
        assert_eq!(is_repeated, others_fail);
        assert_eq!(record.breaker.open_until(now).is_some(), !others_fail);
        if others_fail {
            // Nothing has ended since: the slots wait for the origin.
            now = now.plus(CHECK_TIME);
            report(&mut record, Outcome::CheckBusy, target, now);
            assert!(record.breaker.open_until(now).is_some());
        }
    }
}

/// The share of failures in the last ten seconds opened the breaker, though requests had
/// succeeded while the check waited for a slot.
#[test]
fn the_share_of_failures_before_a_success_does_not_count_if_the_check_finds_no_slot() {
    for succeeds in [true, false] {
        let mut record = with_known_good();
        for number in 0..10 {
            report(&mut record, Outcome::Good, 50, at(0));
            report(&mut record, BAD, 1 + number % 2, at(0));
        }
        assert!(record.breaker.checks.state.is_under_way());
        if succeeds {
            report(&mut record, Outcome::Good, 50, at(100));
            report(&mut record, BAD, 1, at(200));
        }
        report(&mut record, Outcome::CheckBusy, 99, at(5_000));
        let is_open = record.breaker.open_until(at(5_000)).is_some();
        assert_eq!(is_open, !succeeds);
    }
}

#[test]
fn a_check_whose_instance_died_is_repeated() {
    let mut record = with_known_good();
    for target in 1..=3 {
        report(&mut record, BAD, target, at(0));
    }
    let begun = record.breaker.checks.state;
    assert!(begun.is_under_way());
    report(&mut record, BAD, 4, at(4_999));
    assert_eq!(record.breaker.checks.state, begun);
    report(&mut record, BAD, 5, at(5_000));
    assert_ne!(record.breaker.checks.state, begun);
    assert!(record.breaker.checks.state.is_under_way());
}

/// A page that has just worked, of target 1.
fn page(kind: &'static str, took: Duration) -> Option<KnownGood> {
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", http::HeaderValue::from_static(kind));
    KnownGood::new("/x", None, false, 1)
        .unwrap()
        .answered(&headers, took)
}

#[test]
fn a_page_of_the_application_is_preferred_to_its_style_sheet_and_a_quick_one_to_a_slow_one() {
    let mut checks = Checks::default();
    assert!(checks.prefers(None));
    let (quick, slow) = (Duration::from_secs(1), Duration::from_secs(2));
    for (kind, took) in [
        ("text/css", slow),
        ("text/css", quick),
        ("text/html; charset=utf-8", slow),
        ("application/json", quick),
    ] {
        let page = page(kind, took);
        assert!(
            checks.prefers(None) && checks.prefers(page.as_ref()),
            "{kind}"
        );
        checks.known_good = page.clone();
        assert!(!checks.prefers(page.as_ref()), "{kind}");
    }
    assert!(!checks.prefers(None));
}

#[test]
fn a_page_too_slow_for_a_check_is_not_remembered() {
    for (millis, expected) in [(2_500, true), (2_501, false)] {
        let page = page("text/html", Duration::from_millis(millis));
        assert_eq!(page.is_some(), expected, "{millis} ms");
    }
}

#[test]
fn a_page_and_a_check_that_cannot_be_right_do_not_count() {
    let long = format!("/{}", "x".repeat(512));
    for path in ["", "page", &long] {
        assert_eq!(KnownGood::new(path, None, false, 1), None, "{path}");
    }
    assert_eq!(KnownGood::new("/", Some(&long), false, 1), None);
    let mut record = with_known_good();
    // As another version, or something else, may have written it.
    let text = serde_json::to_string(&record).unwrap();
    let text = text.replace("\"path\":\"/\"", &format!("\"path\":\"{long}\""));
    let read: Record = serde_json::from_str(&text).unwrap();
    let read = read.at(at(0), &LIMITS, &SETTINGS, &Sightings::new(false));
    assert_eq!(read.breaker.checks.known_good, None);
    for state in [
        Check::UnderWay {
            until: at(1_000_000),
        },
        Check::Passed {
            until: at(1_000_000),
        },
    ] {
        record.breaker.checks.state = state;
        record = record.at(at(0), &LIMITS, &SETTINGS, &Sightings::new(false));
        assert_eq!(record.breaker.checks.state, Check::None);
    }
}

#[test]
fn times_that_cannot_be_right_do_not_count() {
    let mut record = Record::default();
    take(&mut record, 1, Class::Fill, 8, at(1_000_000));
    record.note_waiting(id(2), Class::Pass, at(1_000_000));
    record.breaker.phase = Phase::Open {
        until: at(10_000_000),
    };
    let record = record.at(at(0), &LIMITS, &SETTINGS, &Sightings::new(false));
    assert_eq!(record.used(), 0);
    assert_eq!(record.breaker.open_until(at(0)), None);
    assert_eq!(record.waiting.pass.unwrap().seen, at(500));
}

#[test]
fn a_record_is_read_back_and_damage_shows() {
    let (mut record, until) = opened();
    take(&mut record, 1, Class::Stream, 2, until);
    record.note_waiting(id(1), Class::Unsafe, until);
    let record = record.written(id(5), at(0), None);
    let value = encode(&record).unwrap();
    assert_eq!(decode(&value), Ok(record));
    for end in 0..value.len() {
        assert!(decode(&value[..end]).is_err(), "{end}");
    }
    for index in 1..value.len() {
        let mut damaged = value.to_vec();
        damaged[index] ^= 1;
        assert_eq!(decode(&damaged), Err(Unreadable::Corrupt), "{index}");
    }
    let mut newer = value.to_vec();
    newer[0] += 1;
    assert_eq!(decode(&newer), Err(Unreadable::Newer));
}

proptest! {
    #[test]
    fn decoding_never_panics(value: Vec<u8>) {
        let _ = decode(&value);
    }

    /// Whatever holders take, renew and give back, the budget holds, and a class that
    /// waits alone for long enough gets a slot once others end.
    #[test]
    fn the_budget_holds(steps in prop::collection::vec((0..6_u8, 0..5_u128, 0..4_usize, 1..6_u32), 1..80)) {
        let mut record = Record::default();
        let mut now = at(0);
        for (action, holder, class, number) in steps {
            let class = Class::COUNTED[class];
            record = record.at(now, &LIMITS, &SETTINGS, &Sightings::new(false));
            match action {
                0 | 1 => { take(&mut record, holder, class, number, now); }
                2 => record.set(id(holder), record.breaker.epoch, PerClass::default(), now),
                3 => {
                    record.note_waiting(id(holder), class, now);
                }
                4 => report(&mut record, BAD, number, now),
                _ => report(&mut record, Outcome::Good, number, now),
            }
            prop_assert!(record.used() <= LIMITS.slots);
            now = now.plus(Duration::from_millis(u64::from(number) * 200));
        }
    }
}

/// Hundreds of instances write this record: classes of which a holder has no slot take
/// no room. Records that have them in full are read as well.
#[test]
fn a_record_of_many_instances_is_short() {
    let mut record = Record::default();
    for number in 0..400 {
        let slots = PerClass {
            fill: 1,
            ..PerClass::default()
        };
        record.set(id(u128::MAX - number), 7, slots, at(5_000));
    }
    let value = encode(&record).unwrap();
    assert!(value.len() < 400 * 110, "{}", value.len());
    assert_eq!(decode(&value), Ok(record));
    let full = r#"{"fill":1,"pass":0,"unsafe":0,"refresh":2,"stream":0}"#;
    let slots: PerClass<u32> = serde_json::from_str(full).unwrap();
    assert_eq!((slots.fill, slots.refresh, slots.counted()), (1, 2, 3));
}
