//! Fields that belong to one connection, and those that every hop adds.

use super::line::members;
use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, DATE, ETAG, EXPIRES, HOST, LAST_MODIFIED, PRAGMA, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, RANGE, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE, VARY, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

/// `CDN-Cache-Control` (RFC 9213 section 3.1).
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// `Cache-Status` (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// Fields of one connection by their nature: RFC 9110 section 7.6.1, RFC 7540 section
/// 3.2.1, and those between a client and its proxy (RFC 9111 section 3.1). Hosts of
/// components let none of them through.
const OF_ONE_CONNECTION: [HeaderName; 10] = [
    CONNECTION,
    HTTP2_SETTINGS,
    KEEP_ALIVE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHENTICATION_INFO,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that `Connection` cannot name. RFC 9110 section 7.6.1 says that such
/// options are never right; heeding one would let a message hide what decides
/// about its storing, its length or its sender.
const OF_ALL_RECIPIENTS: [HeaderName; 18] = [
    AGE,
    AUTHORIZATION,
    CACHE_CONTROL,
    CDN_CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    DATE,
    ETAG,
    EXPIRES,
    HOST,
    LAST_MODIFIED,
    PRAGMA,
    RANGE,
    SET_COOKIE,
    VARY,
];

/// Removes connection-specific fields, and those that `Connection` names
/// (RFC 9110 section 7.6.1). For both directions, and before storing.
pub fn strip_connection_fields(headers: &mut HeaderMap) {
    for name in connection_options(headers) {
        if !OF_ALL_RECIPIENTS.contains(&name) {
            headers.remove(name);
        }
    }
    for name in OF_ONE_CONNECTION {
        headers.remove(name);
    }
}

/// Whether a field is connection-specific whatever `Connection` says.
pub(super) fn is_of_one_connection(name: &HeaderName) -> bool {
    OF_ONE_CONNECTION.contains(name)
}

/// Appends `Via: <version> <pseudonym>` (RFC 9110 section 7.6.3). A pseudonym
/// that is no token is not appended.
pub fn append_via(headers: &mut HeaderMap, version: Version, pseudonym: &str) {
    let version = match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    };
    if HeaderName::try_from(pseudonym).is_err() {
        return;
    }
    if let Ok(value) = HeaderValue::try_from(format!("{version} {pseudonym}")) {
        append(headers, VIA, value);
    }
}

/// Whether the request asks to leave HTTP: CONNECT, or `Connection: upgrade`
/// with an `Upgrade` to anything but HTTP/2, which a server may ignore (RFC 9110
/// section 7.8). The caller answers 501.
pub fn is_upgrade(method: &Method, headers: &HeaderMap) -> bool {
    if method == Method::CONNECT {
        return true;
    }
    connection_options(headers).contains(&UPGRADE)
        && headers
            .get_all(UPGRADE)
            .iter()
            .flat_map(|line| members(line.as_bytes()))
            .any(|protocol| !protocol.eq_ignore_ascii_case(b"h2c"))
}

/// The names in `Connection`; what is no field name is skipped.
fn connection_options(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .collect()
}

/// The value of a field that must appear on one line; `None` if it is on none
/// or on several.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(value), None) => Some(value),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

/// Appends a line. A map that holds as many as it can, some 24 000, stays as it is.
pub(super) fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let _full = headers.try_append(name, value);
}

