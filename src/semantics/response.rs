//! What a response says about its storing and reuse (RFC 9111 section 5.2.2),
//! to all shared caches or to this kind alone (RFC 9213).

use super::directives::{Argument, SECONDS_MAX, Seconds, directives};
use super::fields::CDN_CACHE_CONTROL;
use super::line::latin1;
use super::policy::IgnoreOrigin;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, VARY};
use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// Most field names that one `no-cache="…"` or `private="…"` may list; more
/// count as the directive without a list.
pub const LISTED_FIELDS_MAX: usize = 64;

/// Fields without which a response is another one: another content, or for
/// other requests. A list that names one counts as the directive without a
/// list, as many caches take every list (RFC 9111 sections 5.2.2.4 and 5.2.2.7).
const INDISPENSABLE: [HeaderName; 5] = [
    CACHE_CONTROL,
    CDN_CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_RANGE,
    VARY,
];

/// How much of a response a directive is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The directive is absent.
    #[default]
    Nothing,
    /// These fields: store the response without them.
    Fields(Vec<HeaderName>),
    /// The response.
    Everything,
}

/// The field that the directives came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// `Cache-Control`, or nothing: `Expires` counts.
    #[default]
    Untargeted,
    /// `CDN-Cache-Control`: `Cache-Control` and `Expires` do not count (RFC 9213 section 2.2).
    Targeted,
}

/// The directives of a response that apply to this cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// Where they came from.
    pub source: Source,
    /// `no-store`.
    pub no_store: bool,
    /// `private`, whole or for some fields.
    pub private: Scope,
    /// `no-cache`, whole or for some fields.
    pub no_cache: Scope,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `public`.
    pub public: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
    /// `max-age`, the first one.
    pub max_age: Option<Seconds>,
    /// `s-maxage`, the first one.
    pub s_maxage: Option<Seconds>,
    /// `stale-while-revalidate` (RFC 5861 section 3), the first one.
    pub stale_while_revalidate: Option<Seconds>,
    /// `stale-if-error` (RFC 5861 section 4), the first one.
    pub stale_if_error: Option<Seconds>,
}

impl ResponseDirectives {
    /// Reads `CDN-Cache-Control` if it is a valid Structured Field and not
    /// empty (RFC 9213 section 2.1), else `Cache-Control`.
    pub fn parse(headers: &HeaderMap) -> Self {
        targeted(headers).unwrap_or_else(|| {
            let mut read = ResponseDirectives::default();
            for directive in directives(headers, &CACHE_CONTROL) {
                read.add(&directive.name, &directive.argument);
            }
            read
        })
    }

    /// Without what a rule of the operator's sets aside.
    #[must_use]
    pub fn without(mut self, ignored: IgnoreOrigin) -> Self {
        if ignored.no_store {
            self.no_store = false;
        }
        if ignored.private {
            self.private = Scope::Nothing;
        }
        if ignored.no_cache {
            self.no_cache = Scope::Nothing;
        }
        if ignored.must_revalidate {
            self.must_revalidate = false;
            self.proxy_revalidate = false;
        }
        self
    }

    /// Whether the response says that visitors may share it: `public`, or
    /// `s-maxage` with a number (RFC 9111 sections 5.2.2.9 and 5.2.2.10).
    pub fn may_be_shared(&self) -> bool {
        self.public || self.s_maxage.and_then(Seconds::valid).is_some()
    }

    /// Fields that are not to be stored.
    pub fn listed_fields(&self) -> impl Iterator<Item = &HeaderName> {
        [&self.private, &self.no_cache]
            .into_iter()
            .flat_map(|scope| match scope {
                Scope::Fields(names) => names.as_slice(),
                Scope::Nothing | Scope::Everything => &[],
            })
    }

    fn add(&mut self, name: &str, argument: &Argument) {
        match name {
            "no-store" => self.no_store = true,
            "private" => self.private.add(argument),
            "no-cache" => self.no_cache.add(argument),
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "public" => self.public = true,
            "must-understand" => self.must_understand = true,
            "immutable" => self.immutable = true,
            // RFC 9111 section 4.2.1: of several values the first counts.
            "max-age" => first(&mut self.max_age, argument),
            "s-maxage" => first(&mut self.s_maxage, argument),
            "stale-while-revalidate" => first(&mut self.stale_while_revalidate, argument),
            "stale-if-error" => first(&mut self.stale_if_error, argument),
            _ => {}
        }
    }
}

