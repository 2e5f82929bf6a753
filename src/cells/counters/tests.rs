#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::cells::testing::{World, cells, origin, run_tasks};
use futures::executor::block_on;

/// Another instance on the same store.
fn another(cells: &Cells<World>) -> Rc<Cells<World>> {
    Cells::new(
        Rc::clone(&cells.platform),
        Rc::clone(&cells.config),
        &origin(),
    )
}

fn count(cells: &Rc<Cells<World>>) {
    cells.count_request("hit", None);
    cells.count_request("refused", Some("origin-busy"));
    cells.count_sent(RequestReason::Fill, "2xx");
}

fn hits(cells: &Cells<World>) -> u64 {
    let counted = block_on(cells.counted()).unwrap();
    counted.counts.requests.get("hit").copied().unwrap_or(0)
}

#[test]
fn what_instances_count_adds_up_and_one_write_takes_many_numbers() {
    let one = cells();
    for number in 1..=6 {
        let other = another(&one);
        for _ in 0..10 {
            count(&other);
        }
        assert_eq!(hits(&other), number * 10, "pending counts as well");
        let before = one.platform.store.swaps.get();
        assert_eq!(run_tasks(&one), 1);
        assert_eq!(one.platform.store.swaps.get() - before, 1);
        assert_eq!(hits(&one), number * 10);
    }
    let counted = block_on(one.counted()).unwrap();
    assert_eq!(counted.counts.refused["origin-busy"], 60);
    assert_eq!(counted.counts.origin["fill"]["2xx"], 60);
    assert!(counted.since.is_some());
}

#[test]
fn what_is_counted_while_the_store_fails_is_written_later() {
    let one = cells();
    count(&one);
    one.platform.store.fails.set(true);
    run_tasks(&one);
    assert!(block_on(one.counted()).is_none());
    one.platform.store.fails.set(false);
    block_on(one.platform.sleep(Duration::from_secs(60)));
    count(&one);
    run_tasks(&one);
    assert_eq!(hits(&another(&one)), 2);
}

/// A task that the host drops with its request must not keep others from writing.
#[test]
fn a_write_that_was_dropped_is_followed_by_another() {
    let one = cells();
    count(&one);
    one.platform.tasks.borrow_mut().clear();
    count(&one);
    assert_eq!(run_tasks(&one), 1);
    assert_eq!(hits(&another(&one)), 2);
}
