//! The page for people.

use super::answer::with_content;
use crate::shield::Answer;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderValue, StatusCode};

/// Where the page is.
pub(super) const DASHBOARD_PATH: &str = "/.leeward/dashboard";

/// It has all that it needs, and asks for the token itself.
const DASHBOARD: &str = include_str!("dashboard.html");

/// What the page may do: run its own script, and ask the admin interface.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
    img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page. It has no secrets.
pub(super) fn dashboard<B>() -> Answer<B> {
    let mut answer = with_content(StatusCode::OK, "text/html; charset=utf-8", DASHBOARD);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    answer
}
