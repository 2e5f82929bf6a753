//! Tests of the tokens, with the slots that have them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::budget::SettingsMark;
use crate::budget::{BreakerSettings, Limits, Phase, Record};
use crate::cell::transition::Backoff;
use crate::origin::slot::{Pool, Slot};
use crate::origin::slots::{KNOWN_FOR, Known, LINGER, Settings, Slots, Verdict};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const NOW: Time = Time::from_unix_millis(1_000_000);

/// Notes what comes back, and what is sent.
#[derive(Default)]
struct Back {
    grant: Cell<Option<u64>>,
    token: Cell<Option<Token>>,
    spent: Cell<Option<Token>>,
}

impl Pool for Back {
    fn give_back(&self, grant: u64, _: Class, token: Option<Token>) {
        self.grant.set(Some(grant));
        self.token.set(token);
    }

    fn spend(&self, token: Token) {
        self.spent.set(Some(token));
    }

    fn become_stream(&self, _: u64, _: Class) -> bool {
        false
    }
}

fn settings(keeps_idle: bool) -> Settings {
    Settings {
        limits: Limits {
            slots: 16,
            streams: 2,
            lease: Duration::from_secs(5),
            clock_skew: Duration::from_millis(500),
            rate: None,
        },
        local_slots: 2,
        breaker: BreakerSettings {
            failures: 5,
            pause: Backoff {
                first: Duration::from_secs(5),
                max: Duration::from_secs(60),
            },
            retry_after_max: Duration::from_secs(600),
        },
        keeps_idle,
        mark: SettingsMark::of("", ""),
    }
}

/// What the tests of the rate need: an instance, and what its slots do.
struct Rated {
    settings: Settings,
    slots: Slots<()>,
    back: Rc<Back>,
    record: Record,
}

impl Rated {
    fn new(keeps_idle: bool, per_hour: u32) -> Self {
        let mut settings = settings(keeps_idle);
        settings.limits.rate = RateLimit::new(per_hour, settings.limits.clock_skew);
        Rated {
            settings,
            slots: Slots::new(Nonce::new(1)),
            back: Rc::default(),
            record: Record::default(),
        }
    }

    fn queue(&mut self, class: Class, needs_token: bool) -> Rc<RefCell<Option<Verdict>>> {
        let verdict = Rc::default();
        self.slots.queue((class, 7), needs_token, (), &verdict);
        verdict
    }

    fn write(&mut self, random: u128, now: Time) {
        let Rated {
            settings,
            slots,
            record,
            ..
        } = self;
        let current = record.clone().at(
            now,
            &settings.limits,
            &settings.breaker,
            &crate::budget::Sightings::new(false),
        );
        let draft = slots.draft(&current, Backing::Shared, now, random, settings);
        let written = draft.writes;
        if written {
            *record = draft.record.clone();
        }
        let known = Known {
            record: draft.record.clone(),
            raw: None,
            backing: Backing::Shared,
            at: now,
        };
        slots.note(known, draft, written, settings);
    }

    fn serve(&mut self, now: Time) -> bool {
        let pool: Rc<dyn Pool> = Rc::<Back>::clone(&self.back);
        let served = self.slots.serve_one(&pool, false, now, &self.settings);
        served.is_some()
    }

    /// The request of a slot is sent.
    fn send(&mut self, slot: &mut Slot, now: Time) {
        slot.spend(now).unwrap();
        if let Some(token) = self.back.spent.take() {
            self.slots.spend(token);
        }
    }

    /// A request ends, whether it was sent or not.
    fn end(&mut self, slot: Slot, now: Time) {
        let class = slot.class();
        drop(slot);
        let (grant, token) = (self.back.grant.take().unwrap(), self.back.token.take());
        self.slots.give_back(grant, class, token, now);
    }

    fn left(&self, class: Class, now: Time) -> u32 {
        self.record.tokens(class, now, &self.settings.limits)
    }
}

fn slot(verdict: &Rc<RefCell<Option<Verdict>>>) -> Option<Slot> {
    match verdict.borrow_mut().take() {
        Some(Verdict::Slot(slot)) => Some(slot),
        Some(Verdict::Halted(_)) | None => None,
    }
}

