//! The fields of a message on their way to the host.
//!
//! A field that the host refuses is never left out of a message: its sender would not learn
//! of it, and a page without `Content-Security-Policy` or `Set-Cookie` is another page. A
//! request is not sent then, and a visitor gets 502. Fields of a connection are the host's
//! ([`crate::semantics::strip_connection_fields`]); the shield has removed them before.

use crate::world::event;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Display;

/// Most that the fields of a message may take in a host made with wasmtime, as
/// [`host_bytes`] counts. One of WASI 0.3 refuses more; one of WASI 0.2 ends the instance
/// (`wasmtime-wasi-http` 47 and 48, `DEFAULT_FIELD_SIZE_LIMIT` and `p2/error.rs`).
pub const HOST_BYTES_MAX: usize = 128 * 1024;

/// What such a host counts for each name and for each value beside its text: the size of its
/// own types.
const NAME_BYTES: usize = 32;
const VALUE_BYTES: usize = 40;

/// Room for what the shield adds to an answer: `Via`, `Cache-Status`, `Age`, `Date` and
/// `Content-Range`.
const ADDED_BYTES: usize = 1_024;

/// What a visitor is told whose answer the host refuses.
pub const REFUSED: &str = "the answer has fields that this host does not let through";

/// The fields of a message for the host. `Host` is not among them: in a request it is the
/// authority, which hosts are told apart, and in an answer it means nothing.
pub fn list_of(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers
        .iter()
        .filter(|(name, _)| **name != HOST)
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect()
}

/// The fields of an answer of the origin, with as much as the shield may add to them.
pub fn with_added(headers: &HeaderMap) -> HeaderMap {
    let mut all = headers.clone();
    if let Ok(value) = HeaderValue::try_from("x".repeat(ADDED_BYTES)) {
        let _full = all.try_append(HeaderName::from_static("x-added"), value);
    }
    all
}

/// What fields take in a host made with wasmtime, in bytes.
pub fn host_bytes(headers: &HeaderMap) -> usize {
    let names = headers.keys().map(|name| name.as_str().len() + NAME_BYTES);
    let values = headers.values().map(|value| value.len() + VALUE_BYTES);
    names.chain(values).fold(0, usize::saturating_add)
}

/// Refuses fields that take more than [`HOST_BYTES_MAX`].
///
/// # Errors
///
/// The longest of them, for the operator.
pub fn fits(headers: &HeaderMap) -> Result<(), String> {
    let bytes = host_bytes(headers);
    if bytes <= HOST_BYTES_MAX {
        return Ok(());
    }
    let longest = headers.iter().max_by_key(|(_, value)| value.len());
    let (name, length) = longest.map_or(("", 0), |(name, value)| (name.as_str(), value.len()));
    Err(format!(
        "all fields take {bytes} bytes of {HOST_BYTES_MAX}; the longest is `{name}` with {length}"
    ))
}

/// Hands fields to the host one by one, after it has refused them together.
///
/// # Errors
///
/// The first field that it refuses, and what it says, for the operator.
pub fn append_all<E: Display>(
    list: &[(String, Vec<u8>)],
    append: impl Fn(&str, &[u8]) -> Result<(), E>,
) -> Result<(), String> {
    let mut before = 0_usize;
    for (name, value) in list {
        append(name, value).map_err(|error| {
            let length = value.len();
            format!("`{name}` of {length} bytes, after {before} bytes of others: {error}")
        })?;
        before = before
            .saturating_add(name.len())
            .saturating_add(value.len());
    }
    Ok(())
}

/// The line for the operator's log of an answer that the host refuses.
pub fn refused_line(why: &str) -> String {
    event("answer-refused", &[("field", why.into())])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn map(fields: &[(&'static str, usize)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, length) in fields {
            let value = HeaderValue::try_from("v".repeat(*length)).unwrap();
            headers.append(*name, value);
        }
        headers
    }

    /// Above 128 KiB hosts refused all fields at once, and those that did not fit were left
    /// out: a page came without its `Set-Cookie` and `Content-Security-Policy`.
    #[test]
    fn fields_are_counted_as_wasmtime_does() {
        assert_eq!(host_bytes(&map(&[])), 0);
        assert_eq!(host_bytes(&map(&[("a", 0)])), 1 + 32 + 40);
        // A second line of a name has no name.
        assert_eq!(host_bytes(&map(&[("a", 5), ("a", 7)])), 33 + 45 + 47);
        let most = HOST_BYTES_MAX - (1 + 32 + 40);
        assert_eq!(fits(&map(&[("a", most)])), Ok(()));
        let refused = fits(&map(&[("a", most - 300), ("set-cookie", 301)]));
        let text = refused.unwrap_err();
        assert!(text.contains("`a`") && text.contains("131072"), "{text}");
        assert!(fits(&map(&[("a", most + 1)])).is_err());
    }

    #[test]
    fn there_is_room_for_what_the_shield_adds() {
        let headers = map(&[("a", 5)]);
        let added = host_bytes(&with_added(&headers)) - host_bytes(&headers);
        // Via, Cache-Status, Age, Date, Content-Range and Content-Length.
        let names = [
            "via",
            "cache-status",
            "age",
            "date",
            "content-range",
            "content-length",
        ];
        let names = names.map(|name| name.len() + NAME_BYTES + VALUE_BYTES);
        let values = "1.1 leeward".len() + 200 + 20 + 29 + 60 + 20;
        assert!(added >= names.iter().sum::<usize>() + values, "{added}");
    }

    #[test]
    fn the_field_that_the_host_refuses_is_named_and_none_is_left_out() {
        let list = list_of(&map(&[("a", 1), ("b", 2), ("host", 3), ("c", 4)]));
        let handed = std::cell::RefCell::new(Vec::new());
        let append = |refused: &'static str| {
            handed.borrow_mut().clear();
            append_all(&list, |name, _| match name == refused {
                true => Err("forbidden"),
                false => {
                    handed.borrow_mut().push(name.to_owned());
                    Ok(())
                }
            })
        };
        assert_eq!(append("d"), Ok(()));
        assert_eq!(*handed.borrow(), ["a", "b", "c"]);
        let text = append("b").unwrap_err();
        assert!(text.contains("`b`") && text.contains("forbidden"), "{text}");
    }
}
