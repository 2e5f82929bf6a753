//! A store whose operations are counted, those of the store itself and not of what stands in
//! for it.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Backend, Number, StoreResult, Watch};
use crate::observe::{Kind, Operation, StoreOutcome};

/// Counts what is asked of a store.
#[derive(Debug)]
pub(super) struct Counted(pub(super) Arc<dyn Backend>);

/// Runs an operation. `says` is what a success is called.
async fn counted<T>(
    kind: Kind,
    work: impl Future<Output = StoreResult<T>>,
    says: impl FnOnce(&T) -> StoreOutcome,
) -> StoreResult<T> {
    let operation = Operation::begin(kind);
    let done = work.await;
    operation.end(match &done {
        Ok(value) => says(value),
        Err(_) => StoreOutcome::Error,
    });
    done
}

fn ok<T>(_: &T) -> StoreOutcome {
    StoreOutcome::Ok
}

fn swapped(is_done: &bool) -> StoreOutcome {
    match is_done {
        true => StoreOutcome::Ok,
        false => StoreOutcome::Conflict,
    }
}

#[async_trait]
impl Backend for Counted {
    async fn check(&self) -> StoreResult<()> {
        counted(Kind::Check, self.0.check(), ok).await
    }

    async fn get(&self, key: &str) -> StoreResult<Option<Vec<u8>>> {
        counted(Kind::Get, self.0.get(key), ok).await
    }

    async fn set(&self, key: &str, value: &[u8]) -> StoreResult<()> {
        counted(Kind::Set, self.0.set(key, value), ok).await
    }

    async fn delete(&self, key: &str) -> StoreResult<()> {
        counted(Kind::Delete, self.0.delete(key), ok).await
    }

    async fn keys(&self) -> StoreResult<Vec<String>> {
        counted(Kind::List, self.0.keys(), ok).await
    }

    async fn replace(&self, key: &str, expected: Option<&[u8]>, value: &[u8]) -> StoreResult<bool> {
        let replacing = self.0.replace(key, expected, value);
        counted(Kind::Swap, replacing, swapped).await
    }

    async fn remove_if(&self, key: &str, expected: &[u8]) -> StoreResult<bool> {
        counted(Kind::Swap, self.0.remove_if(key, expected), swapped).await
    }

    async fn increment(&self, key: &str, delta: i64, number: Number) -> StoreResult<i64> {
        let adding = self.0.increment(key, delta, number);
        counted(Kind::Increment, adding, ok).await
    }

    fn own_number(&self) -> Number {
        self.0.own_number()
    }

    /// What is watched is not counted: only an imitated platform asks for it.
    async fn watch(&self, key: &str) -> StoreResult<Option<Box<dyn Watch>>> {
        self.0.watch(key).await
    }
}
