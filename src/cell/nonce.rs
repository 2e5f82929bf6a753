//! Random identities of writes and of lease holders.

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// 128 random bits, new for every write of a cell and for every lease.
///
/// Two writes of a cell are never byte-equal because of it, so a store that
/// compares values is free of ABA, and a writer recognises its own write when
/// it reads it back. Collisions are not guarded against: at 2^64 writes they
/// become likely, which is out of reach.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(u128);

impl Nonce {
    /// A nonce from 128 bits, which the caller drew at random.
    pub const fn new(bits: u128) -> Self {
        Nonce(bits)
    }

    /// The bits.
    pub const fn value(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({self})")
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Digits)
    }
}

/// Reads the digits where they are: the budget's record has hundreds of nonces.
struct Digits;

impl Visitor<'_> for Digits {
    type Value = Nonce;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a nonce of 32 hexadecimal digits")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Nonce, E> {
        u128::from_str_radix(text, 16)
            .map(Nonce)
            .map_err(|_| E::custom("a nonce is 32 hexadecimal digits"))
    }
}
