//! Tags of stored responses: `Surrogate-Key`, `Cache-Tag`, and those of rules.

use http::{HeaderMap, HeaderName};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Longest tag, in bytes. Fastly's limit for a key.
pub const TAG_BYTES_MAX: usize = 1_024;

/// Most tags of an answer that count; further ones are left out.
pub const TAGS_MAX_PER_ANSWER: usize = 1_024;

/// Tags that are separated by spaces, as Fastly and modules for Varnish have them.
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// Tags that are separated by commas, as Cloudflare and Akamai have them.
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// A tag: a hash of its name in lower case. Cloudflare does not tell cases apart, and a
/// purge of too much does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u64);

impl Tag {
    /// The tag of a name. `None` if it is empty, longer than [`TAG_BYTES_MAX`], or has
    /// spaces, commas or control characters: no answer can have it.
    pub fn named(name: &str) -> Option<Self> {
        let is_separator = |byte: u8| byte == b',' || byte <= b' ' || byte == 0x7F;
        if name.is_empty() || name.len() > TAG_BYTES_MAX || name.bytes().any(is_separator) {
            return None;
        }
        let hash = Sha256::digest(name.to_ascii_lowercase());
        let first = hash.first_chunk::<8>()?;
        Some(Tag(u64::from_be_bytes(*first)))
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::invalid_value(Unexpected::Str(&text), &"sixteen digits");
        if text.len() != 16 {
            return Err(wrong());
        }
        u64::from_str_radix(&text, 16).map(Tag).map_err(|_| wrong())
    }
}

/// The tags that an answer's fields name, at most [`TAGS_MAX_PER_ANSWER`].
pub fn tags_of(headers: &HeaderMap) -> impl Iterator<Item = Tag> {
    let values = headers.get_all(SURROGATE_KEY).iter();
    let values = values.chain(headers.get_all(CACHE_TAG));
    let texts = values.filter_map(|value| value.to_str().ok());
    let words = texts.flat_map(|text| text.split([',', ' ', '\t']));
    words.filter_map(Tag::named).take(TAGS_MAX_PER_ANSWER)
}
