//! The platform's limit of requests to other servers.
//!
//! All nodes of a store count together, in the store, for each hour of the clock. While
//! the store fails each counts for itself.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::limits::{HOUR, Limit, Limiter};
use crate::store::Store;

/// Counts requests.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    limiter: Limiter,
    store: Store,
}

impl Quota {
    /// Counts with the other nodes of `store`.
    pub(crate) fn new(limiter: Limiter, store: Store) -> Self {
        Self { limiter, store }
    }

    /// Counts one more request. Says whether it may be sent.
    pub(super) async fn admit(&self) -> bool {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
        let hour = elapsed.map_or(0, |it| it.as_secs() / HOUR.as_secs());
        self.admit_in(hour).await
    }

    async fn admit_in(&self, hour: u64) -> bool {
        let Some(most) = self.limiter.limits().outbound_per_hour else {
            return true;
        };
        let name = |hour: u64| format!("outbound/{hour}");
        let Ok(count) = self.store.count(&name(hour)).await else {
            return self.limiter.outbound().is_ok();
        };
        if count == 1 {
            // If it stays, nothing but its room is lost.
            drop(self.store.forget_count(&name(hour.saturating_sub(1))).await);
        }
        let is_admitted = count <= i64::from(most);
        if !is_admitted {
            self.limiter.reached(Limit::Outbound);
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::limits::Platform;
    use crate::store::{Behaviour, Location, open};

    async fn admitted(nodes: &[Quota], hour: u64, requests: usize) -> usize {
        let mut admitted = 0;
        for node in nodes.iter().cycle().take(requests) {
            admitted += usize::from(node.admit_in(hour).await);
        }
        admitted
    }

    #[tokio::test]
    async fn nodes_of_one_store_share_the_requests_of_an_hour() {
        let store = open(&Location::Memory, Behaviour::Exact, HOUR);
        let node = || Quota::new(Limiter::new(Platform::FermyonCloud), store.clone());
        let nodes = [node(), node()];
        assert_eq!(admitted(&nodes, 1, 600).await, 500);
        assert_eq!(admitted(&nodes, 2, 10).await, 10);
        // The component does not see the count.
        assert_eq!(store.keys().await.unwrap(), [""; 0]);
        let other = Quota::new(Limiter::new(Platform::Akamai), store);
        assert_eq!(admitted(&[other], 3, 600).await, 600);
    }
}