fn first(slot: &mut Option<Seconds>, argument: &Argument) {
    if slot.is_none() {
        *slot = Some(argument.seconds());
    }
}

impl Scope {
    /// Adds one occurrence: the union, and without a list that can be read, everything.
    fn add(&mut self, argument: &Argument) {
        let listed = match argument {
            Argument::None | Argument::Malformed => None,
            Argument::Text(text) => field_names(text),
        };
        match (std::mem::take(self), listed) {
            (Scope::Nothing, Some(names)) => *self = Scope::Fields(names),
            (Scope::Fields(mut known), Some(names))
                if known.len().saturating_add(names.len()) <= LISTED_FIELDS_MAX =>
            {
                known.extend(names);
                *self = Scope::Fields(known);
            }
            (Scope::Nothing | Scope::Fields(_), _) | (Scope::Everything, _) => {
                *self = Scope::Everything
            }
        }
    }
}

/// Names separated by commas; `None` if there is none, too many, one that is no
/// field name, or one of [`INDISPENSABLE`].
fn field_names(text: &str) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for name in text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        if names.len() >= LISTED_FIELDS_MAX {
            return None;
        }
        let name = HeaderName::try_from(name).ok()?;
        if INDISPENSABLE.contains(&name) {
            return None;
        }
        names.push(name);
    }
    (!names.is_empty()).then_some(names)
}

/// Reads `CDN-Cache-Control`; `None` if absent, empty or invalid.
fn targeted(headers: &HeaderMap) -> Option<ResponseDirectives> {
    let mut joined = Vec::new();
    for line in headers.get_all(CDN_CACHE_CONTROL) {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(line.as_bytes());
    }
    let dictionary: Dictionary = Parser::new(&joined).parse().ok()?;
    if dictionary.is_empty() {
        return None;
    }
    let mut read = ResponseDirectives {
        source: Source::Targeted,
        ..ResponseDirectives::default()
    };
    for (key, value) in &dictionary {
        if let Some(argument) = structured(value) {
            read.add(key.as_str(), &argument);
        }
    }
    Some(read)
}

/// A Structured Field value as a directive's argument; `None` for `?0`, which
/// says that the directive is absent. Parameters are ignored (RFC 9213 section
/// 2.1). A number must be an integer, so that a string of digits is malformed.
fn structured(value: &ListEntry) -> Option<Argument> {
    let item = match value {
        ListEntry::Item(item) => &item.bare_item,
        ListEntry::InnerList(list) => {
            let names = list
                .items
                .iter()
                .map(|item| names_text(&item.bare_item))
                .collect::<Option<Vec<_>>>();
            return Some(
                names.map_or(Argument::Malformed, |names| Argument::Text(names.join(","))),
            );
        }
    };
    match item {
        BareItem::Boolean(false) => None,
        BareItem::Boolean(true) => Some(Argument::None),
        BareItem::Integer(number) => {
            let number = i64::from(*number).min(i64::from(SECONDS_MAX));
            Some(Argument::Text(number.to_string()))
        }
        BareItem::String(_) | BareItem::Token(_) => match names_text(item) {
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(Argument::Malformed)
            }
            Some(text) => Some(Argument::Text(text)),
            None => Some(Argument::Malformed),
        },
        BareItem::Decimal(_)
        | BareItem::ByteSequence(_)
        | BareItem::Date(_)
        | BareItem::DisplayString(_) => Some(Argument::Malformed),
    }
}

