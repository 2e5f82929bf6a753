//! Prefixes of URLs.

use crate::question::policy::KeyPolicy;
use crate::question::target::canonical;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest prefix, in bytes.
pub const PREFIX_BYTES_MAX: usize = 1_024;

/// The beginning of URLs: of path and query, and a host where it is part of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// None for every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// In canonical form. Begins with a slash.
    path: String,
}

/// Why a text is not a prefix: what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPrefix {
    /// It does not begin with a slash.
    WithoutSlash,
    /// It has more than [`PREFIX_BYTES_MAX`] bytes.
    TooLong,
    /// It has a `*` elsewhere than at its end.
    Star,
    /// It has a character that no URL has.
    Characters,
}

impl fmt::Display for NoPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoPrefix::WithoutSlash => f.write_str(
                "a prefix begins with a slash, or with http:// or https:// and a host; write for \
                 instance \"/products/\"",
            ),
            NoPrefix::TooLong => write!(f, "a prefix has at most {PREFIX_BYTES_MAX} bytes"),
            NoPrefix::Star => f.write_str(
                "a prefix has no * but at its end, where it means the same as without; write for \
                 instance \"/products/\"",
            ),
            NoPrefix::Characters => {
                f.write_str("a prefix has no spaces, # or control characters; escape them with %")
            }
        }
    }
}

impl Prefix {
    /// Reads a prefix of a path, as `/products/`. A `*` at its end changes nothing. `host`,
    /// in canonical form, counts where keys have hosts; paths are put into lower case where
    /// keys are.
    ///
    /// # Errors
    ///
    /// If it is not one.
    pub fn parse(host: Option<String>, text: &str, key: &KeyPolicy) -> Result<Self, NoPrefix> {
        let path = text.strip_suffix('*').unwrap_or(text);
        if !path.starts_with('/') {
            return Err(NoPrefix::WithoutSlash);
        }
        if path.contains('*') {
            return Err(NoPrefix::Star);
        }
        if path.len() > PREFIX_BYTES_MAX {
            return Err(NoPrefix::TooLong);
        }
        let is_of_urls = |byte: u8| byte.is_ascii_graphic() && byte != b'#' || byte >= 0x80;
        if !path.bytes().all(is_of_urls) {
            return Err(NoPrefix::Characters);
        }
        // Parameters of a query that is cut off cannot be dropped or sorted.
        let policy = KeyPolicy {
            lowercase: key.lowercase,
            ..KeyPolicy::default()
        };
        Ok(Prefix {
            host,
            path: canonical(path, &policy),
        })
    }

    /// Whether a URL begins with it.
    pub(super) fn matches(&self, host: Option<&str>, target: &str) -> bool {
        let is_its_host = match (&self.host, host) {
            (Some(own), Some(host)) => own == host,
            (None, _) | (_, None) => true,
        };
        is_its_host && target.starts_with(&self.path)
    }
}
