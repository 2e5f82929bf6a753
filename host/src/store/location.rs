//! Which store `--store` names.

use std::path::PathBuf;
use std::str::FromStr;

/// Where the store is.
#[derive(Debug, Clone)]
pub(crate) enum Location {
    /// In this process: lost with it, shared with no other node.
    Memory,
    /// In this file. Several processes on one file are several nodes.
    Sqlite(PathBuf),
    /// On this Redis server.
    Redis(redis::Client),
}

/// What to write, said in every refusal.
const FORMS: &str = "write sqlite:PATH, redis://HOST:PORT, redis://HOST:PORT/DB or memory";

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("sqlite:") {
            if path.is_empty() {
                return Err(format!("no file is named; {FORMS}"));
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("redis://") {
            return redis::Client::open(text)
                .map(Self::Redis)
                .map_err(|error| format!("not the address of a Redis server ({error}); {FORMS}"));
        }
        if text.starts_with("rediss://") {
            return Err(format!("Redis over TLS is not supported; {FORMS}"));
        }
        Err(format!("no store of this kind; {FORMS}"))
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            // Without its password, which the address may hold.
            Self::Redis(client) => write!(f, "redis://{}", client.get_connection_info().addr()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_by_its_form() {
        for (text, shown) in [
            ("memory", "memory"),
            ("sqlite:a/b.db", "sqlite:a/b.db"),
            ("sqlite:/a.db", "sqlite:/a.db"),
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:secret@cache:7000/3", "redis://cache:7000"),
        ] {
            let location: Result<Location, _> = text.parse();
            assert_eq!(location.map(|l| l.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn a_refusal_says_what_to_write() {
        for text in [
            "",
            "sqlite:",
            "postgres://x",
            "rediss://x",
            "redis://",
            "a.db",
        ] {
            let refusal = text.parse::<Location>().err().unwrap_or_default();
            assert!(refusal.contains("write sqlite:PATH"), "{text:?}: {refusal}");
        }
    }
}
