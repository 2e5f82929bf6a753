//! What a visitor's request asks, and on whose behalf.

use super::accept::{Accept, Codings, Encoding};
use super::cookies::{self, Crumbs};
use super::fields::{Class, class, is_selectable};
use super::policy::{Credentials, KeyPolicy, RequestPolicy, Unknown, any_matches};
use super::preflight::preflight_key;
use super::target::canonical;
use crate::question::Origin;
use crate::semantics::cdn_loop::shields;
use crate::semantics::{CDN_LOOP, canonical_host, joined_value, normal_value, push_counted};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, COOKIE, HOST, IF_MATCH, IF_UNMODIFIED_SINCE,
    PROXY_AUTHORIZATION, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, request};
use sha2::{Digest, Sha256};
use std::fmt;

/// `X-Forwarded-Proto`, the field by which a proxy in front names the scheme.
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What a GET or HEAD is to the cache.
#[derive(Clone, Debug)]
pub enum Read {
    /// It asks a question.
    Question(Box<Visitor>),
    /// It is forwarded with its own fields, and neither reads nor writes cells.
    Pass(Reason),
    /// It names a host that is not served here (421).
    Misdirected,
    /// Its target is not one that can be sent on (400).
    Invalid,
}

/// Why a GET or HEAD asks no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has content.
    Content,
    /// A field replaces its method.
    MethodOverride,
    /// It has `If-Match` or `If-Unmodified-Since`: it wants the origin's present
    /// state.
    Precondition,
    /// It asks for a range in another unit than bytes.
    RangeUnit,
    /// It has more unknown fields, or longer ones, than a question may.
    TooManyFields,
}

impl Reason {
    /// A short name for logs and `Cache-Status` details.
    pub fn token(self) -> &'static str {
        match self {
            Reason::Content => "content",
            Reason::MethodOverride => "method-override",
            Reason::Precondition => "precondition",
            Reason::RangeUnit => "range-unit",
            Reason::TooManyFields => "too-many-fields",
        }
    }
}

/// A visitor's request, as far as it shapes the question.
#[derive(Clone, Debug)]
pub struct Visitor {
    key: String,
    base: Base,
    /// Fields that are not sent unless an answer's `Vary` names them.
    latent: HeaderMap,
    /// Fields that are sent as they came and not keyed; of the foreground
    /// request alone.
    forwarded: HeaderMap,
    mode: Unknown,
    credentials: bool,
    codings: Codings,
}

/// The part of a question that does not depend on the key's selecting fields.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Base {
    /// A CORS preflight asks it.
    preflight: bool,
    /// Where the origin is asked.
    uri: Uri,
    /// The canonical target.
    target: String,
    /// Whether the visitor used `https`.
    secure: bool,
    /// The visitor's host, where it is part of the key.
    host: Option<String>,
    /// `None` where `Accept` is forwarded as it came.
    accept: Option<Accept>,
    /// `None` where `Accept-Encoding` is forwarded as it came.
    encoding: Option<Encoding>,
    /// Fields that are keyed and sent, by name.
    keyed: Vec<(HeaderName, HeaderValue)>,
    /// Credentials that a rule keys.
    credentials: Vec<(HeaderName, HeaderValue)>,
}

/// What the origin is asked, on behalf of every visitor that asks the same.
///
/// Equal questions are rendered to equal requests: [`Question::fill`] has nothing
/// else to render from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    base: Base,
    /// The fields that select one of the key's variants, by name; `None` where
    /// the request has no such field.
    selected: Vec<(HeaderName, Option<String>)>,
    /// Fields of a foreground request that are sent as they came and not keyed:
    /// preset `strict`, and `request.forward`. Not part of the selector.
    forwarded: HeaderMap,
}

/// The key of a target, for purges and unsafe methods.
///
/// `scheme` and `host` are the visitor's; the host counts only where
/// [`KeyPolicy::hosts`] names some.
pub fn key_of(
    origin: &Origin,
    scheme: &str,
    host: Option<&str>,
    path_and_query: &str,
    policy: &KeyPolicy,
) -> String {
    let host = (!policy.hosts.is_empty()).then(|| canonical_host(scheme, host.unwrap_or_default()));
    key_text(origin, host.as_deref(), &canonical(path_and_query, policy))
}

