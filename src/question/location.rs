//! `Location` and `Content-Location` of an answer, and the paths of its cookies, as the visitor
//! can use them.

use super::cookies::rewrite_paths;
use super::policy::KeyPolicy;
use super::target::canonical;
use super::visitor::Question;
use crate::question::Origin;
use crate::semantics::{canonical_host, single};
use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, HeaderValue, Uri};

/// Rewrites references to the origin's own authority into references to the same
/// host that the visitor used, and takes the origin's path prefix off, off the paths of
/// cookies too. A reference that cannot be parsed stays as it came.
///
/// The rewritten reference has no scheme and no host (RFC 9110 section 10.2.2
/// allows that), so one stored answer is right for every visitor.
pub fn rewrite(headers: &mut HeaderMap, origin: &Origin) {
    for name in [LOCATION, CONTENT_LOCATION] {
        let rewritten = single(headers, &name)
            .and_then(|value| value.to_str().ok())
            .and_then(|reference| rewritten(reference, origin))
            .and_then(|reference| HeaderValue::try_from(reference).ok());
        if let Some(value) = rewritten {
            let _full = headers.try_insert(name, value);
        }
    }
    rewrite_paths(headers, &origin.prefix);
}

/// `None` where the reference stays as it is.
fn rewritten(reference: &str, origin: &Origin) -> Option<String> {
    let (reference, fragment) = match reference.split_once('#') {
        Some((before, fragment)) => (before, Some(fragment)),
        None => (reference, None),
    };
    let local = if reference.starts_with('/') && !reference.starts_with("//") {
        reference.to_owned()
    } else {
        let uri: Uri = match reference.strip_prefix("//") {
            Some(rest) => format!("{}://{rest}", origin.scheme).parse().ok()?,
            None => reference.parse().ok()?,
        };
        let scheme = uri.scheme_str()?;
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let named = canonical_host(scheme, uri.authority()?.as_str());
        let own = canonical_host(origin.scheme.as_str(), origin.authority.as_str());
        if named != own {
            return None;
        }
        uri.path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned()
    };
    let local = without_prefix(&local, &origin.prefix);
    let fragment = fragment.map(|fragment| format!("#{fragment}"));
    Some(format!("{local}{}", fragment.unwrap_or_default()))
}

/// A path at the origin as the visitor knows it. A path outside the prefix stays. IIS names
/// an application in whatever case it was set up or asked for, so case makes no difference.
fn without_prefix(path: &str, prefix: &str) -> String {
    let (before, rest) = path.split_at_checked(prefix.len()).unwrap_or_default();
    match (before.eq_ignore_ascii_case(prefix), rest) {
        (true, "") => "/".to_owned(),
        (true, rest) if rest.starts_with('/') => rest.to_owned(),
        (true, rest) if rest.starts_with('?') => format!("/{rest}"),
        (true | false, _) => path.to_owned(),
    }
}

/// Whether a redirect leads to the question that it answers: stored, it would
/// lead every visitor in a circle. Expects a `Location` that was rewritten.
///
/// A host is compared only where hosts are part of the key: without them, every
/// host has the same key.
pub fn leads_to_itself(headers: &HeaderMap, question: &Question, policy: &KeyPolicy) -> bool {
    let Some(reference) = single(headers, &LOCATION).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let reference = reference.split('#').next().unwrap_or_default().trim();
    let own = question.target();
    if let Some(rest) = reference.strip_prefix("//") {
        let (host, path) = split_authority(rest);
        return same_host(question, host, policy) && canonical(path, policy) == own;
    }
    if reference.starts_with('/') {
        return canonical(reference, policy) == own;
    }
    if reference.is_empty() {
        return true;
    }
    if let Some((scheme, rest)) = reference.split_once("://") {
        let secure = scheme.eq_ignore_ascii_case("https");
        if secure != question.is_secure() {
            return false;
        }
        let (host, path) = split_authority(rest);
        return same_host(question, host, policy) && canonical(path, policy) == own;
    }
    // Relative to the question's own path (RFC 3986 section 5.2).
    let path = super::target::path_of(own);
    let resolved = match reference.strip_prefix('?') {
        Some(query) => format!("{path}?{query}"),
        None => {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{directory}/{}", reference.trim_start_matches("./"))
        }
    };
    canonical(&resolved, policy) == own
}

fn split_authority(text: &str) -> (&str, &str) {
    let end = text.find(['/', '?']).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn same_host(question: &Question, host: &str, policy: &KeyPolicy) -> bool {
    let scheme = if question.is_secure() {
        "https"
    } else {
        "http"
    };
    policy.hosts.is_empty() || question.host() == Some(canonical_host(scheme, host).as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap()
    }

    #[test]
    fn references_to_the_origin_lose_its_address() {
        let plain = origin("http://10.0.0.5:8080");
        let prefixed = origin("http://legacy.example:80/api");
        for (origin, reference, expected) in [
            (&plain, "http://10.0.0.5:8080/images/", Some("/images/")),
            (&plain, "https://10.0.0.5:8080/a?b=c#d", Some("/a?b=c#d")),
            (&plain, "//10.0.0.5:8080/a", Some("/a")),
            (&plain, "http://10.0.0.5:8080", Some("/")),
            (&plain, "http://10.0.0.5/a", None),
            (&plain, "https://www.example.com/a", None),
            (&plain, "/a", Some("/a")),
            (&plain, "a/b", None),
            (&plain, "mailto:a@b", None),
            (&plain, "http://[", None),
            (&prefixed, "http://LEGACY.example/api/login", Some("/login")),
            (&prefixed, "http://legacy.example/api", Some("/")),
            (&prefixed, "http://legacy.example/apiary", Some("/apiary")),
            (&prefixed, "/api/login?x", Some("/login?x")),
            (&prefixed, "/other", Some("/other")),
            (&prefixed, "/API/Login", Some("/Login")),
            (&prefixed, "/ap", Some("/ap")),
            (&prefixed, "/ap\u{e9}", Some("/ap\u{e9}")),
        ] {
            assert_eq!(
                rewritten(reference, origin).as_deref(),
                expected,
                "{reference}"
            );
        }
    }
}
