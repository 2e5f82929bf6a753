#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// A node that has read a value of a store which fails now.
fn standing(key: &str, value: &str) -> (Node, Instant) {
    let (mut node, now) = (Node::default(), Instant::now());
    node.has_read(key, Some(bytes(value)), now);
    assert!(node.fail(Part::Reads));
    (node, now)
}

fn offer(key: &str, value: &str, before: Option<&str>) -> Offer {
    Offer {
        key: key.to_owned(),
        value: bytes(value),
        instead_of: Expected::Value(before.map(bytes)),
    }
}

#[test]
fn while_the_store_fails_what_was_read_lately_is_answered() {
    let (mut node, now) = standing("k", "v");
    assert_eq!(node.read("k", now), Plan::Answer(Some(bytes("v"))));
    assert_eq!(node.read("other", now), Plan::Answer(None));
    // It was known already.
    assert!(!node.fail(Part::Reads) && !node.fail(Part::Writes));
    node.work_again();
    assert_eq!(node.read("k", now), Plan::Ask { is_known: true });
}

#[test]
fn of_two_swaps_from_one_value_one_is_applied() {
    let (mut node, now) = standing("k", "v");
    assert!(node.swap("k", Some(b"v"), bytes("a"), now));
    assert!(!node.swap("k", Some(b"v"), bytes("b"), now));
    assert!(!node.swap("k", None, bytes("b"), now));
    assert!(node.swap("new", None, bytes("a"), now));
    assert!(!node.swap("new", None, bytes("b"), now));
    // What was dropped from memory is what an instance has read.
    assert!(node.swap("dropped", Some(b"v"), bytes("a"), now));
    assert!(!node.swap("dropped", Some(b"v"), bytes("b"), now));
    let mut offers = node.offers();
    offers.sort_by(|one, other| one.key.cmp(&other.key));
    let expected = [
        offer("dropped", "a", Some("v")),
        offer("k", "a", Some("v")),
        offer("new", "a", None),
    ];
    assert_eq!(offers, expected);
}

#[test]
fn what_is_written_in_several_steps_is_offered_for_what_it_started_from() {
    let (mut node, now) = standing("k", "v");
    assert!(node.swap("k", Some(b"v"), bytes("a"), now));
    assert!(node.swap("k", Some(b"a"), bytes("b"), now));
    node.set("chunk", bytes("c"), now);
    node.keep_alone("guard", Some(bytes("1")), now);
    let chunk = Offer {
        key: "chunk".to_owned(),
        value: bytes("c"),
        instead_of: Expected::Anything,
    };
    // First what the cell may name.
    assert_eq!(node.offers(), [chunk.clone(), offer("k", "b", Some("v"))]);
    node.has_offered(&chunk, true, now);
    // It was taken, and written again meanwhile.
    node.has_offered(&offer("k", "a", Some("v")), true, now);
    assert_eq!(node.offers(), [offer("k", "b", Some("a"))]);
    node.has_offered(&offer("k", "b", Some("a")), true, now);
    assert_eq!(node.offers(), []);
    assert_eq!(node.answer("k"), Some(bytes("b")));
}

#[test]
fn what_the_store_does_not_take_is_dropped() {
    let (mut node, now) = standing("k", "v");
    assert!(node.swap("k", Some(b"v"), bytes("a"), now));
    node.has_offered(&offer("k", "a", Some("v")), false, now);
    assert_eq!((node.answer("k"), node.offers()), (None, vec![]));
    assert!(node.swap("late", None, bytes("a"), now));
    node.work_again();
    assert_eq!((node.answer("late"), node.offers()), (None, vec![]));
}

#[test]
fn a_newer_value_of_a_store_that_only_reads_goes_before_ones_own() {
    let (mut node, now) = (Node::default(), Instant::now());
    node.has_read("k", Some(bytes("v")), now);
    assert!(node.fail(Part::Writes));
    assert_eq!(node.read("k", now), Plan::Ask { is_known: true });
    assert!(node.swap("k", Some(b"v"), bytes("own"), now));
    let read = node.has_read("k", Some(bytes("v")), now);
    assert_eq!(read, Some(bytes("own")));
    let read = node.has_read("k", Some(bytes("newer")), now);
    assert_eq!(read, Some(bytes("newer")));
    assert_eq!(node.offers(), []);
}

#[test]
fn while_the_store_is_slow_what_it_showed_lately_is_answered() {
    let (mut node, now) = (Node::default(), Instant::now());
    node.has_read("k", Some(bytes("v")), now);
    assert_eq!(node.read_late("k"), Some(bytes("v")));
    assert_eq!(node.read("k", now), Plan::Answer(Some(bytes("v"))));
    assert_eq!(node.read("other", now), Plan::Ask { is_known: false });
    let later = now + LATELY;
    assert_eq!(node.read("k", later), Plan::Ask { is_known: false });
    // It has answered.
    node.has_read("other", None, now);
    assert_eq!(node.read("k", now), Plan::Ask { is_known: true });
}

#[test]
fn what_is_kept_is_bounded_and_what_is_in_use_stays() {
    let (mut node, now) = (Node::default(), Instant::now());
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    for number in 0..200 {
        node.has_read(&number.to_string(), Some(large.clone()), now);
        node.has_read("used", Some(large.clone()), now);
        assert!(node.young.bytes + node.old.bytes <= 2 * GENERATION_BYTES_MAX);
    }
    assert!(node.answer("used").is_some() && node.answer("199").is_some());
    assert!(node.answer("0").is_none());
    for number in 0..3 * GENERATION_ENTRIES_MAX {
        node.has_read(&number.to_string(), None, now);
    }
    assert!(node.young.values.len() + node.old.values.len() <= 2 * GENERATION_ENTRIES_MAX);
    let sum = |of: &Generation| {
        of.values
            .iter()
            .map(|(key, it)| size(key, it))
            .sum::<usize>()
    };
    assert_eq!(node.young.bytes, sum(&node.young));
    assert_eq!(node.old.bytes, sum(&node.old));
    node.fail(Part::Reads);
    node.swap("own", None, large, now);
    node.work_again();
    assert_eq!(node.young.bytes, sum(&node.young));
}
