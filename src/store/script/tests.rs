#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use futures::executor::block_on;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A server in memory that knows the commands above.
#[derive(Clone, Default)]
struct Double {
    values: Rc<RefCell<BTreeMap<Bytes, Bytes>>>,
    expiries: Rc<RefCell<Vec<Bytes>>>,
    /// It takes no more memory.
    full: Rc<Cell<bool>>,
    /// It never says that a listing is over.
    lists_for_ever: Rc<Cell<bool>>,
}

impl Redis for Double {
    async fn execute(
        &self,
        command: &'static str,
        arguments: Vec<Bytes>,
    ) -> Result<Vec<RedisValue>, StoreError> {
        let mut values = self.values.borrow_mut();
        if self.full.get() && ["SET", "EVAL"].contains(&command) {
            return Err(StoreError::new("OOM command not allowed"));
        }
        let or_nil = |value: Option<&Bytes>| {
            value.map_or(RedisValue::Nil, |value| RedisValue::Bytes(value.clone()))
        };
        Ok(match (command, &arguments[..]) {
            ("GET", [key]) => vec![or_nil(values.get(key))],
            ("SET", [key, value, px, expiry]) => {
                assert_eq!(px, "PX");
                self.expiries.borrow_mut().push(expiry.clone());
                values.insert(key.clone(), value.clone());
                vec![RedisValue::Status("OK".to_owned())]
            }
            ("DEL", [key]) => {
                let removed = values.remove(key).is_some();
                vec![RedisValue::Integer(removed.into())]
            }
            ("EVAL", [script, keys, key, is_present, expected, new, expiry]) => {
                assert_eq!((&script[..], &keys[..]), (SWAP.as_bytes(), &b"1"[..]));
                let expected = (is_present == "1").then_some(expected);
                if values.get(key) != expected {
                    return Ok(match values.get(key) {
                        Some(value) => {
                            let value = RedisValue::Bytes(value.clone());
                            vec![RedisValue::Integer(0), value]
                        }
                        None => vec![RedisValue::Integer(0)],
                    });
                }
                self.expiries.borrow_mut().push(expiry.clone());
                values.insert(key.clone(), new.clone());
                vec![RedisValue::Integer(1)]
            }
            ("EVAL", [script, keys, key, expected]) => {
                assert_eq!((&script[..], &keys[..]), (REMOVE_IF.as_bytes(), &b"1"[..]));
                let is_expected = values.get(key) == Some(expected);
                if is_expected {
                    values.remove(key);
                }
                vec![RedisValue::Integer(is_expected.into())]
            }
            ("SCAN", [cursor, pattern_word, pattern, count_word, _]) => {
                assert_eq!((pattern_word, count_word), (&word("MATCH"), &word("COUNT")));
                assert_eq!(*pattern, format!("{PREFIX}*"));
                // One key each time.
                let number: usize = std::str::from_utf8(cursor).unwrap().parse().unwrap();
                let mut keys = values.keys().skip(number);
                let key = keys.next().cloned();
                let next = match keys.next() {
                    None if !self.lists_for_ever.get() => 0,
                    _ => number + 1,
                };
                let next = RedisValue::Bytes(next.to_string().into());
                let keys = key.map(RedisValue::Bytes);
                std::iter::once(next).chain(keys).collect()
            }
            other => unreachable!("{other:?}"),
        })
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn store() -> (Double, ScriptStore<Double>) {
    let double = Double::default();
    (double.clone(), ScriptStore::new(double, EXPIRY))
}

#[test]
fn a_conditional_removal_needs_the_value_that_was_read() {
    let (_, store) = store();
    let (a, b) = (bytes("a"), bytes("b"));
    block_on(async {
        assert_eq!(store.remove_if("k", &a).await.unwrap(), Removal::Changed);
        store.put("k", &b).await.unwrap();
        assert_eq!(store.remove_if("k", &a).await.unwrap(), Removal::Changed);
        assert_eq!(store.load("k").await.unwrap(), Some(b.clone()));
        assert_eq!(store.remove_if("k", &b).await.unwrap(), Removal::Done);
        assert_eq!(store.load("k").await.unwrap(), None);
    });
}

#[test]
fn a_swap_needs_the_value_that_was_read() {
    let (double, store) = store();
    let (a, b) = (bytes("a"), bytes("b"));
    block_on(async {
        assert_eq!(store.load("k").await.unwrap(), None);
        let absent = Swap::Conflict(None);
        assert_eq!(store.swap("k", Some(&a), &b).await.unwrap(), absent);
        assert_eq!(store.swap("k", None, &a).await.unwrap(), Swap::Done);
        let lost = Swap::Conflict(Some(a.clone()));
        assert_eq!(store.swap("k", None, &b).await.unwrap(), lost);
        assert_eq!(
            store.swap("k", Some(&b), &b).await.unwrap(),
            Swap::Conflict(Some(a.clone()))
        );
        assert_eq!(store.swap("k", Some(&a), &b).await.unwrap(), Swap::Done);
        assert_eq!(store.load("k").await.unwrap(), Some(b));
        assert!(double.values.borrow().contains_key(&b"leeward:k"[..]));
        store.remove("k").await.unwrap();
        store.remove("k").await.unwrap();
        assert_eq!(store.load("k").await.unwrap(), None);
    });
}

#[test]
fn a_swap_that_a_host_ran_twice_is_done() {
    let (_, store) = store();
    block_on(async {
        let new = bytes("new");
        assert_eq!(store.swap("k", None, &new).await.unwrap(), Swap::Done);
        assert_eq!(store.swap("k", None, &new).await.unwrap(), Swap::Done);
    });
}

#[test]
fn every_value_expires_within_the_bounds() {
    for (asked, millis) in [
        (Duration::ZERO, EXPIRY_MIN),
        (EXPIRY, EXPIRY),
        (Duration::MAX, EXPIRY_MAX),
    ] {
        let double = Double::default();
        let store = ScriptStore::new(double.clone(), asked);
        block_on(async {
            store.put("k", &bytes("a")).await.unwrap();
            store.swap("l", None, &bytes("a")).await.unwrap();
        });
        let expected = Bytes::from(millis.as_millis().to_string());
        assert_eq!(*double.expiries.borrow(), [expected.clone(), expected]);
    }
}

#[test]
fn a_full_server_is_read_and_not_written() {
    let (double, store) = store();
    block_on(async {
        store.put("k", &bytes("a")).await.unwrap();
        double.full.set(true);
        assert_eq!(store.load("k").await.unwrap(), Some(bytes("a")));
        for error in [
            store.put("l", &bytes("b")).await.unwrap_err(),
            store.swap("l", None, &bytes("b")).await.unwrap_err(),
        ] {
            assert!(!error.is_refusal() && !error.is_contention(), "{error}");
        }
    });
}

#[test]
fn names_are_listed_without_those_of_others() {
    let (double, store) = store();
    block_on(async {
        for name in ["a", "b", "c"] {
            store.put(name, &bytes("x")).await.unwrap();
        }
        double
            .values
            .borrow_mut()
            .insert(bytes("other"), bytes("x"));
        let mut names = Vec::new();
        let listed = store.names(&mut |name| names.push(name.to_owned())).await;
        assert!(listed.unwrap());
        names.sort();
        assert_eq!(names, ["a", "b", "c"]);
        double.lists_for_ever.set(true);
        assert!(store.names(&mut |_| {}).await.is_err());
    });
}

#[test]
fn replies_of_another_kind_are_errors() {
    struct Strange(Vec<RedisValue>);
    impl Redis for Strange {
        async fn execute(
            &self,
            _: &'static str,
            _: Vec<Bytes>,
        ) -> Result<Vec<RedisValue>, StoreError> {
            Ok(self.0.clone())
        }
    }
    for reply in [
        vec![],
        vec![RedisValue::Nil, RedisValue::Nil],
        vec![RedisValue::Integer(2)],
        vec![RedisValue::Bytes(bytes("1")), RedisValue::Nil],
    ] {
        let store = ScriptStore::new(Strange(reply), EXPIRY);
        block_on(async {
            assert!(store.load("k").await.is_err());
            assert!(store.swap("k", None, &bytes("a")).await.is_err());
            assert!(store.put("k", &bytes("a")).await.is_err());
            assert!(store.names(&mut |_| {}).await.is_err());
        });
    }
}
