#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::cells::Election;
use crate::cells::testing::{World, cells, run_tasks, visitor};
use futures::executor::block_on;

fn purge(cells: &Rc<Cells<World>>, key: &str, purge: Purge) -> Purged {
    block_on(cells.purge(key.to_owned(), purge))
}

/// A purge is for others, so a store that has just failed is tried as well.
#[test]
fn a_purge_that_a_store_takes_while_it_is_left_alone_is_stored() {
    let cells = cells();
    cells.platform.store.fails.set(true);
    assert_eq!(purge(&cells, "a", Purge::Soft), Purged::Pending);
    assert_eq!(purge(&cells, "b", Purge::Soft), Purged::Pending);
    assert_eq!(cells.platform.store.asked.get(), 2);
    cells.platform.store.fails.set(false);
    assert!(cells.store_is_paused());
    assert_eq!(purge(&cells, "a", Purge::Soft), Purged::Stored);
}

#[test]
fn a_purge_waits_a_moment_only_for_a_store_that_has_just_failed() {
    let cells = cells();
    let takes = |key| {
        let start = cells.platform.now();
        assert_eq!(purge(&cells, key, Purge::Soft), Purged::Pending);
        cells.platform.now().since(start)
    };
    cells.platform.store.hangs.set(true);
    let first = takes("a");
    assert!(
        first >= STORE_TIMEOUT && first <= STORE_TIMEOUT * 2,
        "{first:?}"
    );
    for key in ["a", "b"] {
        assert_eq!(takes(key), PAUSED_PATIENCE);
    }
}

#[test]
fn one_task_makes_all_purges_that_wait_once_the_store_works() {
    let cells = cells();
    let visitor = visitor();
    let located = block_on(cells.locate(&visitor, false));
    assert!(matches!(block_on(cells.elect(&located)), Election::Held(_)));
    cells.platform.store.fails.set(true);
    for (key, strength) in [
        (visitor.key(), Purge::Hard),
        ("not stored", Purge::Soft),
        (visitor.key(), Purge::Soft),
    ] {
        assert_eq!(purge(&cells, key, strength), Purged::Pending);
    }
    cells.platform.store.fails.set(false);
    assert_eq!(run_tasks(&cells), 1);
    assert!(cells.purges.borrow().is_empty());
    let loaded = block_on(cells.load_shared(visitor.key(), Urgency::Forced)).unwrap();
    let cell = loaded.cell.unwrap();
    assert!(cell.marks.purged.is_some());
    assert_eq!(cell.marks.softened, None);
    let created = block_on(cells.load_shared("not stored", Urgency::Forced))
        .unwrap()
        .cell;
    assert_eq!(created, None);
    // The next outage has a task of its own.
    cells.platform.store.fails.set(true);
    assert_eq!(purge(&cells, "a", Purge::Soft), Purged::Pending);
    assert_eq!(run_tasks(&cells), 1);
}

#[test]
fn a_round_asks_a_failing_store_once_however_many_purges_wait() {
    let cells = cells();
    cells.platform.store.fails.set(true);
    for key in 0..100 {
        purge(&cells, &key.to_string(), Purge::Hard);
    }
    let before = cells.platform.store.asked.get();
    assert_eq!(before, 100);
    run_tasks(&cells);
    let asked = cells.platform.store.asked.get() - before;
    assert!((1..=29).contains(&asked), "{asked}");
    let log = cells.platform.log.borrow();
    let lost = log.iter().filter(|line| line.contains("purge-lost"));
    assert_eq!(lost.count(), 100);
    assert!(cells.purges.borrow().is_empty());
}

#[test]
fn a_purge_that_the_store_takes_does_what_a_weaker_one_waits_for() {
    for (later, waits) in [(Purge::Hard, false), (Purge::Soft, true)] {
        let cells = cells();
        cells.platform.store.fails.set(true);
        purge(&cells, "a", Purge::Invalidate);
        cells.platform.store.fails.set(false);
        block_on(cells.platform.sleep(PAUSE_FIRST));
        assert_eq!(purge(&cells, "a", later), Purged::Stored);
        assert_eq!(!cells.purges.borrow().is_empty(), waits, "{later:?}");
    }
}