#[test]
fn each_request_takes_a_token_of_the_rate_and_the_rest_is_told_when() {
    // Four for each class, one at once.
    let mut rated = Rated::new(true, 16);
    let verdicts: Vec<_> = (0..4).map(|_| rated.queue(Class::Pass, true)).collect();
    let (mut sent, mut now) = (0, NOW);
    for number in 1..100 {
        rated.write(number, now);
        while rated.serve(now) {
            let mut slot = verdicts.iter().find_map(slot).unwrap();
            rated.send(&mut slot, now);
            rated.end(slot, now);
            sent += 1;
        }
        now = now.plus(Duration::from_millis(100));
    }
    assert_eq!(sent, 1);
    assert!(!rated.slots.has_waiters());
    assert_eq!(rated.left(Class::Pass, now), 0);
    let told = verdicts.iter().filter(
        |verdict| matches!(&*verdict.borrow(), Some(Verdict::Halted(halt)) if halt.until > now),
    );
    assert_eq!(told.count(), 3);
    // An instance that has looked says so at once, to each class apart.
    rated.write(100, now);
    let until = |class| rated.slots.halted(class, 7, now, &rated.settings);
    assert!(until(Class::Pass).is_some());
    assert!(until(Class::Unsafe).is_none());
}

/// Visitors who waited for one page left 35, 28, 14 and 0 requests of the hour's first.
#[test]
fn a_request_that_loses_its_election_gives_its_token_back_with_its_slot() {
    for keeps_idle in [true, false] {
        let mut rated = Rated::new(keeps_idle, 480);
        let whole = rated.left(Class::Fill, NOW);
        let verdict = rated.queue(Class::Fill, true);
        rated.write(7, NOW);
        assert!(rated.serve(NOW));
        assert_eq!(rated.left(Class::Fill, NOW), whole - 1);
        rated.end(slot(&verdict).unwrap(), NOW);
        let pause = if keeps_idle { LINGER } else { Duration::ZERO };
        let later = NOW.plus(pause);
        assert_eq!(rated.slots.next(NOW, &rated.settings), Some(later));
        rated.write(8, later);
        assert_eq!(rated.left(Class::Fill, later), whole);
        // One that is sent does not, whether or not its instance says so.
        let verdict = rated.queue(Class::Fill, true);
        rated.write(9, later);
        assert!(rated.serve(later));
        let mut slot = slot(&verdict).unwrap();
        rated.send(&mut slot, later);
        rated.end(slot, later);
        rated.write(10, later.plus(pause));
        assert_eq!(rated.left(Class::Fill, later), whole - 1);
        let lapsed = later.plus(Duration::from_secs(20));
        rated.write(11, lapsed);
        assert!(rated.left(Class::Fill, lapsed) < whole);
    }
}

#[test]
fn a_token_that_comes_back_is_for_the_next_request_of_the_instance() {
    let mut rated = Rated::new(true, 480);
    let whole = rated.left(Class::Fill, NOW);
    let (first, second) = (
        rated.queue(Class::Fill, true),
        rated.queue(Class::Fill, true),
    );
    rated.write(7, NOW);
    while rated.serve(NOW) {}
    let taken = whole - rated.left(Class::Fill, NOW);
    let mut ended = 0;
    for verdict in [&first, &second, &first, &second] {
        if let Some(slot) = slot(verdict) {
            rated.end(slot, NOW);
            ended += 1;
        }
        rated.serve(NOW);
    }
    assert_eq!(ended, 2);
    rated.write(8, NOW);
    assert_eq!(whole - rated.left(Class::Fill, NOW), taken);
}

/// It has been counted when it began.
#[test]
fn an_upload_that_takes_a_slot_again_takes_no_token() {
    let mut rated = Rated::new(true, 480);
    let whole = rated.left(Class::Unsafe, NOW);
    let verdict = rated.queue(Class::Unsafe, false);
    rated.write(7, NOW);
    assert!(rated.serve(NOW));
    let mut slot = slot(&verdict).unwrap();
    rated.send(&mut slot, NOW);
    assert_eq!(rated.left(Class::Unsafe, NOW), whole);
    // Nor does it need one.
    let limit = rated.settings.limits.rate.unwrap();
    let all = rated
        .record
        .rate
        .take(Nonce::new(9), Class::Unsafe, whole, NOW, limit);
    assert_eq!(all.counted(), whole);
    let later = NOW.plus(Duration::from_secs(3));
    let (new, again) = (
        rated.queue(Class::Unsafe, true),
        rated.queue(Class::Unsafe, false),
    );
    rated.write(8, later);
    assert!(matches!(&*new.borrow(), Some(Verdict::Halted(_))));
    assert!(rated.serve(later) && again.borrow().is_some());
}

