#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use super::*;
use crate::cells::testing::{World, cells, entry, origin, visitor, visitor_of};
use crate::cells::{Backing, Election, Held, Located, Settled, Told};
use futures::executor::block_on;
use futures::future::join_all;
use std::rc::Rc;

fn locate(cells: &Cells<World>, path: &str) -> Located {
    block_on(cells.locate(&visitor_of(path), false))
}

/// Fetches a page as a holder of its lease does. Fresh for ten seconds.
fn fill(cells: &Cells<World>, path: &str, content: &'static [u8]) -> Option<Settled> {
    let located = locate(cells, path);
    let Election::Held(held) = block_on(cells.elect(&located)) else {
        return None;
    };
    Some(publish(cells, &located, held, content))
}

fn publish(
    cells: &Cells<World>,
    located: &Located,
    held: Box<Held>,
    content: &'static [u8],
) -> Settled {
    let entry = entry(held.holder, cells.platform.now(), content);
    let told = Told::Resident {
        question: &located.question,
        names: &[],
        credentials_pass_until: None,
    };
    block_on(cells.publish(held, entry, told, &[]))
}

fn is_stored(located: &Located) -> bool {
    located.loaded.entry().is_some()
}

fn logged(cells: &Cells<World>, kind: &str) -> usize {
    let log = cells.platform.log.borrow();
    let kind = format!("\"event\":\"{kind}\"");
    log.iter().filter(|line| line.contains(&kind)).count()
}

/// Review 1.12: of 100 hits on one fresh key 48 took 3.0 s, with 51 log lines.
#[test]
fn a_hundred_hits_while_the_store_hangs_are_answered_from_memory() {
    let cells = cells();
    assert_eq!(fill(&cells, "/a", b"page"), Some(Settled::Done));
    assert!(is_stored(&locate(&cells, "/a")));
    cells.platform.store.hangs.set(true);
    let began = cells.platform.now();
    let visitor = visitor();
    // All at once.
    let hits = block_on(join_all((0..100).map(|_| cells.locate(&visitor, false))));
    assert!(hits.iter().all(is_stored));
    assert!(hits.iter().all(|hit| hit.loaded.backing == Backing::Local));
    assert!(cells.platform.now().since(began) <= HIT_PATIENCE);
    // And one after the other: only probes wait.
    let (mut waited, asked) = (0, cells.platform.store.asked.get());
    for _ in 0..100 {
        let before = cells.platform.now();
        assert!(is_stored(&locate(&cells, "/a")));
        waited += usize::from(cells.platform.now() > before);
    }
    assert_eq!((waited, cells.platform.store.asked.get()), (0, asked));
    block_on(cells.platform.sleep(Duration::from_secs(1)));
    for _ in 0..100 {
        let before = cells.platform.now();
        assert!(is_stored(&locate(&cells, "/a")));
        waited += usize::from(cells.platform.now() > before);
    }
    assert_eq!(waited, 1);
    assert_eq!(logged(&cells, "store-failed"), 1);
}

#[test]
fn what_is_remembered_is_used_only_while_the_store_does_not_answer() {
    let cells = cells();
    fill(&cells, "/a", b"page");
    // Another node has removed it.
    let id = crate::cells::cell_id(visitor().key());
    block_on(cells.platform.store.inner.remove(&id)).unwrap();
    assert!(!is_stored(&locate(&cells, "/a")));
    cells.platform.store.fails.set(true);
    assert!(!is_stored(&locate(&cells, "/a")));
}

#[test]
fn a_purge_of_this_instance_applies_to_what_it_remembers() {
    use crate::cell::transition::Purge;
    let cells = cells();
    fill(&cells, "/a", b"page");
    cells.platform.store.fails.set(true);
    assert!(is_stored(&locate(&cells, "/a")));
    block_on(cells.purge(visitor().key().to_owned(), Purge::Hard));
    assert!(!is_stored(&locate(&cells, "/a")));
}

