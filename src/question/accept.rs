//! `Accept` and `Accept-Encoding`, reduced to classes.
//!
//! Visitors spell the same wish in many ways. A class is what an origin could
//! answer differently to; the fill sends the class and not the spelling. An origin that
//! tells types of one class apart, or their parameters, says so by `Vary: Accept`: the
//! whole value is sent and selects from then on.

use crate::semantics::field_members;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};

/// Most members of a field that are read; those behind are ignored.
const MEMBERS_MAX: usize = 64;

/// Longest media type of a class, in bytes. A longer one counts as `*/*`.
const MEDIA_TYPE_MAX: usize = 100;

/// The class of an `Accept` field (RFC 9110 section 12.5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accept {
    /// The preferred media type in lower case, without parameters. Image types
    /// are folded to `image/*`; without a preference it is `*/*`.
    preferred: String,
    /// Whether any other type will do.
    others: bool,
}

impl Accept {
    /// The class of a request that has no preference.
    pub fn anything() -> Self {
        Accept {
            preferred: "*/*".to_owned(),
            others: true,
        }
    }

    /// Reads the class of a request. A field that is absent or malformed states
    /// no preference.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut best: Option<(String, u16)> = None;
        let mut others = false;
        for member in field_members(headers, &ACCEPT).take(MEMBERS_MAX) {
            let Some((media_type, weight)) = media_range(member) else {
                return Self::anything();
            };
            if weight == 0 {
                continue;
            }
            others |= media_type == "*/*";
            if best.as_ref().is_none_or(|(_, most)| weight > *most) {
                best = Some((media_type, weight));
            }
        }
        match best {
            Some((preferred, _)) if preferred != "*/*" && preferred.len() <= MEDIA_TYPE_MAX => {
                let preferred = match preferred.starts_with("image/") {
                    true => "image/*".to_owned(),
                    false => preferred,
                };
                Accept { preferred, others }
            }
            Some(_) | None => Self::anything(),
        }
    }

    /// The class of requests that prefer `media_type`, in lower case, and take others.
    fn preferring(media_type: &str) -> Self {
        Accept {
            preferred: media_type.to_owned(),
            others: true,
        }
    }

    /// The classes of most requests: of tools, of browsers' pages and images, of scripts.
    pub fn usual() -> [Self; 4] {
        [
            Self::anything(),
            Self::preferring("text/html"),
            Self::preferring("application/json"),
            Self::preferring("image/*"),
        ]
    }

    /// The preferred media type in lower case, without parameters; `*/*` without a
    /// preference.
    pub fn preferred(&self) -> &str {
        &self.preferred
    }

    /// The field that the origin gets: one for each class.
    pub fn field(&self) -> String {
        match self.preferred.as_str() {
            "*/*" => "*/*".to_owned(),
            preferred if self.others => format!("{preferred}, */*;q=0.1"),
            preferred => preferred.to_owned(),
        }
    }
}

/// Whether a request takes a response's media type, whatever its parameters (RFC 9110
/// section 12.5.1). A request without `Accept`, or with one that cannot be read, takes all.
/// What does not name its media type is for those who take any.
pub fn accepts_media_type(request: &HeaderMap, response: &HeaderMap) -> bool {
    let mut said = field_members(response, &CONTENT_TYPE).filter_map(media_range);
    let media_type = match said.next() {
        Some((media_type, _)) => media_type,
        None => String::new(),
    };
    let kind = media_type.split('/').next().unwrap_or_default();
    let any_of_kind = format!("{kind}/*");
    // The most specific range counts.
    let mut best: Option<(u8, bool)> = None;
    let mut has_range = false;
    for member in field_members(request, &ACCEPT).take(MEMBERS_MAX) {
        let Some((range, weight)) = media_range(member) else {
            return true;
        };
        has_range = true;
        let rank = match range.as_str() {
            range if range == media_type => 3,
            range if range == any_of_kind => 2,
            "*/*" => 1,
            _ => continue,
        };
        if best.is_none_or(|(known, _)| rank > known) {
            best = Some((rank, weight > 0));
        }
    }
    best.map_or(!has_range, |(_, takes)| takes)
}