/// Every part carries its length, so no part can imitate another.
fn key_text(origin: &Origin, host: Option<&str>, target: &str) -> String {
    let mut text = String::new();
    push_counted(&mut text, &origin.to_string().to_ascii_lowercase());
    match host {
        Some(host) => push_counted(&mut text, host),
        None => text.push('-'),
    }
    push_counted(&mut text, target);
    text
}

/// The host, where keys have one, and the canonical target of a key of this module, or of a
/// key that was made of one by adding lines.
pub fn parts_of_key(key: &str) -> Option<(Option<&str>, &str)> {
    let (_, rest) = counted(key)?;
    let (host, rest) = match rest.strip_prefix('-') {
        Some(rest) => (None, rest),
        None => {
            let (host, rest) = counted(rest)?;
            (Some(host), rest)
        }
    };
    let (target, _) = counted(rest)?;
    Some((host, target))
}

/// A selector of [`Question::selector`] in words, for people; none if it is not one.
pub fn selector_in_words(selector: &str) -> Option<String> {
    let (scheme, mut rest) = match selector.strip_prefix("https") {
        Some(rest) => ("https", rest),
        None => ("http", selector.strip_prefix("http")?),
    };
    let mut words = vec![scheme.to_owned()];
    if rest.starts_with(|first: char| first.is_ascii_digit()) {
        let (accept, after) = counted(rest)?;
        words.push(format!("accept: {accept}"));
        rest = after;
    }
    while let Some(kind) = rest.chars().next() {
        let (name, after) = counted(rest.get(kind.len_utf8()..)?)?;
        let (value, after) = match after.strip_prefix('-') {
            Some(after) => (None, after),
            None => {
                let (value, after) = counted(after)?;
                (Some(value), after)
            }
        };
        words.push(match (kind, value) {
            ('#', Some(_)) => format!("{name} of one client"),
            ('+' | '~', Some(_)) if is_secret(name) => format!("{name}: not shown"),
            ('+' | '~', Some(value)) => format!("{name}: {value}"),
            ('~', None) => format!("without {name}"),
            _ => return None,
        });
        rest = after;
    }
    Some(words.join(", "))
}

/// Whether a field of this name may identify a client or open something: its value is not for
/// people who look at what is stored.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 7] = [
        "auth",
        "key",
        "pass",
        "secret",
        "session",
        "signature",
        "token",
    ];
    PARTS.iter().any(|part| name.contains(part))
}

/// A counted text, and what follows it.
fn counted(text: &str) -> Option<(&str, &str)> {
    let (length, rest) = text.split_once(':')?;
    rest.split_at_checked(length.parse().ok()?)
}

