//! What a response says about its storing and reuse (RFC 9111 section 5.2.2),
//! to all shared caches or to this kind alone (RFC 9213).

use super::directives::{Argument, SECONDS_MAX, Seconds, directives, misplaced_words, words};
use super::fields::CDN_CACHE_CONTROL;
use super::line::latin1;
use super::policy::IgnoreOrigin;
use super::text::field_members;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, PRAGMA, VARY};
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
            let mut read = ResponseDirectives::of_cache_control(headers);
            // Not valid, so it says nothing but what it may have meant to forbid.
            for line in headers.get_all(CDN_CACHE_CONTROL) {
                for (word, rest) in words(line.as_bytes()) {
                    read.restrict(&word, rest);
                }
            }
            read
        })
    }

    /// Reads `Cache-Control` alone, as browsers do.
    pub(super) fn of_cache_control(headers: &HeaderMap) -> Self {
        let mut read = ResponseDirectives::default();
        for directive in directives(headers, &CACHE_CONTROL) {
            read.add(&directive.name, &directive.argument);
        }
        for (word, rest) in misplaced_words(headers, &CACHE_CONTROL) {
            read.restrict(&word, rest);
        }
        // RFC 9111 section 5.4 leaves it open in answers. Where it is the only word, the
        // origin means it.
        let is_told = headers.contains_key(CACHE_CONTROL);
        if !is_told && field_members(headers, &PRAGMA).any(is_no_cache) {
            read.no_cache = Scope::Everything;
        }
        read
    }

    /// Counts a restriction that stands where the grammar has none. Restrictions fail
    /// closed: what cannot be read never makes a response more shareable.
    fn restrict(&mut self, word: &str, rest: &[u8]) {
        match word {
            "no-store" => self.no_store = true,
            "private" => self.private = Scope::Everything,
            "no-cache" => self.no_cache = Scope::Everything,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "max-age" if is_zero(rest) => self.max_age = Some(Seconds::Valid(0)),
            "s-maxage" if is_zero(rest) => self.s_maxage = Some(Seconds::Valid(0)),
            _ => {}
        }
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
            // Permissions have no argument.
            "public" => self.public |= *argument == Argument::None,
            "must-understand" => self.must_understand |= *argument == Argument::None,
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

/// Whether a number that follows a misplaced lifetime is zero: `=0`, with white space or
/// quotation marks in between.
fn is_zero(rest: &[u8]) -> bool {
    let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'"' | b'\'');
    let mut bytes = rest.iter().skip_while(is_space);
    if bytes.next() != Some(&b'=') {
        return false;
    }
    let mut digits = bytes
        .skip_while(is_space)
        .take_while(|byte| byte.is_ascii_digit());
    digits.next() == Some(&b'0') && digits.all(|digit| *digit == b'0')
}

