//! Tests of the rate.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use proptest::prelude::*;

const SKEW: Duration = Duration::from_millis(500);

const LIMIT: RateLimit = RateLimit {
    per_hour: 500,
    clock_skew: SKEW,
};

fn at(millis: u64) -> Time {
    Time::from_unix_millis(1_000_000_000 + millis)
}

fn id(number: u64) -> Nonce {
    Nonce::new(number.into())
}

/// Takes tokens and uses them at once; returns how many.
fn send(rate: &mut Rate, class: Class, most: u32, now: Time) -> u32 {
    let taken = rate.take(id(0), class, most, now, LIMIT);
    rate.settle(id(0), &taken, &PerClass::default(), LIMIT);
    taken.counted()
}

/// The same, one token; none is kept.
fn others(class: Class) -> impl Iterator<Item = Class> {
    buckets(class).skip(1)
}

#[test]
fn an_empty_bucket_says_when_the_next_request_may_go() {
    let mut rate = Rate::default();
    // 125 requests in an hour are for fills, of which the bucket holds 25. Each of the
    // others lends 25 - 7.
    assert_eq!(send(&mut rate, Class::Fill, 1_000, at(0)), 25 + 3 * 18);
    let next = rate.next(Class::Fill, at(0), LIMIT).unwrap();
    let window = 3_600_000 + 20_000 + 500 + 2_u64;
    assert_eq!(next, at(window.div_ceil(125 - 25)));
    assert_eq!(
        rate.free(Class::Fill, next.minus(Duration::from_millis(1)), LIMIT),
        0
    );
    assert!(rate.free(Class::Fill, next, LIMIT) > 0);
    assert_eq!(rate.next(Class::Fill, next, LIMIT), None);
}

/// The burst of a class was 36 of 480: a first visitor got half of a site.
#[test]
fn the_first_visitor_of_a_site_with_sixty_files_gets_all_of_them() {
    let limit = RateLimit::new(480, SKEW).unwrap();
    let mut rate = Rate::default();
    for request in 0..61 {
        let taken = rate.take(id(request), Class::Fill, 1, at(request), limit);
        assert_eq!(taken.counted(), 1, "request {request}");
        rate.settle(id(request), &taken, &PerClass::default(), limit);
    }
    // Then the rate: one about every ten seconds, four fifths of 480 in an hour.
    let mut sent = 0;
    for second in 1_000..4_600 {
        let now = at(second * 1_000);
        let taken = rate.take(id(0), Class::Fill, 1_000, now, limit);
        rate.settle(id(0), &taken, &PerClass::default(), limit);
        sent += taken.counted();
    }
    assert!((380..=480).contains(&sent), "{sent}");
    assert_eq!(limit.lasting(), 384);
}

/// Visitors who wait for one page took a token each.
#[test]
fn a_request_that_only_waits_takes_nothing_of_the_rate() {
    let mut without = Rate::default();
    send(&mut without, Class::Fill, 1, at(0));
    let left = without.free(Class::Fill, at(900), LIMIT);
    for visitors in [1, 10, 40, 100] {
        let mut rate = Rate::default();
        for visitor in 0..visitors {
            // Sixteen at a time have a slot.
            let (now, earlier) = (at(visitor), visitor.checked_sub(16));
            let taken = rate.take(id(visitor), Class::Fill, 1, now, LIMIT);
            assert_eq!(taken.counted(), 1);
            if let Some(earlier) = earlier.filter(|visitor| *visitor > 0) {
                rate.settle(
                    id(earlier),
                    &PerClass::default(),
                    &PerClass::default(),
                    LIMIT,
                );
            }
        }
        let winner = PerClass {
            fill: 1,
            ..PerClass::default()
        };
        for visitor in 0..visitors {
            let used = match visitor {
                0 => winner,
                _ => PerClass::default(),
            };
            rate.settle(id(visitor), &used, &PerClass::default(), LIMIT);
        }
        assert!(rate.reserved.is_empty());
        assert_eq!(rate.free(Class::Fill, at(900), LIMIT), left, "{visitors}");
    }
}

#[test]
fn what_is_reserved_may_come_back_for_a_moment_and_counts_as_used_after_it() {
    let mut rate = Rate::default();
    let taken = rate.take(id(1), Class::Fill, 1_000, at(0), LIMIT);
    assert_eq!(rate.free(Class::Fill, at(100), LIMIT), 0);
    assert_eq!(rate.next(Class::Fill, at(100), LIMIT), None);
    assert!(rate.next(Class::Fill, at(2_000), LIMIT).is_some());
    // The instance has died.
    let lapsed = rate.clone().bounded(at(20_000), at(20_500), LIMIT);
    assert!(lapsed.reserved.is_empty());
    let mut used = rate.clone();
    assert!(used.settle(id(1), &taken, &PerClass::default(), LIMIT));
    assert_eq!(lapsed, used);
    // Or it has sent one, and keeps one.
    let one = PerClass {
        fill: 1,
        ..PerClass::default()
    };
    assert!(rate.settle(id(1), &one, &one, LIMIT));
    assert_eq!(rate.free(Class::Fill, at(0), LIMIT), taken.counted() - 2);
    assert!(rate.is_reserved(id(1)));
    assert!(rate.settle(id(1), &PerClass::default(), &PerClass::default(), LIMIT));
    assert!(!rate.settle(id(1), &one, &one, LIMIT));
}

