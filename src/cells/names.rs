//! The names of values in the store, and the keys of cells that are not a
//! question's primary one.
//!
//! | name | value |
//! | --- | --- |
//! | `cell/` and a hash of the key | a cell |
//! | `body/`, a nonce, `/`, a number | a chunk of a body |
//! | `budget/` and a hash of the origin | the origin's record |
//! | `purges/` and a hash of the origin | the purges of more than one URL |
//! | `warm/` and a hash of the origin | when pages were last fetched at the start of an instance |
//! | `counts/` and a hash of the origin and a number | what instances have counted |
//!
//! The key of a target contains no line break. The key of its preflights adds the line
//! `preflight`, which begins like no line that is added here. So the keys that are made
//! here by adding a line differ from all keys, and from each other. The one kind of value that is named
//! elsewhere is below this layer: the guards of [`Guarded`](crate::store::Guarded).

use crate::cell::Nonce;
use sha2::{Digest, Sha256};

/// What separates a key from the selector of a variant.
const VARIANT: &str = "\nvary ";

/// The name under which a store keeps the cell of a key: `cell/` and 32
/// hexadecimal digits, within every platform's limit. The cell has the whole
/// key, so a collision reads as a miss.
pub fn cell_id(key: &str) -> String {
    hashed("cell/", key)
}

/// The name of the record of an origin.
pub fn budget_id(origin: &str) -> String {
    hashed("budget/", origin)
}

/// The name of the record of purges of an origin.
pub fn purges_id(origin: &str) -> String {
    hashed("purges/", origin)
}

/// The name of one of the values with what was counted for an origin.
pub(super) fn counts_id(origin: &str, shard: u32) -> String {
    hashed("counts/", &format!("{origin} {shard}"))
}

/// The name of the record of who fetched pages at the start.
pub(super) fn warming_id(origin: &str) -> String {
    hashed("warm/", origin)
}

fn hashed(prefix: &str, text: &str) -> String {
    use std::fmt::Write;
    let mut id = String::from(prefix);
    for byte in Sha256::digest(text.as_bytes()).iter().take(16) {
        // Writing to a `String` cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// What a name in the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A cell, by the hash of its key.
    Cell(u128),
    /// A chunk: the body's nonce, and the chunk's number.
    Chunk(u128, u32),
    /// A guard, by its time bucket.
    Guard(u64),
}

/// Reads a name; none if it is not made here nor by
/// [`Guarded`](crate::store::Guarded).
pub(super) fn parse_name(name: &str) -> Option<Name> {
    let (kind, rest) = name.split_once('/')?;
    let hash = |text: &str| {
        let is_hash = text.len() == 32;
        is_hash.then(|| u128::from_str_radix(text, 16).ok())?
    };
    match (kind, rest.split_once('/')) {
        ("cell", None) => Some(Name::Cell(hash(rest)?)),
        ("body", Some((body, chunk))) => Some(Name::Chunk(hash(body)?, chunk.parse().ok()?)),
        ("guard", Some((_, bucket))) => Some(Name::Guard(u64::from_str_radix(bucket, 16).ok()?)),
        _ => None,
    }
}

/// The name of a chunk: `body/`, the body's nonce, and the chunk's number; under
/// 64 bytes. It does not contain the cell's name, because a body can move to a
/// variant's cell.
pub(super) fn chunk_name(body: Nonce, chunk: u64) -> String {
    format!("body/{body}/{chunk}")
}

/// The key of the cell of a variant of `key`.
pub(crate) fn variant_key(key: &str, selector: &str) -> String {
    format!("{key}{VARIANT}{selector}")
}

/// Whether `variant` is the key of a variant of `key`.
pub(super) fn is_variant_of(variant: &str, key: &str) -> bool {
    variant
        .strip_prefix(key)
        .is_some_and(|rest| rest.starts_with(VARIANT))
}

/// What ends the key of a list of variants.
const LIST: &str = "\nvariants";

/// The key of the cell that lists the variants of `key`.
pub(super) fn list_key(key: &str) -> String {
    format!("{key}{LIST}")
}

/// Whether a key is that of a list of variants.
pub(super) fn is_list(key: &str) -> bool {
    key.ends_with(LIST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CHUNKS_MAX;

    #[test]
    fn cell_names_are_short_and_differ() {
        let (a, b) = (cell_id("a"), cell_id("b"));
        assert_eq!(a, "cell/ca978112ca1bbdcafac231b39a23dc4d");
        assert_eq!(a.len(), b.len());
        assert_ne!(a, b);
    }

    #[test]
    fn names_are_read_back() {
        let id = cell_id("a");
        let hash = match parse_name(&id) {
            Some(Name::Cell(hash)) => hash,
            Some(Name::Chunk(..) | Name::Guard(_)) | None => 0,
        };
        assert_eq!(format!("cell/{hash:032x}"), id);
        let chunk = chunk_name(Nonce::new(7), 3);
        assert_eq!(parse_name(&chunk), Some(Name::Chunk(7, 3)));
        assert_eq!(parse_name("guard/ab/1f"), Some(Name::Guard(0x1f)));
        for other in [
            "", "cell", "cell/", "cell/1", "budget/1", "body/1/1", "guard/1",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn chunk_names_are_short() {
        let name = chunk_name(Nonce::new(u128::MAX), u64::from(CHUNKS_MAX));
        assert!(name.starts_with("body/ffff"), "{name}");
        assert!(name.len() < 64, "{name}");
    }

    #[test]
    fn a_variant_belongs_to_its_own_key_only() {
        let variant = variant_key("a/b", "selector");
        assert!(is_variant_of(&variant, "a/b"));
        assert!(!is_variant_of(&variant, "a/"));
        assert!(!is_variant_of(&variant, "a/b/c"));
        assert!(!is_variant_of(&list_key("a/b"), "a/b"));
        assert!(!is_variant_of("a/b", "a/b"));
        let preflight = crate::question::preflight::preflight_key("a/b");
        for of_preflight in [
            preflight.clone(),
            variant_key(&preflight, "selector"),
            list_key(&preflight),
        ] {
            assert!(!is_variant_of(&of_preflight, "a/b"));
            assert_ne!(of_preflight, list_key("a/b"));
        }
        assert!(is_variant_of(&variant_key(&preflight, "s"), &preflight));
    }
}
