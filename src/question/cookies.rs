//! `Cookie` fields: which cookies say something about the visitor.

use super::policy::{Cookies, Pattern, any_matches};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// What a request's cookies mean for its question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Crumbs {
    /// There are no cookies, or only ignored ones.
    None,
    /// Credentials: the answer may be for this visitor alone.
    Credentials,
    /// These, in the order of the setting, as the origin gets them.
    Keyed(String),
}

/// Reads the cookies of a request (RFC 6265 section 4.2).
///
/// A field that is not a list of `name=value` pairs counts as credentials,
/// because nothing in it can be told apart.
pub(super) fn read(headers: &HeaderMap, ignored: &[Pattern], cookies: &Cookies) -> Crumbs {
    if *cookies == Cookies::Ignore {
        return Crumbs::None;
    }
    let mut pairs = Vec::new();
    for line in headers.get_all(COOKIE) {
        let Ok(line) = line.to_str() else {
            return Crumbs::Credentials;
        };
        for pair in line
            .split(';')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            match pair.split_once('=') {
                Some((name, _)) if !name.is_empty() => pairs.push((name, pair)),
                Some(_) | None => return Crumbs::Credentials,
            }
        }
    }
    match cookies {
        Cookies::Ignore => Crumbs::None,
        Cookies::Pass => match pairs.iter().all(|(name, _)| any_matches(ignored, name)) {
            true => Crumbs::None,
            false => Crumbs::Credentials,
        },
        Cookies::Key(names) => {
            let keyed: Vec<&str> = names
                .iter()
                .flat_map(|name| pairs.iter().filter(move |(known, _)| known == name))
                .map(|(_, pair)| *pair)
                .collect();
            match keyed.is_empty() {
                true => Crumbs::None,
                false => Crumbs::Keyed(keyed.join("; ")),
            }
        }
    }
}

/// Removes from an answer each `Set-Cookie` that names a cookie of the visitor
/// which is not in `sent`, the cookies that the origin got. It cannot have meant
/// to replace that one: it has begun another session.
pub(super) fn withhold<'a>(
    sent: impl Iterator<Item = &'a HeaderValue>,
    visitor: &HeaderMap,
    answer: &mut HeaderMap,
) {
    let sent: Vec<&[u8]> = sent.flat_map(names).collect();
    let at_risk: Vec<&[u8]> = visitor
        .get_all(COOKIE)
        .iter()
        .flat_map(names)
        .filter(|name| !sent.contains(name))
        .collect();
    let set = answer.get_all(SET_COOKIE).iter();
    let kept: Vec<HeaderValue> = set
        .filter(|line| {
            names(line)
                .next()
                .is_none_or(|name| !at_risk.contains(&name))
        })
        .cloned()
        .collect();
    answer.remove(SET_COOKIE);
    for line in kept {
        let _full = answer.try_append(SET_COOKIE, line);
    }
}

/// The names of a line of `Cookie`; of `Set-Cookie`, the first is the cookie's.
fn names(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let pairs = line.as_bytes().split(|byte| *byte == b';');
    pairs.map(|pair| {
        let name = pair.split(|byte| *byte == b'=').next();
        name.unwrap_or_default().trim_ascii()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn crumbs(lines: &[&[u8]], cookies: &Cookies) -> Crumbs {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap());
        }
        read(
            &headers,
            &[Pattern::new("_ga*"), Pattern::new("_gid")],
            cookies,
        )
    }

    #[test]
    fn cookies_that_are_ignored_are_no_credentials_and_malformed_ones_are() {
        for (lines, expected) in [
            (&[][..], Crumbs::None),
            (&[&b""[..]][..], Crumbs::None),
            (&[b"_ga=GA1.2; _gid=3"], Crumbs::None),
            (&[b"_ga=GA1.2;_gid=3;"], Crumbs::None),
            (&[b"_ga=1", b"_gid=2"], Crumbs::None),
            (&[b"_ga=1; session=2"], Crumbs::Credentials),
            (&[b"_ga=1", b"session=2"], Crumbs::Credentials),
            (&[b"_GA=1"], Crumbs::Credentials),
            (&[b"_ga"], Crumbs::Credentials),
            (&[b"=1"], Crumbs::Credentials),
            (&[b"_ga=\xfc"], Crumbs::Credentials),
        ] {
            assert_eq!(crumbs(lines, &Cookies::Pass), expected, "{lines:?}");
            assert_eq!(crumbs(lines, &Cookies::Ignore), Crumbs::None, "{lines:?}");
        }
    }

    #[test]
    fn keyed_cookies_come_in_the_order_of_the_setting() {
        let key = Cookies::Key(vec!["lang".into(), "currency".into()]);
        let keyed = |text: &str| Crumbs::Keyed(text.into());
        assert_eq!(
            crumbs(&[b"a=1; currency=eur; lang=de"], &key),
            keyed("lang=de; currency=eur")
        );
        assert_eq!(crumbs(&[b"lang=de", b"x=1"], &key), keyed("lang=de"));
        assert_eq!(crumbs(&[b"session=1"], &key), Crumbs::None);
        assert_eq!(crumbs(&[b"lang"], &key), Crumbs::Credentials);
    }

    #[test]
    fn a_cookie_that_the_origin_has_not_seen_is_not_replaced() {
        let map = |name: http::HeaderName, lines: &[&'static str]| -> HeaderMap {
            let lines = lines.iter().map(|line| HeaderValue::from_static(line));
            lines.map(|line| (name.clone(), line)).collect()
        };
        for (visitor, sent, set, expected) in [
            (&[][..], "", &["session=new"][..], &["session=new"][..]),
            (&["session=1"], "", &["session=new"], &[]),
            (&["session=1"], "session=1", &["session=2"], &["session=2"]),
            (
                &["a=1; session=1", "b"],
                "a=1",
                &["session=new; Path=/", "a=2", " b = 3", "sessions=4; b"],
                &["a=2", "sessions=4; b"],
            ),
        ] {
            let sent = HeaderValue::from_static(sent);
            let mut answer = map(SET_COOKIE, set);
            withhold(std::iter::once(&sent), &map(COOKIE, visitor), &mut answer);
            assert_eq!(answer, map(SET_COOKIE, expected), "{visitor:?} {set:?}");
        }
    }
}