fn is_no_cache(member: &[u8]) -> bool {
    words(member).any(|(word, _)| word == "no-cache")
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

    /// Whether a text has a word outside the places where the grammar has text.
    fn stands_alone(text: &str, word: &str) -> bool {
        let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let quoted_or_argument = text.contains('=') || text.contains('"');
        !quoted_or_argument && text.split(|c| !is_of_word(c)).any(|found| found == word)
    }

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
                    no_store: true,
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

    /// Answers that said `private; no-store` or `no-store no-cache` were shared.
    #[test]
    fn restrictions_count_wherever_they_stand() {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        struct Restrictions(bool, bool, bool, bool);
        let read = |field: &str, value: &str| {
            let read = ResponseDirectives::parse(&map(&[(field, value)]));
            let restrictions = Restrictions(
                read.no_store,
                read.private == Scope::Everything,
                read.no_cache == Scope::Everything,
                read.must_revalidate,
            );
            (restrictions, read)
        };
        let store = Restrictions(true, false, false, false);
        let private = Restrictions(false, true, false, false);
        let cache = Restrictions(false, false, true, false);
        let revalidate = Restrictions(false, false, false, true);
        for (value, expected) in [
            ("private; no-store", Restrictions(true, true, false, false)),
            (
                "no-cache; private; no-store",
                Restrictions(true, true, true, false),
            ),
            ("no-store no-cache", Restrictions(true, false, true, false)),
            ("private;max-age=600", private),
            ("max-age=600;private", private),
            ("max-age=600 ; Private", private),
            ("max-age=600 private", private),
            ("max-age=600\tNO-STORE", store),
            ("public no-store", store),
            ("public=\"no-store", store),
            ("foo=\"bar, no-store", store),
            ("\"no-store\"", store),
            ("'no-store'", store),
            ("no-store.", store),
            ("=no-store", store),
            ("foo=\"a\"no-store", store),
            ("max-age=600\u{a0}no-cache", cache),
            ("max-age=600|must-revalidate", revalidate),
            ("public/must-revalidate", revalidate),
            ("private=\"a\"; max-age=60", private),
        ] {
            let (restrictions, read) = read("cache-control", value);
            assert_eq!(restrictions, expected, "{value}");
            assert!(!read.public, "{value}");
            let fresh = read.max_age.and_then(Seconds::valid);
            assert!(fresh.is_none_or(|seconds| seconds == 0), "{value}");
        }
        // What the grammar has as text or as another word is not one.
        for value in [
            "max-age=60, x=\"private, no-store\"",
            "max-age=60, x=private",
            "max-age=60, x-no-store",
            "max-age=60, x-private=1",
            "max-age=60, not-no-cache;x",
        ] {
            let (restrictions, read) = read("cache-control", value);
            assert_eq!(
                restrictions,
                Restrictions(false, false, false, false),
                "{value}"
            );
            assert_eq!(read.max_age, Some(Seconds::Valid(60)), "{value}");
        }
        // A targeted field that is not valid.
        for (value, expected) in [
            ("no-store no-cache", Restrictions(true, false, true, false)),
            ("Private", private),
            ("max-age=60, &&&, no-store", store),
        ] {
            assert_eq!(read("cdn-cache-control", value).0, expected, "{value}");
        }
    }

    #[test]
    fn permissions_count_where_the_grammar_has_them_alone() {
        for value in [
            "public; max-age=60",
            "public max-age=60",
            "public=1",
            "public=\"x",
            "x;public",
            "=public",
            "foo=\"bar, public, s-maxage=60",
        ] {
            let read = ResponseDirectives::parse(&map(&[("cache-control", value)]));
            assert!(!read.may_be_shared(), "{value}");
            assert_eq!((read.max_age, read.s_maxage), (None, None), "{value}");
        }
        // `must-understand` takes `no-store` back.
        for value in ["no-store; must-understand", "no-store, must-understand=x"] {
            let read = ResponseDirectives::parse(&map(&[("cache-control", value)]));
            assert!(read.no_store && !read.must_understand, "{value}");
        }
        // A lifetime of zero is a restriction.
        for value in [
            "public; max-age=0",
            "x max-age = \"00\"",
            "no-transform;s-maxage=0",
        ] {
            let read = ResponseDirectives::parse(&map(&[("cache-control", value)]));
            let stated = read.s_maxage.or(read.max_age);
            assert_eq!(stated, Some(Seconds::Valid(0)), "{value}");
        }
    }

    #[test]
    fn pragma_is_no_cache_where_cache_control_is_absent() {
        for (fields, expected) in [
            (&[("pragma", "no-cache")][..], Scope::Everything),
            (&[("pragma", "No-Cache; x")], Scope::Everything),
            (
                &[("pragma", "x"), ("pragma", "no-cache")],
                Scope::Everything,
            ),
            (&[("pragma", "x")], Scope::Nothing),
            (
                &[("pragma", "no-cache"), ("cache-control", "max-age=60")],
                Scope::Nothing,
            ),
            (
                &[("pragma", "no-cache"), ("cdn-cache-control", "max-age=60")],
                Scope::Nothing,
            ),
        ] {
            assert_eq!(
                ResponseDirectives::parse(&map(fields)).no_cache,
                expected,
                "{fields:?}"
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

        /// A directive that cannot be read makes nothing more shareable.
        #[test]
        fn what_cannot_be_read_grants_nothing(
            before in proptest::sample::subsequence(vec!["no-store", "private", "no-cache", "must-revalidate", "max-age=60"], 0..5),
            garbage in "[ -~]{0,3}(no-store|private|public|max-age=600|s-maxage=9)?[ ;=\"'][ -~]{0,12}",
        ) {
            prop_assume!(!garbage.contains(','));
            let with = |last: &str| {
                let all = before.iter().copied().chain([last]).collect::<Vec<_>>().join(", ");
                ResponseDirectives::parse(&map(&[("cache-control", &all)]))
            };
            let (plain, read) = (with(""), with(&garbage));
            prop_assert!(read.no_store || !plain.no_store);
            prop_assert!(read.private != Scope::Nothing || plain.private == Scope::Nothing);
            prop_assert!(read.no_cache != Scope::Nothing || plain.no_cache == Scope::Nothing);
            prop_assert!(read.must_revalidate || !plain.must_revalidate);
            let word = |word: &str| garbage.contains(word);
            prop_assert!(read.no_store || !word("no-store") || !stands_alone(&garbage, "no-store"));
            prop_assert!(read.private != Scope::Nothing || !word("private") || !stands_alone(&garbage, "private"));
        }
    }
}
