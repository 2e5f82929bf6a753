//! Answers that have no end by their nature.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// The media types of answers that go on for as long as somebody listens: server-sent
/// events, and pictures or events of which each replaces the one before.
const ENDLESS: &[&str] = &["text/event-stream", "multipart/x-mixed-replace"];

/// Whether an answer with these fields is a stream that has no end, so that it can
/// neither be stored nor shared.
pub fn is_endless(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    ENDLESS
        .iter()
        .any(|name| essence.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn streams_are_known_by_their_media_type() {
        for (value, endless) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("multipart/x-mixed-replace;boundary=a", true),
            (" multipart/x-mixed-replace ; boundary=a", true),
            ("text/event-streams", false),
            ("text/html; type=text/event-stream", false),
            ("multipart/mixed", false),
            ("", false),
            ("\u{e9}", false),
        ] {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_bytes(value.as_bytes());
            headers.extend(value.ok().map(|value| (CONTENT_TYPE, value)));
            assert_eq!(is_endless(&headers), endless, "{headers:?}");
        }
        assert!(!is_endless(&HeaderMap::new()));
    }
}