/// Review 1.6: each new key waited ten seconds for a 503.
#[test]
fn a_store_that_reads_and_does_not_write_serves_hits_and_new_keys_go_to_memory() {
    let cells = cells();
    fill(&cells, "/a", b"page");
    cells.platform.store.is_read_only.set(true);
    let began = cells.platform.now();
    // The first finds out.
    assert_eq!(fill(&cells, "/new", b"new"), None);
    let writes = cells.platform.store.writes.get();
    for path in ["/new", "/newer", "/newest"] {
        assert_eq!(fill(&cells, path, b"new"), Some(Settled::Done), "{path}");
        let located = locate(&cells, path);
        assert!(is_stored(&located));
        assert_eq!(located.loaded.backing, Backing::Local);
    }
    let hit = locate(&cells, "/a");
    assert!(is_stored(&hit));
    assert_eq!(hit.loaded.backing, Backing::Shared);
    assert_eq!(cells.platform.store.writes.get(), writes);
    assert_eq!(cells.platform.now(), began);
    assert_eq!(logged(&cells, "store-failed"), 1);
    // A stale entry is refreshed in memory, and the store's is there until then.
    block_on(cells.platform.sleep(Duration::from_secs(11)));
    cells.note_store_failure("swap", &StoreError::new("still"));
    assert!(is_stored(&locate(&cells, "/a")));
    assert_eq!(fill(&cells, "/a", b"again"), Some(Settled::Done));
    assert_eq!(logged(&cells, "store-failed"), 1);
    cells.platform.store.is_read_only.set(false);
    block_on(cells.platform.sleep(Duration::from_secs(8)));
    assert_eq!(fill(&cells, "/other", b"new"), Some(Settled::Done));
    assert_eq!(locate(&cells, "/other").loaded.backing, Backing::Shared);
    assert_eq!(logged(&cells, "store-recovered"), 1);
}

/// A visitor may insist on a refresh of a fresh entry. It must not look again and again
/// at a store that has the entry and cannot give out its lease.
#[test]
fn an_election_while_the_store_does_not_write_says_so_at_once() {
    let cells = cells();
    fill(&cells, "/a", b"page");
    let located = locate(&cells, "/a");
    cells.note_store_failure("swap", &StoreError::new("read-only"));
    let writes = cells.platform.store.writes.get();
    assert!(matches!(
        block_on(cells.elect(&located)),
        Election::NotWritten
    ));
    assert_eq!(cells.platform.store.writes.get(), writes);
    let own = block_on(cells.locate(&visitor(), true));
    assert!(is_stored(&own));
    assert!(matches!(block_on(cells.elect(&own)), Election::Held(_)));
}

#[test]
fn a_swap_that_leaves_the_value_as_it_was_is_a_failure_to_write() {
    let cells = cells();
    fill(&cells, "/a", b"page");
    cells.platform.store.lies.set(true);
    assert_eq!(fill(&cells, "/new", b"new"), None);
    assert!(cells.writes_are_closed() && !cells.reads_are_closed());
    assert_eq!(fill(&cells, "/new", b"new"), Some(Settled::Done));
    assert_eq!(locate(&cells, "/a").loaded.backing, Backing::Shared);
}

/// The store of wasmCloud on Redis: a busy node stopped writing for a second.
#[test]
fn a_swap_that_was_only_contended_says_nothing_about_the_store() {
    let cells = cells();
    fill(&cells, "/a", b"page");
    cells.note_store_failure("swap", &StoreError::contended("busy"));
    assert!(!cells.writes_are_closed());
    assert_eq!(fill(&cells, "/new", b"new"), Some(Settled::Done));
    assert_eq!(locate(&cells, "/new").loaded.backing, Backing::Shared);
}

/// wasmCloud does not connect to Redis again: the operator was told to check what was in order.
#[test]
fn the_log_names_what_a_platform_needs_besides_when_its_store_fails() {
    let cells = cells();
    cells.platform.store.further_remedy.set("restart the host");
    cells.note_store_failure("swap", &StoreError::new("broken pipe"));
    let log = cells.platform.log.borrow();
    let line = log.iter().find(|line| line.contains("store-failed"));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    let remedy = line["remedy"].as_str().unwrap();
    assert!(remedy.starts_with("check the store"), "{remedy}");
    assert!(remedy.ends_with("; restart the host"), "{remedy}");
}