impl Visitor {
    /// Reads a GET or HEAD, or the plain form of a preflight. `content` says whether it
    /// has any.
    pub fn read(
        parts: &request::Parts,
        content: bool,
        origin: &Origin,
        key: &KeyPolicy,
        policy: &RequestPolicy,
    ) -> Read {
        let headers = &parts.headers;
        let secure = is_secure(&parts.uri, headers);
        let host = match served_host(parts, secure, key) {
            Ok(host) => host,
            Err(Misdirected) => return Read::Misdirected,
        };
        if let Some(reason) = passed(headers, content) {
            return Read::Pass(reason);
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let target = canonical(path, key);
        let uri = match uri_of(origin, &target) {
            Ok(uri) if target.starts_with('/') => uri,
            Ok(_) | Err(_) => return Read::Invalid,
        };
        let strict = policy.unknown == Unknown::Forward;
        let mut visitor = Visitor {
            key: key_text(origin, host.as_deref(), &target),
            base: Base {
                preflight: false,
                uri,
                target,
                secure,
                host,
                accept: (!strict).then(|| Accept::read(headers)),
                encoding: (!strict).then(|| Encoding::read(headers)),
                keyed: Vec::new(),
                credentials: Vec::new(),
            },
            latent: HeaderMap::new(),
            forwarded: HeaderMap::new(),
            mode: policy.unknown,
            credentials: false,
            codings: Codings::read(headers),
        };
        visitor.read_fields(headers, policy);
        visitor.read_credentials(headers, policy);
        match visitor.is_within(policy) {
            true => Read::Question(Box::new(visitor)),
            false => Read::Pass(Reason::TooManyFields),
        }
    }

    fn read_fields(&mut self, headers: &HeaderMap, policy: &RequestPolicy) {
        let strict = self.mode == Unknown::Forward;
        let is_dropped = any_matches(&policy.drop, CDN_LOOP.as_str());
        if !strict
            && !is_dropped
            && let Some(shields) = shields(headers)
        {
            // So that a loop through several shields is recognised: each of them fetches with
            // a request of its own.
            self.base.keyed.push((CDN_LOOP, shields));
        }
        for name in headers.keys() {
            let text = name.as_str();
            let forward = any_matches(&policy.forward, text);
            let drop = any_matches(&policy.drop, text);
            match class(name) {
                Class::Connection
                | Class::Content
                | Class::Condition
                | Class::Scheme
                | Class::Credential
                | Class::Host
                | Class::MethodOverride => {}
                Class::Directive | Class::Negotiation if strict && !drop => {
                    self.keep_latent(name, headers);
                    self.forward(name, headers);
                }
                // Where an answer varies on it, its whole value selects.
                Class::Negotiation if *name == ACCEPT && !drop => self.keep_latent(name, headers),
                Class::Negotiation if *name == ACCEPT => {
                    if let Some(class) = self.base.accept_class() {
                        let _full = self.latent.try_insert(ACCEPT, class);
                    }
                }
                Class::Directive | Class::Negotiation => {}
                _ if forward => self.forward(name, headers),
                // The operator's word: the origin never sees the field.
                _ if drop => {}
                Class::Rewriting => self.add_keyed(name, headers),
                Class::Unknown if !strict => self.add_keyed(name, headers),
                Class::Latent | Class::Unknown => {
                    self.keep_latent(name, headers);
                    if strict {
                        self.forward(name, headers);
                    }
                }
            }
        }
        self.base
            .keyed
            .sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    }

    fn forward(&mut self, name: &HeaderName, headers: &HeaderMap) {
        copy(name, headers, &mut self.forwarded);
    }

    fn keep_latent(&mut self, name: &HeaderName, headers: &HeaderMap) {
        copy(name, headers, &mut self.latent);
    }

    fn add_keyed(&mut self, name: &HeaderName, headers: &HeaderMap) {
        if let Ok(value) = HeaderValue::from_bytes(&joined_value(name, headers)) {
            self.base.keyed.push((name.clone(), value));
        }
    }

    fn read_credentials(&mut self, headers: &HeaderMap, policy: &RequestPolicy) {
        let strict = self.mode == Unknown::Forward;
        for name in [AUTHORIZATION, PROXY_AUTHORIZATION] {
            if !headers.contains_key(&name) {
                continue;
            }
            match policy.credentials {
                Credentials::Ignore => {}
                Credentials::Key => {
                    if let Ok(value) = HeaderValue::from_bytes(&joined_value(&name, headers)) {
                        self.base.credentials.push((name, value));
                    }
                }
                // Between a client and its proxy (RFC 9110 section 11.7.2).
                Credentials::Pass if name == PROXY_AUTHORIZATION && strict => {}
                Credentials::Pass => {
                    self.credentials = true;
                    if strict {
                        self.forward(&name, headers);
                    }
                }
            }
        }
        match cookies::read(headers, &policy.ignored_cookies, &policy.cookies) {
            Crumbs::None => {}
            Crumbs::Credentials => {
                self.credentials = true;
                if strict {
                    self.forward(&COOKIE, headers);
                }
            }
            Crumbs::Keyed(pairs) => {
                if let Ok(value) = HeaderValue::try_from(pairs) {
                    self.base.credentials.push((COOKIE, value));
                }
            }
        }
    }

    /// Whether the keyed fields are few and short enough for a question.
    fn is_within(&self, policy: &RequestPolicy) -> bool {
        let bytes: usize = self
            .base
            .keyed
            .iter()
            .map(|(name, value)| name.as_str().len().saturating_add(value.len()))
            .sum();
        self.base.keyed.len() <= policy.key_fields && bytes <= policy.key_bytes
    }

    /// The fields that are part of its question, with their values, because they are in no
    /// list or may replace host or path.
    pub fn keyed(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.base.keyed.iter().map(|(name, value)| (name, value))
    }

    /// Whether a field is part of its question whatever its key is known to vary by.
    pub(super) fn keys(&self, name: &HeaderName) -> bool {
        self.base.keyed.iter().any(|(keyed, _)| keyed == name)
    }

    /// The visitor as one whose question is a preflight's: of a key of its own, and
    /// asked with what is keyed alone.
    pub(super) fn into_preflight(mut self) -> Self {
        self.key = preflight_key(&self.key);
        self.base.preflight = true;
        self.latent.clear();
        self.forwarded.clear();
        self
    }

    /// The key of its target: origin, host where configured, and target.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The canonical target.
    pub fn target(&self) -> &str {
        &self.base.target
    }

    /// Whether the visitor used `https`.
    pub fn is_secure(&self) -> bool {
        self.base.secure
    }

    /// Whether it has credentials that are not keyed: a stored answer is for it
    /// only if it is for everyone.
    pub fn has_credentials(&self) -> bool {
        self.credentials
    }

    /// Whether it accepts the coding of a response.
    pub fn accepts(&self, response: &HeaderMap) -> bool {
        self.codings.accept_response(response)
    }

    /// The visitors who differ from this one in what they prefer, and whose answers it can
    /// decode: they have its target, its credentials and its unknown fields. None with preset
    /// `strict`, and none for a preflight.
    pub fn others(&self) -> Vec<Visitor> {
        let (Some(own), Some(encoding)) = (&self.base.accept, self.base.encoding) else {
            return Vec::new();
        };
        if self.base.preflight {
            return Vec::new();
        }
        let mut others = Vec::new();
        for accept in [own.clone()].into_iter().chain(Accept::usual()) {
            for encoding in encoding.decodable() {
                let mut other = self.clone();
                other.base.encoding = Some(*encoding);
                other.base.accept = Some(accept.clone());
                if accept != *own
                    && let Some(class) = other.base.accept_class()
                {
                    let _full = other.latent.try_insert(ACCEPT, class);
                }
                others.push(other);
            }
        }
        others
    }

    /// The question that it asks, of a key with these selecting fields.
    pub fn question(&self, vary: &[HeaderName]) -> Question {
        let mut question = Question {
            base: self.base.clone(),
            selected: Vec::new(),
            forwarded: self.forwarded.clone(),
        };
        question.selected = vary
            .iter()
            .map(|name| (name.clone(), question.value(name, &self.latent)))
            .collect();
        question
    }
}

impl Base {
    /// The class of `Accept` as the origin gets it. The question of a preflight has none of
    /// the fields that may select.
    fn accept_class(&self) -> Option<HeaderValue> {
        let accept = self.accept.as_ref().filter(|_| !self.preflight)?;
        HeaderValue::try_from(accept.field()).ok()
    }
}

impl Question {
    /// What selects this question among those of its key. Two questions of one
    /// key with equal selectors share a cell.
    pub fn selector(&self) -> String {
        let mut text = String::from(if self.base.secure { "https" } else { "http" });
        if let Some(accept) = &self.base.accept {
            push_counted(&mut text, &accept.field());
        }
        for (name, value) in &self.base.keyed {
            text.push('+');
            push_counted(&mut text, name.as_str());
            push_counted(&mut text, &latin1(value));
        }
        for (name, value) in &self.base.credentials {
            text.push('#');
            push_counted(&mut text, name.as_str());
            push_counted(&mut text, &digest(value));
        }
        for (name, value) in &self.selected {
            text.push('~');
            push_counted(&mut text, name.as_str());
            match value {
                Some(value) => push_counted(&mut text, value),
                None => text.push('-'),
            }
        }
        text
    }