/// A media range in lower case without its parameters, and its weight in
/// thousandths. `None` if it is malformed.
fn media_range(member: &[u8]) -> Option<(String, u16)> {
    let text = std::str::from_utf8(member).ok()?.to_ascii_lowercase();
    let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
    let media_type = parts.next()?;
    let (kind, subtype) = media_type.split_once('/')?;
    let is_token = |text: &str| HeaderName::try_from(text).is_ok();
    if !is_token(kind) || !is_token(subtype) || (kind == "*" && subtype != "*") {
        return None;
    }
    let mut weight = 1_000;
    for parameter in parts {
        if let Some(value) = parameter.strip_prefix("q=") {
            weight = crate::semantics::weight(value)?;
        }
    }
    Some((media_type.to_owned(), weight))
}

/// The class of an `Accept-Encoding` field: the codings in use on the web that
/// the visitor accepts (RFC 9110 section 12.5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// No coding.
    Identity,
    /// `gzip`.
    Gzip,
    /// `br` and `gzip`.
    BrotliGzip,
}

impl Encoding {
    /// The classes whose answers a visitor of this class can decode.
    pub fn decodable(self) -> &'static [Self] {
        match self {
            Encoding::Identity => &[Encoding::Identity],
            Encoding::Gzip => &[Encoding::Gzip, Encoding::Identity],
            Encoding::BrotliGzip => &[Encoding::BrotliGzip, Encoding::Gzip, Encoding::Identity],
        }
    }

    /// Reads the class of a request.
    pub fn read(headers: &HeaderMap) -> Self {
        let codings = Codings::read(headers);
        match (codings.accept("br"), codings.accept("gzip")) {
            (true, true) => Encoding::BrotliGzip,
            (false, true) => Encoding::Gzip,
            (_, false) => Encoding::Identity,
        }
    }

    /// The field that the origin gets; `None` where no coding is wanted.
    pub fn field(self) -> Option<&'static str> {
        match self {
            Encoding::Identity => None,
            Encoding::Gzip => Some("gzip"),
            Encoding::BrotliGzip => Some("br, gzip"),
        }
    }

    /// The class as it stands in a selector.
    pub fn token(self) -> &'static str {
        self.field().unwrap_or("identity")
    }
}

/// The content codings that a visitor accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codings(Vec<(String, bool)>);

impl Codings {
    /// Reads `Accept-Encoding`. A member that is malformed is ignored.
    pub fn read(headers: &HeaderMap) -> Self {
        let members = field_members(headers, &ACCEPT_ENCODING).take(MEMBERS_MAX);
        Codings(members.filter_map(coding).collect())
    }

    /// Whether the visitor accepts a coding that it has named, or all. A visitor
    /// without the field accepts none: old clients cannot decode.
    pub fn accept(&self, coding: &str) -> bool {
        let coding = current_name(coding);
        let named = |name: &str| self.0.iter().find(|(known, _)| known == name);
        named(coding)
            .or_else(|| named("*"))
            .is_some_and(|(_, accepted)| *accepted)
    }

    /// Whether the visitor accepts every coding of a response. What is not registered
    /// counts as none: nobody has asked for it, so it cannot have been negotiated. Old
    /// servers write the charset there, `none`, or nothing.
    pub fn accept_response(&self, response: &HeaderMap) -> bool {
        registered(response).all(|coding| self.accept(coding))
    }
}

/// Whether a response is in a content coding that can be negotiated: it varies on
/// `Accept-Encoding`, whether it says so or not.
pub fn is_encoded(response: &HeaderMap) -> bool {
    registered(response).next().is_some()
}

/// The content codings of a response that can be negotiated, in the order in which they were
/// applied.
pub fn registered(response: &HeaderMap) -> impl Iterator<Item = &'static str> {
    field_members(response, &CONTENT_ENCODING).filter_map(|member| {
        REGISTERED
            .into_iter()
            .find(|coding| member.eq_ignore_ascii_case(coding.as_bytes()))
    })
}

/// Content codings of the IANA registry that clients negotiate.
const REGISTERED: [&str; 10] = [
    "aes128gcm",
    "br",
    "compress",
    "dcb",
    "dcz",
    "deflate",
    "gzip",
    "x-compress",
    "x-gzip",
    "zstd",
];

fn coding(member: &[u8]) -> Option<(String, bool)> {
    let text = std::str::from_utf8(member).ok()?.to_ascii_lowercase();
    let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
    let name = parts.next()?.to_owned();
    let weight = match parts.next() {
        None => 1_000,
        Some(parameter) => crate::semantics::weight(parameter.strip_prefix("q=")?)?,
    };
    Some((current_name(&name).to_owned(), weight > 0))
}

