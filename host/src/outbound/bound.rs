//! Authentication that holds for a connection instead of a request: NTLM, and
//! Negotiate, which may contain NTLM.
//!
//! After such a handshake a server takes every later request on the connection
//! as one of the visitor who authenticated. So a connection that carried a step
//! of a handshake, or on which the origin offered one, is closed after the
//! answer and never used for another request.
//!
//! The handshake of NTLM takes several requests on one connection. It does not
//! succeed through this host, because requests of one visitor do not share a
//! connection to the origin. Negotiate with Kerberos needs only one request and
//! works.

use http::header::{
    AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    WWW_AUTHENTICATE,
};

/// The schemes that authenticate a connection.
const SCHEMES: [&[u8]; 2] = [b"ntlm", b"negotiate"];

/// Returns whether a request with these fields authenticates its connection.
pub(super) fn authenticates_connection(fields: &HeaderMap) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION]
        .iter()
        .any(|name| names_scheme(fields, name))
}

/// Returns whether an answer with these fields offers to authenticate its
/// connection, or goes on with a handshake.
pub(super) fn offers_connection_authentication(fields: &HeaderMap) -> bool {
    [WWW_AUTHENTICATE, PROXY_AUTHENTICATE]
        .iter()
        .any(|name| names_scheme(fields, name))
}

/// Returns whether a member of the field is a challenge, or credentials, of one
/// of [`SCHEMES`]. Commas in quoted strings are taken for separators: at worst a
/// connection is closed that could have been kept.
fn names_scheme(fields: &HeaderMap, name: &HeaderName) -> bool {
    fields
        .get_all(name)
        .iter()
        .flat_map(|value: &HeaderValue| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|member| {
            member
                .trim_ascii()
                .split(|byte| byte.is_ascii_whitespace())
                .next()
        })
        .any(|word| {
            SCHEMES
                .iter()
                .any(|scheme| word.eq_ignore_ascii_case(scheme))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_that_authenticate_a_connection_are_recognised() {
        for (value, bound) in [
            ("NTLM", true),
            ("NTLM TlRMTVNTUAABAAAA", true),
            ("ntlm", true),
            ("Negotiate YIIZ", true),
            ("Negotiate, NTLM", true),
            ("Basic realm=\"a\", NTLM", true),
            ("Basic bnRsbTpudGxt", false),
            ("Bearer ntlm", false),
            ("Digest username=\"ntlm\"", false),
            ("NTLMv3 x", false),
            ("", false),
        ] {
            for name in [AUTHORIZATION, PROXY_AUTHORIZATION] {
                let fields = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
                assert_eq!(authenticates_connection(&fields), bound, "{value:?}");
                assert!(!offers_connection_authentication(&fields), "{value:?}");
            }
            for name in [WWW_AUTHENTICATE, PROXY_AUTHENTICATE] {
                let fields = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
                assert_eq!(
                    offers_connection_authentication(&fields),
                    bound,
                    "{value:?}"
                );
                assert!(!authenticates_connection(&fields), "{value:?}");
            }
        }
    }

    #[test]
    fn every_line_of_a_field_is_read() {
        let mut fields = HeaderMap::new();
        for value in ["Basic realm=\"a\"", "Negotiate"] {
            fields.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        assert!(offers_connection_authentication(&fields));
    }
}
