//! What an error of Redis says, and whether a new connection may cure it.

use redis::{ErrorKind, RedisError};

use super::StoreError;

/// What begins the errors of a server that another server, or the same one on a new
/// connection, may not have: it has become a replica or a part of a cluster, the name
/// leads elsewhere by now, or it was restarted with other users.
const ELSEWHERE: [&str; 11] = [
    "READONLY",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "LOADING",
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOREPLICAS",
];

/// What begins the errors of a server that takes no writes for now, or no commands.
const WITHOUT_ROOM: [&str; 3] = ["OOM", "MISCONF", "BUSY"];

/// What an error means for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is as good as before.
    Keep,
    /// Another one may do better. Until there is one it can be used: a replica reads.
    Replace,
    /// It is gone.
    Gone,
}

/// What `error` means for the connection that it came from.
pub(super) fn verdict(error: &RedisError) -> Verdict {
    if error.is_connection_dropped() || error.is_unrecoverable_error() {
        return Verdict::Gone;
    }
    match error.kind() {
        ErrorKind::Parse => Verdict::Gone,
        ErrorKind::Io | ErrorKind::AuthenticationFailed => Verdict::Replace,
        _ if says(&words(error), &ELSEWHERE) => Verdict::Replace,
        _ => Verdict::Keep,
    }
}

/// The error for the guest, in the server's own words.
pub(super) fn failure(error: &RedisError) -> StoreError {
    let words = words(error);
    match verdict(error) {
        Verdict::Keep if !says(&words, &WITHOUT_ROOM) => StoreError::Other(words),
        _ => StoreError::Down(words),
    }
}

/// Whether the words are those of an error with one of these codes. A script's error has
/// the server's words behind its own, as in `ERR Error running script: @user_script:8:
/// -READONLY You can't write against a read only replica.`
fn says(words: &str, codes: &[&str]) -> bool {
    let is_code = |word: &str| codes.contains(&word);
    let mut each = words.split_whitespace();
    each.next().is_some_and(is_code) || each.any(|word| word.strip_prefix('-').is_some_and(is_code))
}

/// The error in the words of the server, or of the system.
pub(crate) fn words(error: &RedisError) -> String {
    let of_server = error.clone().into_server_errors();
    let first = of_server.as_ref().and_then(|errors| errors.first());
    match first {
        Some((_, error)) => match error.details() {
            Some(details) => format!("{} {details}", error.code()),
            None => error.code().to_owned(),
        },
        None => StoreError::other(error.clone()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn error(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn the_words_are_the_servers_own() {
        for line in [
            "READONLY You can't write against a read only replica.",
            "NOAUTH Authentication required.",
            "MISCONF Redis is configured to save RDB snapshots",
            "ERR unknown command",
        ] {
            assert_eq!(words(&error(line)), line);
        }
    }

    #[test]
    fn errors_that_only_a_new_connection_cures_are_told_from_others() {
        for (line, expected) in [
            (
                "READONLY You can't write against a read only replica.",
                Verdict::Replace,
            ),
            (
                "READONLY You can't write against a read only replica. script: f1, on @user_script:9.",
                Verdict::Replace,
            ),
            (
                "ERR Error running script (call to f_1): @user_script:8: @user_script: 8: \
                 -READONLY You can't write against a read only replica.",
                Verdict::Replace,
            ),
            ("NOAUTH Authentication required.", Verdict::Replace),
            ("WRONGPASS invalid username-password pair", Verdict::Replace),
            ("NOPERM this user has no permissions", Verdict::Replace),
            (
                "LOADING Redis is loading the dataset in memory",
                Verdict::Replace,
            ),
            ("MOVED 3999 127.0.0.1:6381", Verdict::Replace),
            ("ASK 3999 127.0.0.1:6381", Verdict::Replace),
            (
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                Verdict::Replace,
            ),
            ("CLUSTERDOWN The cluster is down", Verdict::Replace),
            (
                "NOREPLICAS Not enough good replicas to write.",
                Verdict::Replace,
            ),
            ("OOM command not allowed", Verdict::Keep),
            ("MISCONF Redis is configured to save", Verdict::Keep),
            ("ERR value is not READONLY", Verdict::Keep),
            ("WRONGTYPE Operation against a key", Verdict::Keep),
        ] {
            assert_eq!(verdict(&error(line)), expected, "{line}");
            let is_down = matches!(failure(&error(line)), StoreError::Down(_));
            let is_full = line.starts_with("OOM") || line.starts_with("MISCONF");
            assert_eq!(is_down, expected != Verdict::Keep || is_full, "{line}");
        }
        for (kind, expected) in [
            (std::io::ErrorKind::TimedOut, Verdict::Replace),
            (std::io::ErrorKind::ConnectionReset, Verdict::Gone),
            (std::io::ErrorKind::ConnectionRefused, Verdict::Gone),
            (std::io::ErrorKind::BrokenPipe, Verdict::Gone),
        ] {
            let error = RedisError::from(std::io::Error::from(kind));
            assert_eq!(verdict(&error), expected, "{kind:?}");
        }
    }
}