    /// This question once its key has these selecting fields. A field that the
    /// question did not send has no value; of `Accept` it has sent the class.
    #[must_use]
    pub fn under(&self, vary: &[HeaderName]) -> Question {
        let selected = vary.iter().map(|name| {
            let known = self.selected.iter().find(|(known, _)| known == name);
            let value = match known {
                Some((_, value)) => value.clone(),
                None => self.value(name, &self.sent()),
            };
            (name.clone(), value)
        });
        Question {
            selected: selected.collect(),
            ..self.clone()
        }
    }

    /// Whether `visitor` asks this question also if its key had the selecting
    /// fields `names` besides those that the question knows.
    pub fn is_asked_by(&self, visitor: &Visitor, names: &[HeaderName]) -> bool {
        let mut all: Vec<HeaderName> = self.selected.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            if is_selectable(name, visitor.mode) && !all.contains(name) {
                all.push(name.clone());
            }
        }
        self.under(&all).selector() == visitor.question(&all).selector()
    }

    /// The fields that select once they are named, as the question sends them before.
    fn sent(&self) -> HeaderMap {
        let mut sent = self.forwarded.clone();
        if let Some(class) = self.base.accept_class() {
            let _full = sent.try_insert(ACCEPT, class);
        }
        sent
    }

    /// The value of a selecting field, from `fields` where it is no class.
    fn value(&self, name: &HeaderName, fields: &HeaderMap) -> Option<String> {
        match (name, self.base.encoding) {
            (name, Some(encoding)) if *name == ACCEPT_ENCODING => Some(encoding.token().to_owned()),
            _ => normal_value(name, fields),
        }
    }

