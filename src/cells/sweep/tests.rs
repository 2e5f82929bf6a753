#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::cell::Body;
use crate::cells::Told;
use crate::cells::names::chunk_name;
use crate::cells::testing::{World, entry, origin, run_tasks, visitor_of, with};
use crate::config::Config;
use bytes::Bytes;
use futures::executor::block_on;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn cells_with(settings: &str) -> Rc<Cells<World>> {
    with(Config::parse(settings).unwrap())
}

/// Stores a page of `path`, if nobody holds its lease.
fn fill(cells: &Cells<World>, path: &str) -> bool {
    let located = block_on(cells.locate(&visitor_of(path), false));
    let Election::Held(held) = block_on(cells.elect(&located)) else {
        return false;
    };
    let entry = entry(held.holder, cells.platform.now(), b"page");
    let told = Told::Resident {
        question: &located.question,
        names: &[],
        credentials_pass_until: None,
    };
    block_on(cells.publish(held, entry, told, &[])) == Settled::Done
}

fn has_entry(cells: &Cells<World>, path: &str) -> bool {
    let located = block_on(cells.locate(&visitor_of(path), false));
    located.loaded.entry().is_some()
}

fn wait(cells: &Cells<World>, time: Duration) {
    block_on(cells.platform.sleep(time));
}

/// A round, whether or not one is due.
fn round(cells: &Cells<World>) {
    wait(cells, SWEEP_PAUSE_MAX);
    block_on(cells.sweep(Look::Regular));
}

fn names(cells: &Cells<World>) -> Vec<String> {
    let mut names = Vec::new();
    let mut each = |name: &str| names.push(name.to_owned());
    block_on(cells.platform.store.inner.names(&mut each)).unwrap();
    names
}

fn cell_of(cells: &Cells<World>, key: &str) -> Option<Cell> {
    block_on(cells.load_named(&cell_id(key))).unwrap()?.cell
}

fn logged(cells: &Cells<World>, kind: &str) -> usize {
    let log = cells.platform.log.borrow();
    log.iter().filter(|line| line.contains(kind)).count()
}

#[test]
fn an_entry_past_its_windows_is_emptied_and_then_its_cell_is_deleted() {
    let cells = cells_with("");
    assert!(fill(&cells, "/a"));
    let key = visitor_of("/a").key().to_owned();
    block_on(cells.sweep(Look::Regular));
    assert!(cell_of(&cells, &key).unwrap().entry.is_some());
    round(&cells);
    assert!(cell_of(&cells, &key).unwrap().marks.swept.is_some());
    round(&cells);
    assert_eq!(cell_of(&cells, &key), None);
    // The sweeper's own.
    assert_eq!(names(&cells), [cell_id(SWEEPER)]);
    // And the key can be used again.
    assert!(fill(&cells, "/a") && has_entry(&cells, "/a"));
}

#[test]
fn a_cell_that_is_used_again_after_it_was_emptied_is_not_deleted() {
    let cells = cells_with("");
    assert!(fill(&cells, "/a"));
    round(&cells);
    assert!(fill(&cells, "/a"));
    wait(&cells, Duration::from_secs(120));
    for _ in 0..3 {
        wait(&cells, Duration::from_secs(60));
        block_on(cells.sweep(Look::Regular));
    }
    assert!(
        cell_of(&cells, visitor_of("/a").key())
            .unwrap()
            .entry
            .is_some()
    );
}

#[test]
fn one_request_in_64_looks_and_a_look_is_one_read_while_no_round_is_due() {
    let cells = cells_with("");
    let asked = || cells.platform.store.asked.get();
    block_on(cells.sweep(Look::Regular));
    // It has created a cell, which may be a reason to look.
    cells.fills_up.set(false);
    let before = asked();
    for _ in 0..LOOK_EVERY * 10 {
        cells.sweep_if_due();
    }
    assert_eq!(run_tasks(&cells), 10);
    assert_eq!(asked(), before + 10);
}

#[test]
fn those_that_were_refreshed_longest_ago_make_room() {
    let cells = cells_with("limits.keys = 16");
    for number in 0..40 {
        assert!(fill(&cells, &format!("/{number}")));
        wait(&cells, Duration::from_secs(1));
    }
    // Refreshed: in use.
    assert!(fill(&cells, "/0"));
    block_on(cells.sweep(Look::Regular));
    let left: Vec<usize> = (0..40)
        .filter(|number| has_entry(&cells, &format!("/{number}")))
        .collect();
    let expected: Vec<usize> = [0].into_iter().chain(25..40).collect();
    assert_eq!(left, expected);
    assert_eq!(logged(&cells, "\"event\":\"sweep\""), 1);
}

