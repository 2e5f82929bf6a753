//! Authentication that belongs to a connection (RFC 4559, MS-NTHT).
//!
//! With NTLM and Negotiate a server authenticates the connection: whatever is
//! sent on it afterwards counts as sent by the same user. A connection that has
//! carried such a message must not be used for another visitor's request.

use super::fields::append;
use super::line::{members, trim};
use http::header::{AUTHORIZATION, PROXY_AUTHENTICATE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

/// The schemes, in lower case.
const SCHEMES: [&str; 2] = ["ntlm", "negotiate"];

/// What the operator says about an origin (`origin.connection_auth`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionAuth {
    /// It may tie a user to a connection.
    #[default]
    Refuse,
    /// It authenticates each request by itself.
    Forward,
}

/// How a message belongs to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// Not at all.
    None,
    /// A request with credentials of such a scheme.
    Credentials,
    /// An answer that asks for credentials, and offers such schemes alone.
    OnlyChallenges,
    /// An answer that asks for credentials, and offers other schemes as well.
    SomeChallenges,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// It goes on as it is.
    Forward,
    /// It goes on without the challenges of such schemes: a client would take one of them,
    /// and be refused.
    WithoutChallenges,
    /// The visitor gets 501 instead.
    Refuse,
}

/// Whether a response offers such a scheme, or goes on with a handshake of one.
pub fn offers_connection_auth(headers: &HeaderMap) -> bool {
    let lines = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    // A list of challenges, and each challenge's parameters are members of it
    // too; none of them begins with the name of a scheme and a space.
    lines(WWW_AUTHENTICATE)
        .chain(lines(PROXY_AUTHENTICATE))
        .flat_map(members)
        .any(is_of_a_bound_scheme)
}

/// How a request belongs to its connection. `Proxy-Authorization` does not count: it is
/// for the next hop, and is not sent to an origin.
pub fn bond_of_request(headers: &HeaderMap) -> Bond {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    match lines.any(|line| is_of_a_bound_scheme(line.as_bytes())) {
        true => Bond::Credentials,
        false => Bond::None,
    }
}

/// How an answer belongs to its connection.
pub fn bond_of_answer(status: StatusCode, headers: &HeaderMap) -> Bond {
    if status != StatusCode::UNAUTHORIZED {
        return Bond::None;
    }
    let lines = headers.get_all(WWW_AUTHENTICATE).iter();
    let (mut bound, mut other) = (false, false);
    for member in lines.flat_map(|line| members(line.as_bytes())) {
        match is_of_a_bound_scheme(member) {
            true => bound = true,
            false => other = true,
        }
    }
    match (bound, other) {
        (false, _) => Bond::None,
        (true, false) => Bond::OnlyChallenges,
        (true, true) => Bond::SomeChallenges,
    }
}

/// What becomes of a message. `closes` says whether the platform can send a request on a
/// connection that nothing is sent on afterwards; `origin` is what the operator says.
pub fn handling(bond: Bond, closes: bool, origin: ConnectionAuth) -> Handling {
    if closes || origin == ConnectionAuth::Forward {
        return Handling::Forward;
    }
    match bond {
        Bond::None => Handling::Forward,
        Bond::SomeChallenges => Handling::WithoutChallenges,
        Bond::Credentials | Bond::OnlyChallenges => Handling::Refuse,
    }
}

