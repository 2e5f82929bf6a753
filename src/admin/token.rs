//! The operator's token.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use std::fmt;

/// Longest token that a request may have, in bytes: a longer one is wrong.
const TOKEN_BYTES_MAX: usize = 4_096;

/// A token, as a hash. Hashes of equal length are compared in a time that says nothing of
/// where they differ.
pub(super) struct Token([u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// The token of a text; none of an empty one.
    pub(super) fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Token(hash(text)))
    }

    /// Whether a request has it as its one `Authorization`, scheme `Bearer` (RFC 6750
    /// section 2.1).
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let given = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(given) = given.filter(|given| given.len() <= TOKEN_BYTES_MAX) else {
            return false;
        };
        let pairs = self.0.iter().zip(hash(given));
        pairs.fold(0, |differs, (own, given)| differs | (own ^ given)) == 0
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::HeaderValue;

    #[test]
    fn one_bearer_token_and_no_other_is_known() {
        let token = Token::new(" s3cret\n").unwrap();
        for (values, expected) in [
            (&["Bearer s3cret"][..], true),
            (&["bearer  s3cret "], true),
            (&[], false),
            (&["s3cret"], false),
            (&["Basic s3cret"], false),
            (&["Bearer s3cre"], false),
            (&["Bearer s3cret2"], false),
            (&["Bearer"], false),
            (&["Bearer "], false),
            (&["Bearer s3cret", "Bearer s3cret"], false),
            (&["Bearer other", "Bearer s3cret"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            assert_eq!(token.is_in(&headers), expected, "{values:?}");
        }
        assert!(Token::new(" ").is_none());
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
