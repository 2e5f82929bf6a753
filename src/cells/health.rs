//! The health of the platform's store: no operation takes longer than
//! [`STORE_TIMEOUT`], and after a failure the store is left alone for a moment.

use super::Cells;
use crate::store::{STORE_TIMEOUT, StoreError};
use crate::time::Time;
use crate::world::{Platform, event};
use futures::future::{Either, select};
use std::pin::pin;
use std::time::Duration;

/// How long an instance does without the store after it failed.
pub(super) const STORE_PAUSE: Duration = Duration::from_secs(1);

impl<P: Platform> Cells<P> {
    /// Whether the shared store is being left alone after a failure.
    pub(super) fn store_is_paused(&self) -> bool {
        self.platform.now() < self.store_pause.get()
    }

    /// Whether the shared store has failed at `moment` or after it.
    pub(crate) fn store_failed_since(&self, moment: Time) -> bool {
        self.store_pause.get() >= moment.plus(STORE_PAUSE)
    }

    /// Runs an operation of the shared store, for at most [`STORE_TIMEOUT`].
    pub(super) async fn within<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let timeout = self.platform.sleep(STORE_TIMEOUT);
        match select(pin!(operation), pin!(timeout)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(StoreError::new(format!(
                "the store did not answer within {STORE_TIMEOUT:?}"
            ))),
        }
    }

    /// Like [`Cells::within`], and notes a failure.
    pub(super) async fn noting<T>(
        &self,
        operation: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.within(work)
            .await
            .inspect_err(|error| self.note_store_failure(operation, error))
    }

    pub(crate) fn note_store_failure(&self, operation: &str, error: &StoreError) {
        self.store_pause.set(self.platform.now().plus(STORE_PAUSE));
        self.platform.log(&event(
            "store-failed",
            &[
                ("operation", operation.into()),
                ("error", error.to_string().into()),
            ],
        ));
    }
}
