#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use futures::executor::block_on;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A database in memory that knows the statements above.
#[derive(Clone, Default)]
struct Double {
    table: Rc<RefCell<Option<BTreeMap<String, Bytes>>>>,
    /// It cannot be written: what SQLite says then.
    full: Rc<Cell<bool>>,
    /// What others do before the swap that is under way reads again.
    before_read: Rc<RefCell<Vec<Option<Bytes>>>>,
    /// What is there is never there when it is read.
    flickers: Rc<Cell<bool>>,
    /// Every name sorts before every other one.
    repeats_pages: Rc<Cell<bool>>,
    statements: Rc<RefCell<Vec<&'static str>>>,
}

impl Sql for Double {
    async fn execute(
        &self,
        doing: Doing,
        statement: &'static str,
        parameters: Vec<SqlValue>,
    ) -> Result<Vec<Vec<SqlValue>>, StoreError> {
        self.statements.borrow_mut().push(statement);
        let reads = [SELECT, NAMES].contains(&statement);
        assert_eq!(reads, doing == Doing::Reading, "{statement}");
        let is_pragma = statement == WRITE_AHEAD;
        if is_pragma || !reads && self.full.get() {
            return Err(StoreError::new("database or disk is full"));
        }
        let mut table = self.table.borrow_mut();
        if statement == CREATE {
            table.get_or_insert_default();
            return Ok(Vec::new());
        }
        let table = table
            .as_mut()
            .ok_or_else(|| StoreError::new("no such table: leeward in a statement"))?;
        let one = || vec![vec![SqlValue::Integer(1)]];
        Ok(match (statement, &parameters[..]) {
            (SELECT, [SqlValue::Text(name)]) => {
                if let Some(value) = self.before_read.borrow_mut().pop() {
                    table.remove(name);
                    table.extend(value.map(|value| (name.clone(), value)));
                }
                let value = table.get(name).filter(|_| !self.flickers.get()).cloned();
                value
                    .map(|value| vec![SqlValue::Blob(value)])
                    .into_iter()
                    .collect()
            }
            (SWAP_ABSENT, [SqlValue::Text(name), SqlValue::Blob(new)]) => {
                if table.contains_key(name) {
                    return Ok(Vec::new());
                }
                table.insert(name.clone(), new.clone());
                one()
            }
            (
                SWAP_PRESENT,
                [
                    SqlValue::Text(name),
                    SqlValue::Blob(new),
                    SqlValue::Blob(old),
                ],
            ) => {
                if table.get(name) != Some(old) {
                    return Ok(Vec::new());
                }
                table.insert(name.clone(), new.clone());
                one()
            }
            (PUT, [SqlValue::Text(name), SqlValue::Blob(value)]) => {
                table.insert(name.clone(), value.clone());
                Vec::new()
            }
            (REMOVE, [SqlValue::Text(name)]) => {
                table.remove(name);
                Vec::new()
            }
            (REMOVE_IF, [SqlValue::Text(name), SqlValue::Blob(old)]) => {
                if table.get(name) != Some(old) {
                    return Ok(Vec::new());
                }
                table.remove(name);
                one()
            }
            (NAMES, [SqlValue::Text(last), SqlValue::Integer(limit)]) => {
                let names: Vec<_> = table
                    .keys()
                    .filter(|name| *name > last || self.repeats_pages.get())
                    .take(usize::try_from(*limit).unwrap())
                    .cloned()
                    .collect();
                let text = |text: Option<String>| text.map_or(SqlValue::Other, SqlValue::Text);
                let joined = (!names.is_empty()).then(|| names.join("\n"));
                vec![vec![
                    text(names.last().cloned()),
                    SqlValue::Integer(i64::try_from(names.len()).unwrap()),
                    text(joined),
                ]]
            }
            other => unreachable!("{other:?}"),
        })
    }
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn store() -> (Double, SqlStore<Double>) {
    let double = Double::default();
    (double.clone(), SqlStore::new(double))
}

#[test]
fn a_database_without_the_table_is_read_as_an_empty_one() {
    let (double, store) = store();
    block_on(async {
        assert_eq!(store.load("k").await.unwrap(), None);
        assert!(store.names(&mut |_| unreachable!()).await.unwrap());
        assert!(double.table.borrow().is_none());
    });
}

#[test]
fn the_first_write_makes_the_table_and_later_ones_are_one_statement() {
    let (double, store) = store();
    block_on(async {
        let swapped = store.swap("k", None, &bytes("a")).await;
        assert_eq!(swapped.unwrap(), Swap::Done);
        double.statements.borrow_mut().clear();
        store
            .swap("k", Some(&bytes("a")), &bytes("b"))
            .await
            .unwrap();
        store.put("l", &bytes("c")).await.unwrap();
        assert_eq!(*double.statements.borrow(), [SWAP_PRESENT, PUT]);
        assert_eq!(store.load("k").await.unwrap(), Some(bytes("b")));
    });
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
    let (_, store) = store();
    let (a, b) = (bytes("a"), bytes("b"));
    block_on(async {
        let absent = Swap::Conflict(None);
        assert_eq!(store.swap("k", Some(&a), &b).await.unwrap(), absent);
        assert_eq!(store.swap("k", None, &a).await.unwrap(), Swap::Done);
        let lost = Swap::Conflict(Some(a.clone()));
        assert_eq!(store.swap("k", None, &b).await.unwrap(), lost);
        assert_eq!(store.swap("k", Some(&b), &b).await.unwrap(), lost);
        assert_eq!(store.swap("k", Some(&a), &b).await.unwrap(), Swap::Done);
        assert_eq!(store.load("k").await.unwrap(), Some(b));
        store.remove("k").await.unwrap();
        store.remove("k").await.unwrap();
        assert_eq!(store.load("k").await.unwrap(), None);
    });
}

#[test]
fn a_swap_that_a_host_ran_twice_is_done() {
    let (double, store) = store();
    block_on(async {
        store.put("k", &bytes("old")).await.unwrap();
        double.before_read.borrow_mut().push(Some(bytes("new")));
        let swapped = store.swap("k", None, &bytes("new")).await;
        assert_eq!(swapped.unwrap(), Swap::Done);
    });
}

#[test]
fn a_swap_of_a_value_that_was_removed_meanwhile_tries_again() {
    let (double, store) = store();
    block_on(async {
        store.put("k", &bytes("old")).await.unwrap();
        double.before_read.borrow_mut().push(None);
        let swapped = store.swap("k", None, &bytes("new")).await;
        assert_eq!(swapped.unwrap(), Swap::Done);
    });
}

#[test]
fn a_value_that_comes_and_goes_is_contended_and_no_failure() {
    let (double, store) = store();
    block_on(async {
        store.put("k", &bytes("old")).await.unwrap();
        double.flickers.set(true);
        let error = store.swap("k", None, &bytes("new")).await.unwrap_err();
        assert!(error.is_contention(), "{error}");
    });
}

#[test]
fn a_full_database_is_read_and_not_written() {
    let (double, store) = store();
    block_on(async {
        store.put("k", &bytes("a")).await.unwrap();
        double.full.set(true);
        assert_eq!(store.load("k").await.unwrap(), Some(bytes("a")));
        assert!(store.names(&mut |_| {}).await.unwrap());
        for error in [
            store.put("l", &bytes("b")).await.unwrap_err(),
            store.swap("l", None, &bytes("b")).await.unwrap_err(),
        ] {
            assert!(!error.is_refusal() && !error.is_contention(), "{error}");
        }
    });
}

#[test]
fn names_are_listed_in_pages_and_each_once() {
    let (double, store) = store();
    let count = 2 * PAGE + 1;
    block_on(async {
        for number in 0..count {
            let name = format!("{number}");
            store.put(&name, &bytes("x")).await.unwrap();
        }
        let mut names = Vec::new();
        let listed = store.names(&mut |name| names.push(name.to_owned())).await;
        assert!(listed.unwrap());
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        double.repeats_pages.set(true);
        assert!(store.names(&mut |_| {}).await.is_err());
    });
}

#[test]
fn rows_of_another_kind_are_errors() {
    struct Strange(Vec<SqlValue>);
    impl Sql for Strange {
        async fn execute(
            &self,
            _: Doing,
            _: &'static str,
            _: Vec<SqlValue>,
        ) -> Result<Vec<Vec<SqlValue>>, StoreError> {
            Ok(vec![self.0.clone()])
        }
    }
    for row in [vec![], vec![SqlValue::Other], vec![SqlValue::Integer(1)]] {
        let store = SqlStore::new(Strange(row));
        block_on(async {
            assert!(store.load("k").await.is_err());
            assert!(store.names(&mut |_| {}).await.is_err());
        });
    }
}