fn names_text(item: &BareItem) -> Option<String> {
    match item {
        BareItem::String(text) => Some(text.as_str().to_owned()),
        BareItem::Token(text) => Some(latin1(text.as_str().as_bytes())),
        BareItem::Integer(_)
        | BareItem::Decimal(_)
        | BareItem::ByteSequence(_)
        | BareItem::Boolean(_)
        | BareItem::Date(_)
        | BareItem::DisplayString(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{arbitrary_map, map};
    use super::*;
    use proptest::prelude::*;

    fn names(names: &[&'static str]) -> Scope {
        Scope::Fields(
            names
                .iter()
                .map(|name| HeaderName::from_static(name))
                .collect(),
        )
    }

    #[test]
    fn cache_control_is_read() {
        let none = ResponseDirectives::default;
        let valid = |seconds| Some(Seconds::Valid(seconds));
        let table: Vec<(&[&str], ResponseDirectives)> = vec![
            (&[], none()),
            (&["foobar, x=y"], none()),
            (
                &["No-StOrE"],
                ResponseDirectives {
                    no_store: true,
                    ..none()
                },
            ),
            (
                &["no-store=1"],
                ResponseDirectives {
                    no_store: true,
                    ..none()
                },
            ),
            (
                &["public, must-revalidate, proxy-revalidate, must-understand, immutable"],
                ResponseDirectives {
                    public: true,
                    must_revalidate: true,
                    proxy_revalidate: true,
                    must_understand: true,
                    immutable: true,
                    ..none()
                },
            ),
            (
                &[
                    "max-age=1, s-maxage=2",
                    "stale-while-revalidate=3, stale-if-error=4",
                ],
                ResponseDirectives {
                    max_age: valid(1),
                    s_maxage: valid(2),
                    stale_while_revalidate: valid(3),
                    stale_if_error: valid(4),
                    ..none()
                },
            ),
            // The first number counts, good or bad.
            (
                &["max-age=1", "max-age=1800"],
                ResponseDirectives {
                    max_age: valid(1),
                    ..none()
                },
            ),
            (
                &["max-age=x, max-age=1800"],
                ResponseDirectives {
                    max_age: Some(Seconds::Malformed),
                    ..none()
                },
            ),
            (
                &["s-maxage"],
                ResponseDirectives {
                    s_maxage: Some(Seconds::Malformed),
                    ..none()
                },
            ),
            // Lists of fields; the more restrictive wins, whatever cannot be read restricts most.
            (
                &["private"],
                ResponseDirectives {
                    private: Scope::Everything,
                    ..none()
                },
            ),
            (
                &["private=\"a, B\""],
                ResponseDirectives {
                    private: names(&["a", "b"]),
                    ..none()
                },
            ),
            (
                &["no-cache=a", "no-cache=\"b\""],
                ResponseDirectives {
                    no_cache: names(&["a", "b"]),
                    ..none()
                },
            ),
            (
                &["no-cache=\"a\", no-cache"],
                ResponseDirectives {
                    no_cache: Scope::Everything,
                    ..none()
                },
            ),
            (
                &["no-cache, no-cache=\"a\""],
                ResponseDirectives {
                    no_cache: Scope::Everything,
                    ..none()
                },
            ),
            (
                &["private=\"\""],
                ResponseDirectives {
                    private: Scope::Everything,
                    ..none()
                },
            ),
            (
                &["private=\"a b\""],
                ResponseDirectives {
                    private: Scope::Everything,
                    ..none()
                },
            ),
            (
                &["private=\"a, no-store"],
                ResponseDirectives {
                    private: Scope::Everything,
                    ..none()
                },
            ),
        ];
        for (lines, expected) in table {
            let fields: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
            assert_eq!(
                ResponseDirectives::parse(&map(&fields)),
                expected,
                "{lines:?}"
            );
        }
    }

    /// Stored without `Vary` it would answer everybody, without
    /// `Content-Encoding` it would be garbage.
    #[test]
    fn a_list_with_a_field_that_cannot_be_spared_is_everything() {
        for name in [
            "Vary",
            "x, content-encoding",
            "Content-Range",
            "cache-control",
            "cdn-cache-control",
        ] {
            let value = format!("private=\"{name}\", no-cache=\"x, {name}\"");
            for field in ["cache-control", "cdn-cache-control"] {
                let read = ResponseDirectives::parse(&map(&[(field, &value)]));
                assert_eq!(
                    (read.private, read.no_cache),
                    (Scope::Everything, Scope::Everything),
                    "{field} {name}"
                );
            }
        }
    }

    #[test]
    fn leave_to_share_is_public_or_a_number() {
        for (value, expected) in [
            ("public", true),
            ("s-maxage=0", true),
            ("s-maxage=60", true),
            ("s-maxage", false),
            ("s-maxage=x", false),
            ("s-maxage=-1", false),
            ("max-age=60", false),
        ] {
            let read = ResponseDirectives::parse(&map(&[("cache-control", value)]));
            assert_eq!(read.may_be_shared(), expected, "{value}");
        }
    }

    #[test]
    fn too_long_a_list_is_everything() {
        let list = |count: usize| {
            (0..count)
                .map(|n| format!("x{n}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        let parse =
            |value: String| ResponseDirectives::parse(&map(&[("cache-control", &value)])).private;
        assert!(matches!(
            parse(format!("private=\"{}\"", list(LISTED_FIELDS_MAX))),
            Scope::Fields(_)
        ));
        assert_eq!(
            parse(format!("private=\"{}\"", list(LISTED_FIELDS_MAX + 1))),
            Scope::Everything
        );
        assert_eq!(
            parse(format!(
                "private=\"{}\", private=y",
                list(LISTED_FIELDS_MAX)
            )),
            Scope::Everything
        );
    }

    #[test]
    fn the_targeted_field_wins_if_it_is_valid_and_not_empty() {
        let valid = |seconds| Some(Seconds::Valid(seconds));
        let none = || ResponseDirectives {
            source: Source::Targeted,
            ..ResponseDirectives::default()
        };
        let table: Vec<(&[&str], ResponseDirectives)> = vec![
            (
                &["max-age=3600"],
                ResponseDirectives {
                    max_age: valid(3600),
                    ..none()
                },
            ),
            (
                &["foobar, max-age=3600;p=1"],
                ResponseDirectives {
                    max_age: valid(3600),
                    ..none()
                },
            ),
            (
                &["max-age=1", "private"],
                ResponseDirectives {
                    max_age: valid(1),
                    private: Scope::Everything,
                    ..none()
                },
            ),
            // RFC 9651 section 3.2: of repeated keys the last value counts.
            (
                &["max-age=1, max-age=2"],
                ResponseDirectives {
                    max_age: valid(2),
                    ..none()
                },
            ),
            (
                &["max-age=999999999999"],
                ResponseDirectives {
                    max_age: valid(SECONDS_MAX),
                    ..none()
                },
            ),
            (
                &["no-store=?0, public"],
                ResponseDirectives {
                    public: true,
                    ..none()
                },
            ),
            (
                &["private=\"a, b\""],
                ResponseDirectives {
                    private: names(&["a", "b"]),
                    ..none()
                },
            ),
            (
                &["private=(a \"b\")"],
                ResponseDirectives {
                    private: names(&["a", "b"]),
                    ..none()
                },
            ),
            (
                &["private=()"],
                ResponseDirectives {
                    private: Scope::Everything,
                    ..none()
                },
            ),
            (
                &["private=1"],
                ResponseDirectives {
                    private: names(&["1"]),
                    ..none()
                },
            ),
            // Valid, of the wrong type: not fresh, and not Cache-Control's turn.
            (
                &["max-age=\"10000\""],
                ResponseDirectives {
                    max_age: Some(Seconds::Malformed),
                    ..none()
                },
            ),
            (
                &["max-age=1.5"],
                ResponseDirectives {
                    max_age: Some(Seconds::Malformed),
                    ..none()
                },
            ),
            (
                &["max-age=-1"],
                ResponseDirectives {
                    max_age: Some(Seconds::Malformed),
                    ..none()
                },
            ),
            (
                &["max-age"],
                ResponseDirectives {
                    max_age: Some(Seconds::Malformed),
                    ..none()
                },
            ),
        ];
        for (lines, expected) in table {
            let mut fields = vec![("cache-control", "no-store, max-age=7")];
            fields.extend(lines.iter().map(|line| ("cdn-cache-control", *line)));
            assert_eq!(
                ResponseDirectives::parse(&map(&fields)),
                expected,
                "{lines:?}"
            );
        }
        for invalid in [
            "",
            " ",
            "max-age=10000, &&&&&",
            "MaX-aGe=3600",
            "max-age =100",
            "max-age= 100",
            "max-age=1,",
            "\u{e9}",
        ] {
            let read = ResponseDirectives::parse(&map(&[
                ("cdn-cache-control", invalid),
                ("cache-control", "no-store"),
            ]));
            assert_eq!(
                read,
                ResponseDirectives {
                    no_store: true,
                    ..ResponseDirectives::default()
                },
                "{invalid:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_fields_are_read(headers in arbitrary_map()) {
            let _ = ResponseDirectives::parse(&headers);
        }
    }
}