#[test]
fn a_flood_of_one_class_does_not_keep_the_others_from_going_out() {
    for flood in Class::COUNTED {
        let mut rate = Rate::default();
        let mut sent = PerClass::<u32>::default();
        for second in 0..3_600 {
            let now = at(second * 1_000);
            send(&mut rate, flood, 1_000, now);
            for class in others(flood) {
                *sent.of_mut(class) += send(&mut rate, class, 1, now);
            }
        }
        for class in others(flood) {
            assert!(*sent.of(class) >= 100, "{class:?}: {sent:?}");
        }
    }
}

#[test]
fn what_the_other_classes_leave_one_class_uses() {
    for class in Class::COUNTED {
        let mut rate = Rate::default();
        let mut sent = 0;
        for second in 0..7_200 {
            sent += send(&mut rate, class, 1_000, at(second * 1_000));
        }
        // What all buckets gain in two hours.
        assert!(sent >= 2 * LIMIT.lasting(), "{sent}");
    }
}

#[test]
fn a_stored_time_from_far_in_the_future_does_not_stop_requests_for_longer_than_an_hour() {
    let mut wrong = Rate::default();
    for class in Class::COUNTED {
        *wrong.full.of_mut(class) = LAST;
    }
    wrong.reserved.push(Reservation {
        id: id(1),
        tokens: PerClass {
            fill: u32::MAX,
            stream: 7,
            ..PerClass::default()
        },
        taken: LAST,
    });
    let rate = wrong.bounded(at(0), at(500), LIMIT);
    let bucket = LIMIT.bucket();
    for class in Class::COUNTED {
        let tokens = |now| rate.available(class, class, now, LAST, LIMIT);
        assert_eq!(tokens(at(0)), 0);
        assert_eq!(tokens(at(3_600_000)), bucket.holds);
    }
}

#[test]
fn a_record_keeps_a_bounded_number_of_reservations() {
    let limit = RateLimit::new(RATE_MAX, SKEW).unwrap();
    let mut rate = Rate::default();
    for number in 0..1_100 {
        assert_eq!(rate.take(id(number), Class::Pass, 1, at(0), limit).pass, 1);
    }
    let left = rate.free(Class::Pass, at(0), limit);
    let rate = rate.bounded(at(0), at(0), limit);
    assert_eq!(rate.reserved.len(), RESERVATIONS_MAX);
    assert!(rate.is_reserved(id(1_099)) && !rate.is_reserved(id(0)));
    assert_eq!(rate.free(Class::Pass, at(0), limit), left);
}

/// What becomes of a reservation.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Its requests are sent, and it is settled.
    Used,
    GivenBack,
    /// Its requests are sent, and its instance dies.
    Lost,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![Just(Fate::Used), Just(Fate::GivenBack), Just(Fate::Lost)]
}

proptest! {
    /// Times of all nodes, and requests that are sent as late as they may be.
    #[test]
    fn no_hour_has_more_requests_than_the_rate(
        per_hour in RATE_MIN..=RATE_MAX,
        takes in prop::collection::vec(
            (0_u64..900_000, 0_usize..4, 0_u32..100_000, 0_u64..500, 0_u64..20_000, fate()),
            1..60,
        ),
    ) {
        let limit = RateLimit::new(per_hour, SKEW).unwrap();
        let mut rate = Rate::default();
        let mut now = 0;
        let mut sent: Vec<(u64, u32)> = Vec::new();
        let mut open: Vec<(u64, Nonce, PerClass<u32>, bool)> = Vec::new();
        for (number, (pause, class, most, ahead, delay, fate)) in takes.into_iter().enumerate() {
            // Most reservations are settled while others are open.
            now += if number % 3 == 0 { pause } else { pause % 5_000 };
            open.sort_by_key(|(due, ..)| *due);
            while open.first().is_some_and(|(due, ..)| *due <= now) {
                let (due, id, taken, is_used) = open.remove(0);
                let used = if is_used { taken } else { PerClass::default() };
                rate = rate.bounded(at(due), at(due).plus(SKEW), limit);
                rate.settle(id, &used, &PerClass::default(), limit);
            }
            let class = Class::COUNTED[class];
            let clock = at(now + ahead);
            rate = rate.bounded(clock, clock.plus(SKEW), limit);
            let free = rate.free(class, clock, limit);
            let id = id(number as u64);
            let taken = rate.take(id, class, most, clock, limit);
            prop_assert_eq!(taken.counted(), free.min(most));
            match fate {
                Fate::Used => {
                    sent.push((now + delay.min(19_999), taken.counted()));
                    open.push((now + delay, id, taken, true));
                }
                Fate::GivenBack => open.push((now + delay, id, taken, false)),
                Fate::Lost => sent.push((now + delay.min(19_999), taken.counted())),
            }
        }
        sent.sort_unstable();
        for (from, _) in &sent {
            let hour: u32 = sent
                .iter()
                .filter(|(at, _)| (*from..=from + 3_600_000).contains(at))
                .map(|(_, taken)| taken)
                .sum();
            prop_assert!(hour <= per_hour, "{} of {}", hour, per_hour);
            prop_assert!(limit.most_in(HOUR) <= per_hour);
        }
    }
}
