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

/// Rewrites the paths of an answer's cookies as the visitor knows them: without the origin's
/// path prefix. A browser compares them with the URL that it used (RFC 6265 section 5.1.4).
pub(super) fn rewrite_paths(answer: &mut HeaderMap, prefix: &str) {
    if prefix.is_empty() || !answer.contains_key(SET_COOKIE) {
        return;
    }
    let lines = answer.get_all(SET_COOKIE).iter();
    let lines: Vec<HeaderValue> = lines
        .map(|line| {
            let rewritten = with_visitors_path(line.as_bytes(), prefix.as_bytes());
            HeaderValue::from_bytes(&rewritten).unwrap_or_else(|_| line.clone())
        })
        .collect();
    answer.remove(SET_COOKIE);
    for line in lines {
        let _full = answer.try_append(SET_COOKIE, line);
    }
}

/// A line of `Set-Cookie` with the visitor's path; the rest of it as it came.
fn with_visitors_path(line: &[u8], prefix: &[u8]) -> Vec<u8> {
    let mut rewritten = Vec::new();
    for (number, part) in line.split(|byte| *byte == b';').enumerate() {
        if number > 0 {
            rewritten.push(b';');
        }
        let attribute = (number > 0).then(|| part.iter().position(|byte| *byte == b'='));
        let path = attribute.flatten().and_then(|equals| {
            let (name, value) = part.split_at_checked(equals.saturating_add(1))?;
            let attribute = name.strip_suffix(b"=")?.trim_ascii();
            let is_path = attribute.eq_ignore_ascii_case(b"path");
            is_path.then_some((name, visitors_path(value.trim_ascii(), prefix)?))
        });
        match path {
            Some((name, path)) => {
                rewritten.extend_from_slice(name);
                rewritten.extend_from_slice(path);
            }
            None => rewritten.extend_from_slice(part),
        }
    }
    rewritten
}

/// The path of a cookie at the origin as the visitor knows it. `None` where it stays: outside
/// the prefix, or where a browser takes the path of the URL.
fn visitors_path<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    if !path.starts_with(b"/") {
        return None;
    }
    let begins_with = |text: &[u8], beginning: &[u8]| {
        let part = text.get(..beginning.len());
        part.is_some_and(|part| part.eq_ignore_ascii_case(beginning))
    };
    let below = path
        .get(prefix.len()..)
        .filter(|_| begins_with(path, prefix));
    match below {
        Some([]) => Some(b"/"),
        Some(rest @ [b'/', ..]) => Some(rest),
        // For what is above the prefix as well: for all that the visitor sees.
        Some(_) | None => {
            let above = path.strip_suffix(b"/").unwrap_or(path);
            let is_above = begins_with(prefix, above) && prefix.get(above.len()) == Some(&b'/');
            is_above.then_some(b"/")
        }
    }
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

    /// An ASP.NET application below a path, a Java one, a cookie for the whole server.
    #[test]
    fn the_paths_of_cookies_are_those_that_the_visitor_uses() {
        for (prefix, line, expected) in [
            ("/app", "t=1; path=/app; HttpOnly", "t=1; path=/; HttpOnly"),
            ("/app", "t=1; Path=/app/; Secure", "t=1; Path=/; Secure"),
            (
                "/app",
                "t=1;PATH = /app/admin ;Secure",
                "t=1;PATH =/admin;Secure",
            ),
            ("/app", "t=1; path=/App/Admin", "t=1; path=/Admin"),
            ("/app", "t=1; path=/", "t=1; path=/"),
            ("/a/b", "t=1; path=/a", "t=1; path=/"),
            ("/a/b", "t=1; path=/a/", "t=1; path=/"),
            ("/a/b", "t=1; path=/A/B/c", "t=1; path=/c"),
            // Outside of it.
            ("/app", "t=1; path=/apple", "t=1; path=/apple"),
            ("/app", "t=1; path=/ap", "t=1; path=/ap"),
            ("/app", "t=1; path=/other/app", "t=1; path=/other/app"),
            ("/a/b", "t=1; path=/a/c", "t=1; path=/a/c"),
            // The browser takes the path of the URL.
            ("/app", "t=1", "t=1"),
            ("/app", "t=1; path", "t=1; path"),
            ("/app", "t=1; path=", "t=1; path="),
            ("/app", "t=1; path=\"/app\"", "t=1; path=\"/app\""),
            ("/app", "t=1; path=app", "t=1; path=app"),
            // Not an attribute.
            ("/app", "path=/app", "path=/app"),
            ("/app", "t=path=/app; xpath=/app", "t=path=/app; xpath=/app"),
            (
                "/app",
                "t=1; path=/app; path=/app/x",
                "t=1; path=/; path=/x",
            ),
            ("", "t=1; path=/app", "t=1; path=/app"),
        ] {
            let twice = |line: &'static str| -> HeaderMap {
                let line = || (SET_COOKIE, HeaderValue::from_static(line));
                [line(), line()].into_iter().collect()
            };
            let mut answer = twice(line);
            rewrite_paths(&mut answer, prefix);
            assert_eq!(answer, twice(expected), "{line}");
        }
        let mut answer = HeaderMap::new();
        let bytes = HeaderValue::from_bytes(b"n=M\xfcller; path=/app").unwrap();
        answer.append(SET_COOKIE, bytes);
        rewrite_paths(&mut answer, "/app");
        assert_eq!(answer[SET_COOKIE].as_bytes(), b"n=M\xfcller; path=/");
    }
}
