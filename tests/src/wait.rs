//! Waiting for conditions, always with a deadline.
//!
//! These are the only places where a test lets time pass.

use std::time::{Duration, Instant};

/// How long to leave the processor to others between two looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// The longest that a condition may take that needs only processor time: long,
/// because a machine that builds something else beside the tests is slow.
pub const SOON: Duration = Duration::from_secs(30);

/// Looks until there is something to see, and returns it.
///
/// # Panics
///
/// When `limit` has passed: the test fails, saying what it waited for.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(
            Instant::now() < deadline,
            "waited {limit:?} in vain until {what}"
        );
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// Looks for as long as `span`, and fails as soon as the condition does not
/// hold: the way to show that something does *not* happen.
///
/// # Panics
///
/// When the condition does not hold.
pub async fn throughout(what: &str, span: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + span;
    loop {
        assert!(
            holds().await,
            "for {span:?} it should have held that {what}"
        );
        if Instant::now() >= end {
            return;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// Lets the clock pass a moment, such as the one at which an entry expires.
pub async fn until_past(moment: Instant) {
    while Instant::now() <= moment {
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