/// Removes the challenges of such schemes from an answer that offers others as well.
pub fn remove_bound_challenges(headers: &mut HeaderMap) {
    let lines = headers.get_all(WWW_AUTHENTICATE).iter();
    let left: Vec<Vec<u8>> = lines
        .filter_map(|line| {
            let all = members(line.as_bytes());
            let left: Vec<&[u8]> = all.filter(|member| !is_of_a_bound_scheme(member)).collect();
            (!left.is_empty()).then(|| left.join(&b", "[..]))
        })
        .collect();
    headers.remove(WWW_AUTHENTICATE);
    for line in left {
        // Parts of what was a value are a value.
        if let Ok(line) = HeaderValue::try_from(line) {
            append(headers, WWW_AUTHENTICATE, line);
        }
    }
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
    use super::super::fields::tests::{lines, map};
    use super::*;

    #[test]
    fn ntlm_and_negotiate_are_bound_to_their_connection() {
        for (name, value, bound) in [
            ("authorization", "NTLM TlRMTVNTUAAB", true),
            ("authorization", "Negotiate YII", true),
            ("authorization", "negotiate YII", true),
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
            // It is not sent to an origin.
            ("proxy-authorization", "NTLM TlRM", false),
        ] {
            let headers = map(&[(name, value)]);
            let found = match name.ends_with("authorization") {
                true => bond_of_request(&headers) == Bond::Credentials,
                false => offers_connection_auth(&headers),
            };
            assert_eq!(found, bound, "{name}: {value}");
        }
    }

    #[test]
    fn one_of_several_lines_is_enough() {
        let headers = map(&[
            ("www-authenticate", "Basic realm=\"a\""),
            ("www-authenticate", "NTLM"),
            ("authorization", "Basic bnRsbQ=="),
            ("authorization", "NTLM TlRM"),
        ]);
        assert!(offers_connection_auth(&headers));
        assert_eq!(bond_of_request(&headers), Bond::Credentials);
    }

    /// The lines of `WWW-Authenticate`, how the answer is bound, and the lines that are
    /// left.
    #[test]
    fn an_answer_is_told_by_what_it_offers_and_keeps_what_can_be_used() {
        for (offered, bond, left) in [
            (&["NTLM"][..], Bond::OnlyChallenges, &[][..]),
            (&["Negotiate", "NTLM"], Bond::OnlyChallenges, &[]),
            (&["Negotiate, NTLM"], Bond::OnlyChallenges, &[]),
            (&["negotiate", ""], Bond::OnlyChallenges, &[]),
            (&["NTLM TlRMTVNTUAAC"], Bond::OnlyChallenges, &[]),
            (&["NTLM TlRMTVNTUAAC=="], Bond::OnlyChallenges, &[]),
            (
                &["Negotiate", "NTLM", "Basic realm=\"a\""],
                Bond::SomeChallenges,
                &["Basic realm=\"a\""],
            ),
            (
                &["Negotiate, Digest realm=\"a, NTLM\", nonce=\"b\" , NTLM"],
                Bond::SomeChallenges,
                &["Digest realm=\"a, NTLM\", nonce=\"b\""],
            ),
            (
                &["Basic realm=\"NTLM\""],
                Bond::None,
                &["Basic realm=\"NTLM\""],
            ),
            (&[], Bond::None, &[]),
        ] {
            let fields = |values: &[&'static str]| {
                let all = values.iter().map(|value| ("www-authenticate", *value));
                map(&all.collect::<Vec<_>>())
            };
            let mut headers = fields(offered);
            let found = bond_of_answer(StatusCode::UNAUTHORIZED, &headers);
            assert_eq!(found, bond, "{offered:?}");
            // RFC 4559 section 4.1: the last step of a handshake, in an answer that is given.
            assert_eq!(bond_of_answer(StatusCode::OK, &headers), Bond::None);
            remove_bound_challenges(&mut headers);
            assert_eq!(lines(&headers), lines(&fields(left)), "{offered:?}");
        }
    }

    #[test]
    fn what_is_bound_to_a_connection_goes_on_where_the_connection_is_nobody_elses() {
        use ConnectionAuth::{Forward, Refuse};
        for (bond, handled) in [
            (Bond::None, Handling::Forward),
            (Bond::Credentials, Handling::Refuse),
            (Bond::OnlyChallenges, Handling::Refuse),
            (Bond::SomeChallenges, Handling::WithoutChallenges),
        ] {
            assert_eq!(handling(bond, false, Refuse), handled, "{bond:?}");
            for (closes, origin) in [(true, Refuse), (true, Forward), (false, Forward)] {
                let found = handling(bond, closes, origin);
                assert_eq!(found, Handling::Forward, "{bond:?} {closes} {origin:?}");
            }
        }
    }
}
