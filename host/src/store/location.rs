//! The value of `--store`.

use std::path::PathBuf;
use std::str::FromStr;

/// Where the store is.
#[derive(Debug, Clone)]
pub(crate) enum Location {
    /// In this process. It ends with the process and no other node shares it.
    Memory,
    /// In this file, which several processes (nodes) may share.
    Sqlite(PathBuf),
    /// On this Redis server, over TLS or not.
    Redis(Box<redis::Client>),
}

/// The remedy that ends every message.
const FORMS: &str = "write sqlite:PATH, redis://HOST:PORT, redis://HOST:PORT/DB, \
    rediss://HOST:PORT or memory";

/// The error does not repeat the text, which may contain a password.
impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("sqlite:") {
            if path.is_empty() {
                return Err(format!("it names no file; {FORMS}"));
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("redis://") || text.starts_with("rediss://") {
            return redis::Client::open(text)
                .map(|client| Self::Redis(Box::new(client)))
                .map_err(|error| {
                    format!("it is not the address of a Redis server ({error}); {FORMS}")
                });
        }
        Err(format!("there is no store of this kind; {FORMS}"))
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            // Without the password.
            Self::Redis(client) => {
                let address = client.get_connection_info().addr();
                let scheme = match address {
                    redis::ConnectionAddr::TcpTls { .. } => "rediss",
                    _ => "redis",
                };
                write!(f, "{scheme}://{address}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_store_is_recognised() {
        for (text, shown) in [
            ("memory", "memory"),
            ("sqlite:a/b.db", "sqlite:a/b.db"),
            ("sqlite:/a.db", "sqlite:/a.db"),
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("redis://:secret@cache:7000/3", "redis://cache:7000"),
            ("rediss://u:secret@cache:7000/3", "rediss://cache:7000"),
            ("rediss://cache", "rediss://cache:6379"),
        ] {
            let location: Result<Location, _> = text.parse();
            assert_eq!(location.map(|l| l.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn a_refusal_says_what_to_write_and_repeats_no_password() {
        for text in [
            "",
            "sqlite:",
            "postgres://x",
            "rediss://",
            "rediss://:s3cret@a:x",
            "redis://",
            "redis://:s3cret@a:x",
            "redis://:s3/cret@a",
            "a.db",
        ] {
            let refusal = text.parse::<Location>().err().unwrap_or_default();
            assert!(refusal.contains("write sqlite:PATH"), "{text:?}: {refusal}");
            assert!(!refusal.contains("s3"), "{text:?}: {refusal}");
        }
    }
}
