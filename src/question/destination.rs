//! `Destination` of a WebDAV request (RFC 4918 section 10.3): what a COPY or a MOVE makes.

use super::fill::X_FORWARDED_HOST;
use super::origin::Origin;
use super::visitor::{host_of, is_secure};
use crate::semantics::{Target, resolve, single};
use http::{HeaderName, HeaderValue, request};

/// `Destination`.
const DESTINATION: HeaderName = HeaderName::from_static("destination");

/// The methods that have one.
const METHODS: [&str; 2] = ["COPY", "MOVE"];

/// Path and query of what a COPY or MOVE makes. `None` if it is on another host than the
/// visitor used, or not to be read.
pub fn destination(visitor: &request::Parts) -> Option<String> {
    if !METHODS.contains(&visitor.method.as_str()) {
        return None;
    }
    let reference = single(&visitor.headers, &DESTINATION)?.to_str().ok()?;
    let path_and_query = visitor.uri.path_and_query();
    let on = |host: &str| {
        let target = Target {
            scheme: match is_secure(&visitor.uri, &visitor.headers) {
                true => "https",
                false => "http",
            },
            host,
            path_and_query: path_and_query.map_or("/", |path| path.as_str()),
        };
        resolve(target, reference)
    };
    let own = host_of(visitor).and_then(|host| on(&host));
    own.or_else(|| {
        // A proxy in front may have another name for the shield than the visitor has.
        let field = single(&visitor.headers, &X_FORWARDED_HOST)?.to_str().ok()?;
        on(field.split(',').next()?.trim())
    })
}

/// Names the destination of a visitor's request as the origin knows it, as the target is. One
/// on another host stays.
pub(super) fn rewrite(parts: &mut request::Parts, visitor: &request::Parts, origin: &Origin) {
    let own = destination(visitor).map(|path| format!("{origin}{path}"));
    if let Some(Ok(value)) = own.map(HeaderValue::try_from) {
        let _full = parts.headers.try_insert(DESTINATION, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::Request;

    fn visitor(method: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri("/dav/a");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// RFC 4918 section 9.9.4: a server that finds another server there answers 502.
    #[test]
    fn a_destination_follows_the_origin_as_the_target_does() {
        let origin = Origin::parse("http://10.0.0.5:8080/app").unwrap();
        let own = Some("http://10.0.0.5:8080/app/dav/b%20c");
        for (method, host, destination, expected) in [
            ("MOVE", "www.example", "https://www.example/dav/b%20c", own),
            (
                "COPY",
                "www.example",
                "http://WWW.example:80/dav/b%20c",
                own,
            ),
            ("MOVE", "www.example", "/dav/b%20c", own),
            (
                "MOVE",
                "www.example:8443",
                "https://www.example:8443/dav/b%20c",
                own,
            ),
            // Not below the prefix of another application.
            (
                "MOVE",
                "www.example",
                "/../../other",
                Some("http://10.0.0.5:8080/app/other"),
            ),
            // On another host, and what is none.
            ("MOVE", "www.example", "https://other.example/dav/b", None),
            (
                "MOVE",
                "www.example",
                "http://10.0.0.5:8080/app/dav/b",
                None,
            ),
            ("MOVE", "www.example", "mailto:a@b", None),
            (
                "MOVE",
                "www.example",
                "https://www.example.evil/dav/b",
                None,
            ),
            // Another method's own field.
            ("POST", "www.example", "/dav/b", None),
        ] {
            let fields = [("host", host), ("destination", destination)];
            let visitor = visitor(method, &fields);
            let mut sent = visitor.clone();
            rewrite(&mut sent, &visitor, &origin);
            let expected = expected.unwrap_or(destination);
            assert_eq!(
                sent.headers[DESTINATION], expected,
                "{method} {destination}"
            );
        }
        // The proxy in front asks for the shield by another name.
        let behind = visitor(
            "MOVE",
            &[
                ("host", "shield.internal"),
                ("x-forwarded-host", "www.example, inner"),
                ("destination", "https://www.example/dav/b"),
            ],
        );
        assert_eq!(destination(&behind).unwrap(), "/dav/b");
        let twice = visitor(
            "MOVE",
            &[("host", "a"), ("destination", "/b"), ("destination", "/c")],
        );
        assert_eq!(destination(&twice), None);
        assert_eq!(destination(&visitor("MOVE", &[("host", "a")])), None);
    }
}