#[test]
fn bytes_of_bodies_in_chunks_count() {
    let cells = cells_with("limits.store_bytes = \"1MiB\"");
    for (number, body) in [(1, 1_u128), (2, 2)] {
        let path = format!("/{number}");
        let located = block_on(cells.locate(&visitor_of(&path), false));
        let Election::Held(held) = block_on(cells.elect(&located)) else {
            panic!("no lease");
        };
        let mut entry = entry(held.holder, cells.platform.now(), b"");
        entry.body = Body::Chunked(crate::cell::Manifest {
            body: Nonce::new(body),
            length: 600_000,
            chunk_size: 600_000,
        });
        let (name, chunk) = (
            chunk_name(Nonce::new(body), 0),
            Bytes::from(vec![0; 600_000]),
        );
        block_on(cells.platform.store.inner.put(&name, &chunk)).unwrap();
        let told = Told::Resident {
            question: &located.question,
            names: &[],
            credentials_pass_until: None,
        };
        block_on(cells.publish(held, entry, told, &[]));
        wait(&cells, Duration::from_secs(1));
    }
    block_on(cells.sweep(Look::Regular));
    assert!(!has_entry(&cells, "/1") && has_entry(&cells, "/2"));
    // The operator is told what is left: one body, and cells without one.
    let bytes = block_on(cells.stored()).unwrap().bytes.unwrap();
    assert!((600_000..610_000).contains(&bytes), "{bytes}");
    // With its cell goes its body.
    let first = chunk_name(Nonce::new(1), 0);
    assert!(names(&cells).contains(&first));
    wait(&cells, HOUR / 2);
    block_on(cells.sweep(Look::Regular));
    assert!(!names(&cells).contains(&first));
    assert!(names(&cells).contains(&chunk_name(Nonce::new(2), 0)));
}

#[test]
fn a_body_that_no_cell_answers_for_is_removed_when_it_is_found_twice() {
    let cells = cells_with("");
    let lost: Vec<String> = (0..3)
        .map(|chunk| chunk_name(Nonce::new(7), chunk))
        .collect();
    for name in &lost {
        block_on(
            cells
                .platform
                .store
                .inner
                .put(name, &Bytes::from_static(b"x")),
        )
        .unwrap();
    }
    let left = || {
        lost.iter()
            .filter(|name| names(&cells).contains(name))
            .count()
    };
    block_on(cells.sweep(Look::Regular));
    assert_eq!(left(), 3);
    round(&cells);
    assert_eq!(left(), 0);
    assert_eq!(cell_of(&cells, SWEEPER).unwrap().orphans, []);
}

#[test]
fn old_guards_are_removed_and_what_others_store_stays() {
    let cells = cells_with("");
    let bucket = cells.platform.now().as_unix_millis() / 2_500;
    let (old, new) = (
        format!("guard/ab/{:x}", bucket - 20),
        format!("guard/ab/{bucket:x}"),
    );
    for name in [&old, &new, "budget/1", "another program's"] {
        block_on(
            cells
                .platform
                .store
                .inner
                .put(name, &Bytes::from_static(b"1")),
        )
        .unwrap();
    }
    block_on(cells.sweep(Look::Regular));
    let mut left = names(&cells);
    left.sort_unstable();
    let own = cell_id(SWEEPER);
    assert_eq!(left, ["another program's", "budget/1", own.as_str(), &new]);
}

#[test]
fn a_list_of_variants_and_its_key_stay_while_a_variant_is_there() {
    use crate::cells::names::variant_key;
    let cells = cells_with("");
    assert!(fill(&cells, "/a"));
    let key = visitor_of("/a").key().to_owned();
    let variant = variant_key(&key, "de");
    let loaded = block_on(cells.load(&variant));
    let Election::Held(held) = block_on(cells.elect_cell(&loaded, None)) else {
        panic!("no lease");
    };
    let mut entry = entry(held.holder, cells.platform.now(), b"page");
    entry.freshness.lifetime_ms = millis(HOUR * 10);
    block_on(cells.enlist(&key, &variant));
    assert_eq!(
        block_on(cells.publish(held, entry, Told::Variant, &[])),
        Settled::Done
    );
    let all = [&key, &variant, &list_key(&key)];
    for _ in 0..5 {
        round(&cells);
        for key in all {
            assert!(cell_of(&cells, key).is_some(), "{key}");
        }
    }
    for _ in 0..20 {
        round(&cells);
    }
    assert_eq!(names(&cells), [cell_id(SWEEPER)]);
}

#[test]
fn a_key_that_was_purged_keeps_the_mark_for_its_variants() {
    let cells = cells_with("");
    assert!(fill(&cells, "/a"));
    let key = visitor_of("/a").key().to_owned();
    block_on(cells.purge(key.clone(), transition::Purge::Hard));
    for _ in 0..4 {
        round(&cells);
    }
    assert!(cell_of(&cells, &key).unwrap().marks.purged.is_some());
    wait(&cells, plan::PURGES_KEPT);
    round(&cells);
    assert_eq!(cell_of(&cells, &key), None);
}

