#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

#[test]
fn settings_have_a_mark() {
    let mark = mark_of("http://a", "x = 1\n");
    assert_eq!(mark.len(), 8);
    assert_eq!(mark, mark_of("http://a", "x = 1"));
    assert_ne!(mark, mark_of("http://a", "x = 2"));
    assert_ne!(mark, mark_of("http://ax", " = 1"));
}