    /// The question as it is asked behind an answer: without the fields of a
    /// foreground request.
    #[must_use]
    pub fn behind(mut self) -> Self {
        self.forwarded.clear();
        self
    }

    /// Whether the question belongs to one client: an answer for one visitor may
    /// be stored for it.
    pub fn is_keyed_by_client(&self) -> bool {
        !self.base.credentials.is_empty()
    }

    /// Whether it is a preflight's.
    pub fn is_preflight(&self) -> bool {
        self.base.preflight
    }

    /// The method by which the origin is asked.
    pub fn method(&self) -> Method {
        match self.base.preflight {
            true => Method::OPTIONS,
            false => Method::GET,
        }
    }

    /// Whether the visitors that ask it used `https`.
    pub fn is_secure(&self) -> bool {
        self.base.secure
    }

    /// The canonical target.
    pub fn target(&self) -> &str {
        &self.base.target
    }

    /// Where the origin is asked.
    pub(super) fn uri(&self) -> &Uri {
        &self.base.uri
    }

    /// The visitor's host, where it is part of the key.
    pub fn host(&self) -> Option<&str> {
        self.base.host.as_deref()
    }

    /// Whether the foreground request sends the visitor's credentials: preset
    /// `strict` alone.
    pub fn sends_credentials(&self) -> bool {
        self.forwarded.contains_key(AUTHORIZATION) || self.forwarded.contains_key(COOKIE)
    }

    /// Removes from an answer the cookies that would replace one which the visitor
    /// has and the question did not send.
    pub fn withhold_cookies(&self, visitor: &HeaderMap, answer: &mut HeaderMap) {
        let keyed = self.base.credentials.iter();
        let keyed = keyed
            .filter(|(name, _)| *name == COOKIE)
            .map(|(_, value)| value);
        let sent = keyed.chain(self.forwarded.get_all(COOKIE));
        cookies::withhold(sent, visitor, answer);
    }

    /// Fields that the foreground request sends and that are not keyed.
    pub fn forwarded(&self) -> &HeaderMap {
        &self.forwarded
    }

    /// Adds the question's fields to a request.
    pub(super) fn write_fields(&self, fields: &mut HeaderMap) {
        let mut set = |name: &HeaderName, value: HeaderValue| {
            let _full = fields.try_insert(name.clone(), value);
        };
        if let Some(accept) = &self.base.accept
            && let Ok(value) = HeaderValue::try_from(accept.field())
        {
            set(&ACCEPT, value);
        }
        if let Some(field) = self.base.encoding.and_then(Encoding::field) {
            set(&ACCEPT_ENCODING, HeaderValue::from_static(field));
        }
        for (name, value) in self.base.keyed.iter().chain(&self.base.credentials) {
            set(name, value.clone());
        }
        for (name, value) in &self.selected {
            let is_class = *name == ACCEPT_ENCODING && self.base.encoding.is_some();
            if !is_class && let Some(value) = value.as_deref().and_then(from_latin1) {
                set(name, value);
            }
        }
        // Where the whole value selects and the visitor has none, the class is not sent.
        if self
            .selected
            .iter()
            .any(|(name, value)| *name == ACCEPT && value.is_none())
        {
            fields.remove(ACCEPT);
        }
        for name in self.forwarded.keys() {
            fields.remove(name);
            copy(name, &self.forwarded, fields);
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base.target)
    }
}