#[test]
fn a_store_that_does_not_list_is_left_alone() {
    let cells = cells_with("");
    cells.platform.store.hides.set(true);
    assert!(fill(&cells, "/a"));
    block_on(cells.sweep(Look::Regular));
    assert_eq!(logged(&cells, "sweep-unavailable"), 1);
    block_on(cells.sweep(Look::Regular));
    assert_eq!(logged(&cells, "sweep-unavailable"), 1);
}

#[test]
fn a_store_that_fails_ends_the_round() {
    let cells = cells_with("");
    for number in 0..50 {
        assert!(fill(&cells, &format!("/{number}")));
    }
    wait(&cells, HOUR * 2);
    cells.platform.store.is_read_only.set(true);
    let before = cells.platform.store.writes.get();
    block_on(cells.sweep(Look::Regular));
    assert_eq!(cells.platform.store.writes.get(), before + 1);
    block_on(cells.sweep(Look::Regular));
    assert_eq!(cells.platform.store.writes.get(), before + 1);
}

/// Ever new keys, on instances that live for a few requests. Returns the most names that
/// the store had.
fn flood(settings: &str, is_blind: bool, pages_per_second: u64, lives_for: u64) -> usize {
    let first = cells_with(settings);
    first.platform.store.removes_blindly.set(is_blind);
    if is_blind {
        // As on Spin, whose key-value store is such a one.
        first.platform.store.worn_after.set(192);
    }
    let mut cells = Rc::clone(&first);
    let mut most = 0;
    for number in 0..(20 * pages_per_second).max(500) {
        if number % lives_for == 0 {
            cells = Cells::new(
                Rc::clone(&first.platform),
                Rc::clone(&first.config),
                &origin(),
            );
            cells.platform.store.swaps.set(0);
        }
        assert!(fill(&cells, &format!("/?x={number}")), "{number}");
        cells.sweep_if_due();
        run_tasks(&cells);
        most = most.max(names(&cells).len());
        wait(&cells, Duration::from_millis(1_000 / pages_per_second));
    }
    most
}

/// The sweeper of an instance did not begin in its first half minute: where instances end
/// sooner, the store grew without a bound.
#[test]
fn ever_new_keys_do_not_grow_the_store_on_instances_that_end_soon() {
    for is_blind in [false, true] {
        for (pages_per_second, lives_for) in [(1, 1), (5, 128), (25, 128), (60, 128), (60, 3)] {
            let most = flood("limits.keys = 100", is_blind, pages_per_second, lives_for);
            // With the sweeper's own.
            assert!(
                (90..200).contains(&most),
                "{most} at {pages_per_second}, {lives_for} for an instance, blind {is_blind}"
            );
        }
    }
}

/// The next round was put off for a minute.
#[test]
fn another_instance_goes_on_where_one_is_worn() {
    let cells = cells_with("limits.keys = 100");
    for number in 0..400 {
        assert!(fill(&cells, &format!("/{number}")));
    }
    cells.platform.store.removes_blindly.set(true);
    cells.platform.store.worn_after.set(192);
    let mut left = Vec::new();
    for _ in 0..4 {
        cells.platform.store.swaps.set(0);
        block_on(cells.sweep(Look::Regular));
        left.push(names(&cells).len());
        wait(&cells, SWEEP_PAUSE_MIN);
    }
    // Its own lease and the end of the round cost a swap each as well.
    assert!(left[0] > 200 && left[3] <= 101, "{left:?}");
}

/// A store that has rested for long has its next round far ahead.
#[test]
fn a_flood_after_a_rest_is_noticed_before_the_mark_says_so() {
    let cells = cells_with("limits.keys = 100");
    for _ in 0..5 {
        block_on(cells.sweep(Look::Regular));
        wait(&cells, SWEEP_INTERVAL);
    }
    block_on(cells.sweep(Look::Regular));
    let mut most = 0;
    for number in 0..2_000 {
        assert!(fill(&cells, &format!("/?x={number}")));
        cells.sweep_if_due();
        run_tasks(&cells);
        most = most.max(names(&cells).len());
        wait(&cells, Duration::from_millis(16));
    }
    assert!(most < 200, "{most}");
}

/// A round reads many cells: it is not to be repeated every second for a store that is
/// full and changes slowly.
#[test]
fn a_full_store_that_changes_slowly_is_swept_seldom() {
    let cells = cells_with("limits.keys = 1000");
    for number in 0..1_000 {
        assert!(fill(&cells, &format!("/{number}")));
    }
    let asked = || cells.platform.store.asked.get();
    let mut rounds = 0;
    for number in 0..1_800 {
        wait(&cells, Duration::from_secs(1));
        assert!(fill(&cells, &format!("/new/{number}")));
        let before = asked();
        cells.sweep_if_due();
        run_tasks(&cells);
        rounds += usize::from(asked() - before > 500);
    }
    assert!(
        (20..=120).contains(&rounds),
        "{rounds} rounds in half an hour"
    );
    let left = names(&cells).len();
    // A round is due by chance while cells are created.
    assert!(left <= 1_100, "{left}");
}