/// a replica that refused writes was "check the store's disk space".
#[test]
fn the_log_has_the_stores_own_words_and_a_remedy_that_fits() {
    let cells = cells();
    let words = "READONLY You can't write against a read only replica.";
    cells.note_store_failure("swap", &StoreError::new(words));
    let log = cells.platform.log.borrow();
    let line = log.iter().find(|line| line.contains("store-failed"));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!(line["error"], words);
    let remedy = line["remedy"].as_str().unwrap();
    assert!(remedy.contains("lead to the master"), "{remedy}");
}

/// What another node purges while this one cannot write is known to it.
#[test]
fn an_entry_in_memory_is_dropped_by_a_purge_in_the_store() {
    use crate::cell::transition::Purge;
    let cells = cells();
    fill(&cells, "/a", b"page");
    block_on(cells.platform.sleep(Duration::from_secs(11)));
    cells.platform.store.is_read_only.set(true);
    assert_eq!(fill(&cells, "/a", b"new"), None);
    assert_eq!(fill(&cells, "/a", b"new"), Some(Settled::Done));
    assert!(is_stored(&locate(&cells, "/a")));
    block_on(cells.platform.sleep(Duration::from_secs(1)));
    // The other node's instance, on the same store.
    cells.platform.store.is_read_only.set(false);
    let other = crate::cells::Cells::new(
        Rc::clone(&cells.platform),
        Rc::clone(&cells.config),
        &origin(),
    );
    block_on(other.purge(visitor().key().to_owned(), Purge::Hard));
    cells.platform.store.is_read_only.set(true);
    cells.note_store_failure("swap", &StoreError::new("still"));
    assert!(!is_stored(&locate(&cells, "/a")));
}

#[test]
fn a_value_that_the_store_refuses_concerns_its_key_alone() {
    let cells = cells();
    cells.platform.store.value_max.set(2_000);
    assert_eq!(fill(&cells, "/small", b"page"), Some(Settled::Done));
    let large = &[b'x'; 5_000];
    assert_eq!(fill(&cells, "/large", large), Some(Settled::Refused));
    assert!(!cells.store_is_paused());
    // The instance has it all the same, and refreshes it in its memory.
    let located = locate(&cells, "/large");
    assert!(is_stored(&located));
    assert_eq!(located.loaded.backing, Backing::Local);
    assert_eq!(locate(&cells, "/small").loaded.backing, Backing::Shared);
    assert_eq!(logged(&cells, "value-refused"), 1);
    assert_eq!(logged(&cells, "store-failed"), 0);
    // Others are free to try, and know that their visitors need not wait for it.
    let other = crate::cells::Cells::new(
        Rc::clone(&cells.platform),
        Rc::clone(&cells.config),
        &origin(),
    );
    let found = locate(&other, "/large");
    let marks = found.loaded.cell.as_ref().map(|cell| cell.marks.clone());
    assert!(marks.is_some_and(|marks| marks.pass.is_some()));
    assert!(matches!(block_on(other.elect(&found)), Election::Held(_)));
}

/// The page had been short. It was served old for as long as failures of the origin allow.
#[test]
fn a_page_that_grew_too_long_for_the_store_is_not_left_there_as_it_was() {
    let cells = cells();
    cells.platform.store.value_max.set(2_000);
    assert_eq!(fill(&cells, "/a", b"short"), Some(Settled::Done));
    block_on(cells.platform.sleep(Duration::from_secs(11)));
    let long = &[b'x'; 5_000];
    assert_eq!(fill(&cells, "/a", long), Some(Settled::Refused));
    let other = crate::cells::Cells::new(
        Rc::clone(&cells.platform),
        Rc::clone(&cells.config),
        &origin(),
    );
    assert!(!is_stored(&locate(&other, "/a")));
}

#[test]
fn an_entry_that_could_not_be_published_is_kept_in_memory() {
    let cells = cells();
    // The store stops writing between election and publishing.
    let located = locate(&cells, "/a");
    let Election::Held(held) = block_on(cells.elect(&located)) else {
        panic!("no lease");
    };
    cells.platform.store.is_read_only.set(true);
    let settled = publish(&cells, &located, held, b"page");
    assert_eq!(settled, Settled::Failed);
    assert!(is_stored(&locate(&cells, "/a")));
}