/// RFC 9110 section 8.4.1: the old names of two codings.
fn current_name(coding: &str) -> &str {
    coding
        .strip_prefix("x-")
        .filter(|rest| matches!(*rest, "gzip" | "compress"))
        .unwrap_or(coding)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::HeaderValue;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn a_media_type_is_taken_or_not() {
        for (accept, content_type, expected) in [
            (None, Some("text/html"), true),
            (Some("*/*"), Some("text/html"), true),
            (Some("text/html"), Some("text/html; charset=utf-8"), true),
            (Some("text/*;q=0.1"), Some("text/html"), true),
            (Some("text/*, text/html;q=0"), Some("text/html"), false),
            (Some("*/*;q=0"), Some("text/html"), false),
            (Some("application/json"), Some("text/html"), false),
            (Some("application/json"), None, false),
            (Some("application/json, */*;q=0.1"), None, true),
            (None, None, true),
            (Some("nonsense"), Some("text/html"), true),
            (
                Some("text/html,application/xhtml+xml,image/avif,*/*;q=0.8"),
                Some("application/pdf"),
                true,
            ),
        ] {
            let request = accept.map_or_else(HeaderMap::new, |accept| with(ACCEPT, accept));
            let response = content_type.map_or_else(HeaderMap::new, |of| with(CONTENT_TYPE, of));
            let takes = accepts_media_type(&request, &response);
            assert_eq!(takes, expected, "{accept:?} {content_type:?}");
        }
    }

    #[test]
    fn accept_has_a_class() {
        for (value, class) in [
            ("*/*", "*/*"),
            ("", "*/*"),
            ("nonsense", "*/*"),
            ("a/b/c", "*/*"),
            ("*/json", "*/*"),
            ("text/html;q=0", "*/*"),
            ("text/html;q=7", "*/*"),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
                "text/html, */*;q=0.1",
            ),
            (
                "image/avif,image/webp,image/*,*/*;q=0.8",
                "image/*, */*;q=0.1",
            ),
            ("image/png", "image/*"),
            (
                "application/json, text/plain, */*",
                "application/json, */*;q=0.1",
            ),
            ("Application/JSON; charset=utf-8", "application/json"),
            (
                "text/plain;q=0.5, application/json;q=0.9",
                "application/json",
            ),
            ("*/*;q=0.9, text/css;q=0.1", "*/*"),
        ] {
            let read = Accept::read(&with(ACCEPT, value));
            assert_eq!(read.field(), class, "{value}");
            assert_eq!(Accept::read(&with(ACCEPT, &read.field())), read, "stable");
        }
        assert_eq!(Accept::read(&HeaderMap::new()), Accept::anything());
        let long = format!("x/{}", "a".repeat(MEDIA_TYPE_MAX));
        assert_eq!(Accept::read(&with(ACCEPT, &long)), Accept::anything());
    }

    #[test]
    fn accept_encoding_has_a_class() {
        for (value, class) in [
            ("", Encoding::Identity),
            ("identity", Encoding::Identity),
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("gzip, deflate", Encoding::Gzip),
            ("gzip, deflate, br, zstd", Encoding::BrotliGzip),
            ("br;q=0, gzip", Encoding::Gzip),
            ("br", Encoding::Identity),
            ("*", Encoding::BrotliGzip),
            ("*, gzip;q=0", Encoding::Identity),
            ("made-up-1", Encoding::Identity),
            ("gzip;q=2", Encoding::Identity),
        ] {
            let headers = with(ACCEPT_ENCODING, value);
            assert_eq!(Encoding::read(&headers), class, "{value}");
        }
    }

    #[test]
    fn a_response_in_a_coding_is_for_visitors_that_accept_it() {
        for (accepted, coding, expected) in [
            ("gzip", "gzip", true),
            ("gzip", "x-gzip", true),
            ("gzip", "GZip", true),
            ("gzip", "br", false),
            ("br", "gzip, br", false),
            ("gzip, br", "gzip, br", true),
            ("*", "zstd", true),
            ("", "identity", true),
            ("", "gzip", false),
            // What is no coding is none.
            ("", "UTF-8", true),
            ("gzip", "none", true),
            ("", "", true),
            ("", "made-up", true),
            ("", "gzip, made-up", false),
            ("gzip", "gzip, utf-8", true),
        ] {
            let codings = Codings::read(&with(ACCEPT_ENCODING, accepted));
            let response = with(CONTENT_ENCODING, coding);
            let accepts = codings.accept_response(&response);
            assert_eq!(accepts, expected, "{accepted} {coding}");
        }
        assert!(Codings::default().accept_response(&HeaderMap::new()));
    }
}