/// The store of Akamai Functions: a swap takes more than a second.
#[test]
fn tokens_that_were_taken_slowly_are_kept_for_the_requests_that_wait() {
    let mut rated = Rated::new(false, 480);
    let verdict = rated.queue(Class::Fill, true);
    rated.write(7, NOW);
    let rate = rated.record.rate.clone();
    let later = NOW.plus(KNOWN_FOR * 2);
    rated.write(8, later);
    assert_eq!(rated.record.rate, rate, "a second token was taken");
    assert!(rated.serve(later));
    // Too late for a request, it is too late for an hour's end.
    let mut slot = slot(&verdict).unwrap();
    assert!(slot.spend(NOW.plus(Duration::from_secs(20))).is_err());
    assert!(slot.spend(NOW.plus(Duration::from_millis(19_999))).is_ok());
}

/// Hours were lost: slots seemed held, and what the record said seemed new, until the clock
/// had come back to where it was.
#[test]
fn a_clock_that_is_set_back_keeps_nothing_of_an_instance_alive() {
    let mut rated = Rated::new(true, 480);
    let ahead = NOW.plus(Duration::from_secs(3_600));
    let verdict = rated.queue(Class::Fill, true);
    rated.write(7, ahead);
    assert!(rated.serve(ahead));
    let mut used = slot(&verdict).unwrap();
    // The breaker opened then, for all that the instance knows.
    rated.record.breaker.phase = Phase::Open {
        until: ahead.plus(Duration::from_secs(60)),
    };
    rated.write(8, ahead);
    assert!(
        rated
            .slots
            .halted(Class::Fill, 7, ahead, &rated.settings)
            .is_some()
    );
    rated.slots.look_after = ahead.plus(Duration::from_millis(250));
    rated.slots.write_after = ahead.plus(Duration::from_millis(400));

    // It is looked again at once, and the slot in use is renewed by the new clock.
    assert!(
        rated
            .slots
            .halted(Class::Fill, 7, NOW, &rated.settings)
            .is_none()
    );
    let next = rated.slots.next(NOW, &rated.settings);
    assert!(next.is_some_and(|next| next <= NOW), "{next:?}");
    let _waits = rated.queue(Class::Fill, true);
    assert!(!rated.serve(NOW));
    // A token of then is of no use.
    assert!(used.spend(NOW).is_err() && used.spend(ahead).is_ok());
    rated.record.breaker.phase = Phase::Closed;
    rated.write(9, NOW);
    let furthest = NOW.plus(rated.settings.limits.lease);
    assert!(rated.record.used() >= 1);
    for holder in &rated.record.holders {
        assert!(holder.deadline <= furthest, "{holder:?}");
    }
}

proptest! {
    /// Wherever the clock is set, and whatever the instance was doing: it acts again
    /// within a lease.
    #[test]
    fn an_instance_never_sleeps_for_longer_than_a_lease(
        keeps_idle in any::<bool>(),
        steps in prop::collection::vec((0_u8..5, -7_200_000_i64..7_200_000, any::<bool>()), 1..40),
    ) {
        let mut rated = Rated::new(keeps_idle, 480);
        let mut now = NOW.plus(Duration::from_secs(100_000_000));
        let mut verdicts = Vec::new();
        let mut slots: Vec<Slot> = Vec::new();
        for (number, (what, by, is_small)) in steps.into_iter().enumerate() {
            let by = if is_small { by.rem_euclid(3_000) } else { by };
            let millis = Duration::from_millis(by.unsigned_abs());
            now = if by < 0 { now.minus(millis) } else { now.plus(millis) };
            match what {
                0 => verdicts.push(rated.queue(Class::COUNTED[number % 4], number % 3 > 0)),
                1 => rated.write(number as u128 + 7, now),
                2 => {
                    rated.serve(now);
                    slots.extend(verdicts.iter().filter_map(slot));
                }
                3 => {
                    if let Some(slot) = slots.last_mut() && slot.spend(now).is_ok()
                        && let Some(token) = rated.back.spent.take()
                    {
                        rated.slots.spend(token);
                    }
                }
                _ => if let Some(slot) = slots.pop() {
                    rated.end(slot, now);
                },
            }
            let most = now.plus(rated.settings.limits.lease);
            let next = rated.slots.next(now, &rated.settings);
            prop_assert!(next.is_none_or(|next| next <= most), "{:?} at {}", next, now);
        }
    }
}
