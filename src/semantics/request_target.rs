//! The target of a request (RFC 9112 section 3.2), as a host hands it over.

use http::Method;
use std::borrow::Cow;

/// The path and query of a request, from what the host says that they are.
///
/// A request in absolute form may have a query and no path: its path is `/`
/// (RFC 9110 section 4.2.3). `OPTIONS *` asks about the server as a whole and
/// has neither. CONNECT has neither, and gets `/`, as does what is not a target.
pub fn request_target<'a>(method: &Method, target: Option<&'a str>) -> Cow<'a, str> {
    match target {
        Some(target) if target.starts_with('/') => target.into(),
        Some(query) if query.starts_with('?') => format!("/{query}").into(),
        Some("*") if method == Method::OPTIONS => "*".into(),
        Some(_) | None => "/".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::Uri;

    #[test]
    fn a_query_without_a_path_is_kept() {
        let target = request_target(&Method::GET, Some("?x=1"));
        assert_eq!(target, "/?x=1");
    }

    #[test]
    fn every_target_makes_a_uri() {
        for (method, target, expected) in [
            (Method::GET, Some("/a?b"), "/a?b"),
            (Method::GET, Some("/"), "/"),
            (Method::GET, Some("//a"), "//a"),
            (Method::GET, Some("?"), "/?"),
            (Method::GET, Some(""), "/"),
            (Method::GET, Some("*"), "/"),
            (Method::GET, None, "/"),
            (Method::CONNECT, None, "/"),
            (Method::OPTIONS, None, "/"),
            (Method::OPTIONS, Some("*"), "*"),
            (Method::OPTIONS, Some("*a"), "/"),
        ] {
            let normal = request_target(&method, target);
            assert_eq!(normal, expected, "{method} {target:?}");
            let uri = Uri::builder()
                .scheme("http")
                .authority("a.example")
                .path_and_query(&*normal)
                .build()
                .unwrap();
            let path = uri.path_and_query().unwrap();
            assert_eq!(path.as_str(), expected, "{method} {target:?}");
        }
    }
}
