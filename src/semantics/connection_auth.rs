//! Authentication that belongs to a connection (RFC 4559, MS-NTHT).
//!
//! With NTLM and Negotiate a server authenticates the connection: whatever is
//! sent on it afterwards counts as sent by the same user. A connection that has
//! carried such a message must not be used for another visitor's request.

use super::line::{members, trim};
use http::header::{AUTHORIZATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};

/// The schemes, in lower case.
const SCHEMES: [&str; 2] = ["ntlm", "negotiate"];

/// Whether a message belongs to its connection: a request with credentials of
/// such a scheme, or a response that offers one.
pub fn is_connection_bound(headers: &HeaderMap) -> bool {
    let lines = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let credentials = lines(AUTHORIZATION).chain(lines(PROXY_AUTHORIZATION));
    // A list of challenges, and each challenge's parameters are members of it
    // too; none of them begins with the name of a scheme and a space.
    let challenges = lines(WWW_AUTHENTICATE)
        .chain(lines(PROXY_AUTHENTICATE))
        .flat_map(members);
    credentials.chain(challenges).any(is_of_a_bound_scheme)
}

/// Whether credentials or a challenge begin with the name of such a scheme.
fn is_of_a_bound_scheme(text: &[u8]) -> bool {
    let name = trim(text)
        .split(|byte| byte.is_ascii_whitespace())
        .next()
        .unwrap_or_default();
    SCHEMES
        .iter()
        .any(|scheme| name.eq_ignore_ascii_case(scheme.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::map;
    use super::*;

    #[test]
    fn ntlm_and_negotiate_are_bound_to_their_connection() {
        for (name, value, bound) in [
            ("authorization", "NTLM TlRMTVNTUAAB", true),
            ("authorization", "Negotiate YII", true),
            ("authorization", "negotiate YII", true),
            ("proxy-authorization", "NTLM TlRM", true),
            ("www-authenticate", "NTLM", true),
            ("www-authenticate", "Negotiate", true),
            ("www-authenticate", "NTLM TlRMTVNTUAAC", true),
            ("www-authenticate", "Basic realm=\"a\", Negotiate", true),
            ("www-authenticate", "Negotiate , Basic realm=\"a\"", true),
            ("proxy-authenticate", "NTLM", true),
            // Other schemes, and the names where they are not a scheme.
            ("authorization", "Basic bnRsbQ==", false),
            ("authorization", "Bearer ntlm", false),
            ("authorization", "NTLMv2 a", false),
            ("authorization", "", false),
            ("www-authenticate", "Basic realm=\"a, NTLM\"", false),
            ("www-authenticate", "Digest realm=\"a\", ntlm=1", false),
            ("www-authenticate", "Bearer", false),
            ("x-authenticate", "NTLM", false),
        ] {
            let headers = map(&[(name, value)]);
            assert_eq!(is_connection_bound(&headers), bound, "{name}: {value}");
        }
    }

    #[test]
    fn one_of_several_lines_is_enough() {
        let headers = map(&[
            ("www-authenticate", "Basic realm=\"a\""),
            ("www-authenticate", "NTLM"),
        ]);
        assert!(is_connection_bound(&headers));
    }
}