/// With room for a minute of what came in a moment, it cost half of the store.
#[test]
fn a_burst_of_new_pages_costs_others_twice_itself_at_most() {
    let cells = cells_with("limits.keys = 1000");
    for number in 0..1_000 {
        assert!(fill(&cells, &format!("/{number}")));
    }
    block_on(cells.sweep(Look::Regular));
    wait(&cells, Duration::from_secs(1));
    for number in 0..40 {
        assert!(fill(&cells, &format!("/burst/{number}")));
    }
    block_on(cells.sweep(Look::FillsUp));
    let left = (0..1_000).filter(|number| has_entry(&cells, &format!("/{number}")));
    assert_eq!(left.count(), 1_000 - 2 * 40);
}

/// A cell that was emptied stays for a while, and was listed as a new one.
#[test]
fn cells_that_were_emptied_do_not_count_as_growth() {
    let cells = cells_with("limits.keys = 100");
    for number in 0..130 {
        let path = format!("/{number}");
        // Such a cell remembers the purge, so it is emptied and not deleted.
        let key = visitor_of(&path).key().to_owned();
        assert!(fill(&cells, &path), "{path}");
        block_on(cells.purge(key, transition::Purge::Soft));
        wait(&cells, Duration::from_millis(1));
        assert!(fill(&cells, &path), "{path}");
    }
    let left = || {
        let all = (0..130).chain(200..202);
        all.filter(|number| has_entry(&cells, &format!("/{number}")))
            .count()
    };
    block_on(cells.sweep(Look::Regular));
    assert_eq!((left(), names(&cells).len()), (100, 131));
    wait(&cells, Duration::from_secs(1));
    for number in 200..202 {
        assert!(fill(&cells, &format!("/{number}")));
    }
    block_on(cells.sweep(Look::FillsUp));
    assert_eq!(left(), 98);
}

#[test]
fn pages_that_are_refreshed_do_not_count_as_growth() {
    let cells = cells_with("limits.keys = 100");
    for _ in 0..60 {
        for number in 0..90 {
            assert!(fill(&cells, &format!("/{number}")));
        }
        wait(&cells, Duration::from_secs(1));
        block_on(cells.sweep(Look::FillsUp));
    }
    let left = (0..90).filter(|number| has_entry(&cells, &format!("/{number}")));
    assert_eq!(left.count(), 90);
}

proptest! {
    /// The sweeper and visitors in any order: nobody ever loses the lease that it
    /// holds, or an entry that was just stored, to a deletion.
    #[test]
    fn a_deletion_takes_nothing_from_a_holder(
        steps in prop::collection::vec((0_u8..4, 0_u8..3, 0_u64..4_000), 1..40),
        keys_max in 1_usize..4,
        is_blind in any::<bool>(),
    ) {
        let mut config = Config::parse("").unwrap();
        config.limits.keys = keys_max;
        let cells = with(config);
        cells.platform.store.removes_blindly.set(is_blind);
        let mut held: Vec<(String, Box<Held>)> = Vec::new();
        for (what, key, seconds) in steps {
            let path = format!("/{key}");
            match what {
                0 => {
                    let located = block_on(cells.locate(&visitor_of(&path), false));
                    if let Election::Held(lease) = block_on(cells.elect(&located)) {
                        held.push((path, lease));
                    }
                }
                1 => {
                    if let Some((path, lease)) = held.pop()
                        && cells.may_begin(&lease)
                    {
                        let entry = entry(lease.holder, cells.platform.now(), b"page");
                        let question = block_on(cells.locate(&visitor_of(&path), false)).question;
                        let told = Told::Resident {
                            question: &question,
                            names: &[],
                            credentials_pass_until: None,
                        };
                        let settled = block_on(cells.publish(lease, entry, told, &[]));
                        prop_assert_eq!(settled, Settled::Done);
                        prop_assert!(has_entry(&cells, &path));
                    }
                }
                2 => wait(&cells, Duration::from_secs(seconds)),
                _ => {
                    block_on(cells.sweep(Look::Regular));
                    for (path, lease) in &held {
                        if cells.may_begin(lease) {
                            let cell = cell_of(&cells, visitor_of(path).key());
                            let holder = cell.and_then(|cell| cell.lease).map(|lease| lease.holder);
                            prop_assert_eq!(holder, Some(lease.holder));
                        }
                    }
                }
            }
        }
    }
}
