//! What is different in HTTP/2 (RFC 9113): fields that have another form there, and requests
//! that the client takes back.

use std::sync::Arc;

use http::header::{COOKIE, HOST};
use http::{HeaderValue, Request, StatusCode, Version};

use super::connection::Line;

/// Stands between two parts of a `Cookie` field.
const BETWEEN_COOKIES: &[u8] = b"; ";

/// Returns a request of HTTP/2 with the fields that it would have in HTTP/1.1. Others are
/// returned as they are.
///
/// A `Cookie` that came in parts is one field (RFC 9113 section 8.2.3), and `:authority` is
/// `Host` too (section 8.3.1).
pub(super) fn as_version1<B>(
    mut request: Request<B>,
    fields_max: usize,
) -> Result<Request<B>, (StatusCode, &'static str)> {
    if request.version() != Version::HTTP_2 {
        return Ok(request);
    }
    if request.headers().len() > fields_max {
        return Err((
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "This request has too many fields.\n",
        ));
    }
    let authority = request.uri().authority().cloned();
    let fields = request.headers_mut();
    if let Some(authority) = authority {
        match fields.get(HOST) {
            // More than one is refused with those of HTTP/1.1.
            Some(host) if !is_same(host, authority.as_str()) => {
                return Err((
                    StatusCode::BAD_REQUEST,
                    "The Host field of this request differs from its target.\n",
                ));
            }
            Some(_) => {}
            None => {
                if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
                    fields.insert(HOST, host);
                }
            }
        }
    }
    let parts: Vec<&[u8]> = fields
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if parts.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&parts.join(BETWEEN_COOKIES))
    {
        fields.insert(COOKIE, whole);
    }
    Ok(request)
}

fn is_same(host: &HeaderValue, authority: &str) -> bool {
    host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
}

/// Tells the connection if a request is taken back before it is answered.
pub(super) struct Abandoned(Option<Arc<Line>>);

impl Abandoned {
    /// The request is not answered yet.
    pub(super) fn unless_answered(line: &Arc<Line>) -> Self {
        Self(Some(Arc::clone(line)))
    }

    /// The request was answered.
    pub(super) fn answered(mut self) {
        if let Some(line) = self.0.take() {
            line.answered();
        }
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.abandoned();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn request(version: Version, fields: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::get("https://shop.example/a").version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn cookies_that_came_in_parts_are_one_field() {
        let parts = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")];
        let made = as_version1(request(Version::HTTP_2, &parts), 10).unwrap();
        let cookies: Vec<_> = made.headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
        let same = as_version1(request(Version::HTTP_11, &parts), 10).unwrap();
        assert_eq!(same.headers().get_all(COOKIE).iter().count(), 2);
    }

    #[test]
    fn the_authority_is_the_host_and_nothing_else_may_be() {
        let hosts = |fields: &[_]| {
            let made = as_version1(request(Version::HTTP_2, fields), 10);
            made.map(|made| made.headers()[HOST].clone())
                .map_err(|(status, _)| status.as_u16())
        };
        assert_eq!(hosts(&[]).unwrap(), "shop.example");
        assert_eq!(hosts(&[("host", "Shop.example")]).unwrap(), "Shop.example");
        assert_eq!(hosts(&[("host", "other.example")]), Err(400));
    }

    #[test]
    fn the_number_of_fields_is_limited() {
        let two = [("a", "1"), ("a", "2")];
        assert!(as_version1(request(Version::HTTP_2, &two), 2).is_ok());
        let refused = as_version1(request(Version::HTTP_2, &two), 1);
        assert_eq!(refused.unwrap_err().0.as_u16(), 431);
    }
}
