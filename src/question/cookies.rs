//! `Cookie` fields: which cookies say something about the visitor.

use super::policy::{Cookies, Pattern, any_matches};
use http::HeaderMap;
use http::header::COOKIE;

/// What a request's cookies mean for its question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Crumbs {
    /// None that counts.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::HeaderValue;

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
}