/// A host that is not served here.
struct Misdirected;

/// Whether the host that a request names is served here.
pub fn is_served(parts: &request::Parts, key: &KeyPolicy) -> bool {
    served_host(parts, is_secure(&parts.uri, &parts.headers), key).is_ok()
}

/// The host where it is part of the key; `None` where no hosts are configured.
fn served_host(
    parts: &request::Parts,
    secure: bool,
    key: &KeyPolicy,
) -> Result<Option<String>, Misdirected> {
    if key.hosts.is_empty() {
        return Ok(None);
    }
    let scheme = if secure { "https" } else { "http" };
    let host = canonical_host(scheme, &host_of(parts).unwrap_or_default());
    match key.hosts.contains(&host) {
        true => Ok(Some(host)),
        false => Err(Misdirected),
    }
}

/// The host that a request names.
pub(super) fn host_of(parts: &request::Parts) -> Option<String> {
    parts
        .uri
        .authority()
        .map(|authority| authority.as_str().to_owned())
        .or_else(|| Some(parts.headers.get(HOST)?.to_str().ok()?.to_owned()))
}

/// Whether the visitor used `https`: the platform's word, else that of a
/// well-formed `X-Forwarded-Proto`. Believing the field is safe because the
/// scheme is part of the question.
pub fn is_secure(uri: &Uri, headers: &HeaderMap) -> bool {
    if uri.scheme_str() == Some("https") {
        return true;
    }
    let first = headers
        .get(X_FORWARDED_PROTO)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(',').next());
    first.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"))
}

/// Why a request is forwarded with its own fields, whatever is stored.
fn passed(headers: &HeaderMap, content: bool) -> Option<Reason> {
    if content {
        return Some(Reason::Content);
    }
    if headers
        .keys()
        .any(|name| class(name) == Class::MethodOverride)
    {
        return Some(Reason::MethodOverride);
    }
    if headers.contains_key(IF_MATCH) || headers.contains_key(IF_UNMODIFIED_SINCE) {
        return Some(Reason::Precondition);
    }
    // RFC 9110 section 14.1: a unit, then `=`. A malformed field is ignored.
    let unit = headers
        .get(RANGE)
        .and_then(|range| range.to_str().ok()?.split_once('='))
        .map(|(unit, _)| unit.trim());
    unit.is_some_and(|unit| !unit.eq_ignore_ascii_case("bytes"))
        .then_some(Reason::RangeUnit)
}

/// Where a target is at the origin.
pub(super) fn uri_of(origin: &Origin, target: &str) -> Result<Uri, http::Error> {
    // `OPTIONS *` is about the server, which is all that the prefix leads to.
    let target = if target == "*" { "/" } else { target };
    Uri::builder()
        .scheme(origin.scheme.clone())
        .authority(origin.authority.clone())
        .path_and_query(format!("{}{target}", origin.prefix))
        .build()
}

fn copy(name: &HeaderName, from: &HeaderMap, to: &mut HeaderMap) {
    for value in from.get_all(name) {
        let _full = to.try_append(name.clone(), value.clone());
    }
}

/// A digest of a secret: the first 128 bits of its SHA-256.
fn digest(value: &HeaderValue) -> String {
    use fmt::Write;
    let mut text = String::new();
    for byte in Sha256::digest(value.as_bytes()).iter().take(16) {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Bytes as text, one character each.
fn latin1(value: &HeaderValue) -> String {
    value.as_bytes().iter().copied().map(char::from).collect()
}

fn from_latin1(text: &str) -> Option<HeaderValue> {
    let bytes: Option<Vec<u8>> = text
        .chars()
        .map(|character| u8::try_from(u32::from(character)).ok())
        .collect();
    HeaderValue::from_bytes(&bytes?).ok()
}