/// Sets a field to one line, with the same bound.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let _full = headers.try_insert(name, value);
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::line::latin1;
    use super::*;
    use proptest::prelude::*;

    /// A header map from names and values, several lines of a name kept.
    pub(in super::super) fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    /// Names and values, sorted by name, the lines of one name in order.
    pub(in super::super) fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), latin1(value.as_bytes())))
            .collect();
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        lines
    }

    /// Arbitrary fields: known names with plausible and arbitrary values.
    pub(in super::super) fn arbitrary_map() -> impl Strategy<Value = HeaderMap> {
        let name = prop_oneof![
            Just("cache-control"),
            Just("cdn-cache-control"),
            Just("age"),
            Just("date"),
            Just("expires"),
            Just("last-modified"),
            Just("etag"),
            Just("vary"),
            Just("set-cookie"),
            Just("authorization"),
            Just("connection"),
            Just("pragma"),
            Just("content-length"),
            Just("content-type"),
            Just("content-encoding"),
            Just("content-range"),
            Just("content-digest"),
            Just("content-md5"),
            Just("trailer"),
            Just("content-location"),
            Just("location"),
            Just("if-none-match"),
            Just("if-modified-since"),
            Just("if-range"),
            Just("range"),
            Just("accept-encoding"),
            Just("accept-language"),
            Just("cookie"),
            Just("x-a"),
            Just("x-b"),
            Just("keep-alive"),
            Just("upgrade"),
            Just("via"),
            Just("cache-status"),
        ];
        let value = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "((no-store|no-cache|private|public|max-age|s-maxage|must-revalidate|must-understand|stale-if-error|stale-while-revalidate)(=\"?(-?[0-9]{0,12}|x-a|x-a, x-b|set-cookie)\"?)?(, ?)?){1,4}"
                .prop_map(String::into_bytes),
            "(Sun|Mon), [0-9]{2} (Jan|Feb|Nov) [0-9]{4} [0-2][0-9]:[0-6][0-9]:[0-6][0-9] GMT"
                .prop_map(String::into_bytes),
            "(W/)?\"[a-c]{0,3}\"(, \"b\")?".prop_map(String::into_bytes),
            "bytes[= ][0-9]{0,3}-[0-9]{0,20}(,-?[0-9]{0,2}-?)?(/[0-9*]{1,3})?".prop_map(String::into_bytes),
            "bytes[= ][0-9]{19,21}-[0-9]{19,21}(/[0-9]{19,21})?".prop_map(String::into_bytes),
            "(x-a|x-b|\\*|accept-language|connection|keep-alive)(, ?(x-a|cache-control))?"
                .prop_map(String::into_bytes),
            "(http:|https:)?(//)?[a-z.:@/?#%]{0,20}".prop_map(String::into_bytes),
            "[a-z*]{0,3}(-[A-Za-z]{2})?(;q=[0-9.]{0,5})?(, (de|gzip|br);q=0\\.[0-9])?"
                .prop_map(String::into_bytes),
            "-?[0-9]{0,22}".prop_map(String::into_bytes),
        ];
        proptest::collection::vec((name, value), 0..12).prop_map(|lines| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.append(HeaderName::from_static(name), value);
                }
            }
            headers
        })
    }

    #[test]
    fn fields_of_one_connection_go() {
        let mut headers = map(&[
            ("connection", "a, B"),
            ("connection", "close,, bad name, c"),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("d", "4"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "x"),
            ("proxy-authorization", "x"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("set-cookie", "x=1"),
            ("set-cookie", "y=2"),
        ]);
        strip_connection_fields(&mut headers);
        assert_eq!(
            lines(&headers),
            lines(&map(&[
                ("d", "4"),
                ("set-cookie", "x=1"),
                ("set-cookie", "y=2")
            ]))
        );
    }

    #[test]
    fn connection_hides_nothing_that_decides() {
        let mut headers = map(&[
            ("connection", "cache-control, vary, set-cookie"),
            ("cache-control", "no-store"),
            ("vary", "*"),
            ("set-cookie", "a=b"),
        ]);
        strip_connection_fields(&mut headers);
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn via_is_appended() {
        let mut headers = map(&[("via", "1.0 a, 2 b")]);
        append_via(&mut headers, Version::HTTP_11, "leeward");
        append_via(&mut headers, Version::HTTP_2, "leeward");
        append_via(&mut headers, Version::HTTP_11, "not a token");
        assert_eq!(
            lines(&headers),
            lines(&map(&[
                ("via", "1.0 a, 2 b"),
                ("via", "1.1 leeward"),
                ("via", "2 leeward")
            ]))
        );
    }

    #[test]
    fn upgrades_are_seen() {
        for (method, fields, expected) in [
            (Method::CONNECT, &[][..], true),
            (Method::GET, &[][..], false),
            (
                Method::GET,
                &[
                    ("connection", "keep-alive, Upgrade"),
                    ("upgrade", "websocket"),
                ][..],
                true,
            ),
            (Method::GET, &[("upgrade", "websocket")][..], false),
            (Method::GET, &[("connection", "upgrade")][..], false),
            (
                Method::GET,
                &[
                    ("connection", "upgrade, http2-settings"),
                    ("upgrade", "h2c"),
                ][..],
                false,
            ),
            (
                Method::GET,
                &[("connection", "upgrade"), ("upgrade", "h2c, websocket")][..],
                true,
            ),
        ] {
            assert_eq!(is_upgrade(&method, &map(fields)), expected, "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn any_fields_are_stripped(mut headers in arbitrary_map()) {
            strip_connection_fields(&mut headers);
            for name in headers.keys() {
                prop_assert!(!is_of_one_connection(name));
            }
        }
    }
}
