//! File descriptors: each connection takes one, and systems give a program few
//! unless it asks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::report;

/// Most descriptors that are asked for: connections of visitors, as many to the
/// origin, and room for the store.
const WANTED: u64 = 65_536;

/// Raises this process's limit to what it wants or may have. Returns what it has then. A
/// refusal is no reason not to start.
pub(crate) fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Without a number there is no limit.
    let current = limit.current.unwrap_or(WANTED);
    let wanted = limit.maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    if current >= wanted {
        return current;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(error) => {
            report::event(
                "files-limited",
                format_args!("the limit of open files stays where it is: {error}"),
            );
            current
        }
    }
}
