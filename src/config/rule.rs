//! Rules: settings for the requests of some paths.

use super::contradictions::Further;
use super::options::YEAR;
use super::path::PathPattern;
use super::problem::{Fault, Problems};
use super::settings::{Places, Reader, Scope};
use super::suggest::{nearest, one_of};
use super::value::{Kind, LIST_MAX, Value, integer, type_of};
use super::{Config, Invalidation, contradictions, purging};
use crate::question::policy::{Cookies, FAILURE_BODY_MAX, Failure};
use crate::semantics::{IgnoreOrigin, RuledWindows, is_safe};
use http::Method;
use std::rc::Rc;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most rules.
pub const RULES_MAX: usize = 256;

/// Settings for the requests of some paths.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which requests the rule is for.
    pub matches: Match,
    /// All settings for these requests. It has no rules of its own.
    pub config: Rc<Config>,
}

/// Which requests a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The path. In lower case if `key.path.lowercase` is set.
    pub path: PathPattern,
    /// The method; `None` is every method, and GET includes HEAD.
    pub method: Option<Method>,
}

impl Match {
    /// Whether the rule is for a request. The path is without the query, in
    /// its normal form, and in lower case if `key.path.lowercase` is set.
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        self.has_method(Some(method)) && self.path.matches(path)
    }

    /// Whether the rule is for requests of `method`; of every method, if none
    /// is given.
    fn has_method(&self, method: Option<&Method>) -> bool {
        match &self.method {
            None => true,
            Some(own) => {
                method == Some(own) || (*own == Method::GET && method == Some(&Method::HEAD))
            }
        }
    }

    /// Whether the rule is for all requests of `other`, and perhaps for more.
    fn covers(&self, other: &Match) -> bool {
        self.path.covers(&other.path) && self.has_method(other.method.as_ref())
    }

    /// Whether the rule is for all requests of `other`, which has the same
    /// path.
    fn hides(&self, other: &Match) -> bool {
        self.path == other.path && self.has_method(other.method.as_ref())
    }
}

const MATCH_KEYS: &[&str] = &["path", "method"];

const FAILURE_KEYS: &[&str] = &["status", "body_contains"];

const IGNORE_ORIGIN: Kind = Kind::Choices(&[
    "private",
    "no-cache",
    "no-store",
    "must-revalidate",
    "set-cookie",
]);

const TTL: Kind = Kind::Duration {
    min: Duration::ZERO,
    max: Duration::from_secs(YEAR),
};

/// The smallest and largest status that a response can have at its end.
const STATUSES: std::ops::RangeInclusive<u64> = 200..=599;

/// The methods that are compared with a name that may be misspelt.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What rules start from.
pub(super) struct Base<'a> {
    /// The settings outside rules.
    pub(super) config: &'a Config,
    /// Whether they are valid.
    pub(super) is_valid: bool,
    /// What a platform adds.
    pub(super) platform: Further<'a>,
}

/// Reads all rules.
pub(super) fn rules(
    value: &Spanned<DeValue<'_>>,
    base: &Base<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Rule> {
    let at = value.span().start;
    let Some(array) = value.get_ref().as_array() else {
        let message = "rules are a list; write [[rule]] above the keys of each, with two brackets";
        problems.add(at, "rule", message.to_owned());
        return Vec::new();
    };
    if array.len() > RULES_MAX {
        let message = format!("there are {} rules; write at most {RULES_MAX}", array.len());
        problems.add(at, "rule", message);
        return Vec::new();
    }
    let mut rules: Vec<(Rule, usize)> = Vec::new();
    for item in array.iter() {
        let Some(table) = item.get_ref().as_table() else {
            let message = format!(
                "is a table of settings, not {}; write for instance {{ match = {{ path = \
                 \"/api/*\" }}, ttl = \"5s\", ignore_origin = [\"private\"] }}",
                type_of(item.get_ref())
            );
            problems.add(item.span().start, "rule", message);
            continue;
        };
        let found = rule(table, item.span().start, base, problems);
        let Some((rule, at)) = found else {
            continue;
        };
        let hiding = rules
            .iter()
            .find(|(earlier, _)| earlier.matches.hides(&rule.matches));
        if let Some((_, earlier)) = hiding {
            let (line, column) = problems.place(*earlier);
            let message = format!(
                "never applies, because the rule at {line}:{column} matches the same requests and \
                 the first match wins; merge the two rules, or remove one"
            );
            problems.add(at, "rule.match", message);
        } else if let Some((covering, earlier)) = rules
            .iter()
            .find(|(earlier, _)| earlier.matches.covers(&rule.matches))
        {
            let (line, column) = problems.place(*earlier);
            let message = format!(
                "never applies, because {:?} at {line}:{column} matches all of its requests and \
                 the first match wins; write this rule above that one",
                covering.matches.path.as_str()
            );
            problems.warn(at, "rule.match", message);
        }
        rules.push((rule, at));
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// Reads one rule: it, and where its match is. Nothing without a match.
fn rule(
    table: &DeTable<'_>,
    at: usize,
    base: &Base<'_>,
    problems: &mut Problems<'_>,
) -> Option<(Rule, usize)> {
    let before = problems.len();
    let mut config = base.config.clone();
    let mut places = Places::new();
    let mut reader = Reader {
        scope: Scope::Rule,
        config: &mut config,
        places: &mut places,
        problems,
    };
    let mut matches = None;
    let mut has_match = false;
    let mut written = Written::default();
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "match" => {
                has_match = true;
                let place = value.span().start;
                matches = reader.matches(value).map(|matches| (matches, place));
            }
            name => reader.rule_key(name, key.span().start, value, &mut written),
        }
    }
    if !has_match {
        let message = "has no match; write for instance match = { path = \"/api/*\" }";
        problems.add(at, "rule", message.to_owned());
    }
    config.policy.ruled_windows = RuledWindows {
        stale_while_revalidate: places.contains_key("freshness.stale_while_revalidate"),
        stale_if_error: places.contains_key("freshness.stale_if_error"),
    };
    // A wrong setting has its default here, which may contradict others.
    let is_valid = problems.len() == before;
    let matched = matches.as_ref().map(|(matches, _)| matches);
    for (name, at, message) in of_keys(&config, &written, &places, matched) {
        // What is wrong anyway may be what would help.
        if is_valid || name != "ttl" {
            problems.add(at, &format!("rule.{name}"), message.to_owned());
        }
    }
    if let Some((at, message)) = doubtful(&config, &written, &places, base.config, matched) {
        problems.warn(at, "rule.ttl", message.to_owned());
    }
    if is_valid && base.is_valid {
        if let Some(at) = written.ttl {
            places.insert("ttl", at);
        }
        contradictions::of(&config, base.platform, &places, Scope::Rule, problems);
    }
    let (matches, at) = matches?;
    let rule = Rule {
        matches,
        config: Rc::new(config),
    };
    Some((rule, at))
}

/// Where keys of a rule stand that are not options: the offsets of their values.
#[derive(Debug, Default)]
struct Written {
    ttl: Option<usize>,
    /// If it is true.
    pass: Option<usize>,
    invalidate: Option<usize>,
    invalidates: Option<usize>,
}

/// What keys of a rule contradict: the key, where it stands, and what to do instead.
fn of_keys(
    config: &Config,
    written: &Written,
    places: &Places,
    matches: Option<&Match>,
) -> Vec<(&'static str, usize, &'static str)> {
    let mut found = Vec::new();
    let stores_private = config.pass || config.policy.ignore_origin.private;
    if let Some(at) = written.ttl.filter(|_| !stores_private) {
        let message = "a private answer would still not be stored; add \"private\" to \
                       ignore_origin, or leave ttl out and set freshness.default_ttl, which \
                       concerns silent answers";
        found.push(("ttl", at, message));
    }
    if let (Some(at), Some(_)) = (written.pass, written.ttl) {
        let message = "nothing is stored for requests that are passed; remove pass or ttl";
        found.push(("pass", at, message));
    }
    if let Some(at) = written.pass
        && places.contains_key("browser_ttl")
    {
        let message = "answers that are passed are handed on as the origin made them; remove pass \
                       or browser_ttl";
        found.push(("pass", at, message));
    }
    let method = matches.and_then(|matches| matches.method.as_ref());
    if let Some(at) = written.invalidate
        && method.is_some_and(is_safe)
    {
        let message = "requests of this method change nothing; remove it, or match the method \
                       that does, for instance method = \"POST\"";
        found.push(("invalidate", at, message));
    }
    if let Some(at) = written.invalidates
        && method.is_some_and(is_safe)
    {
        let message = "requests of this method change nothing; remove it, or match the method \
                       that does, for instance method = \"POST\"";
        found.push(("invalidates", at, message));
    }
    if let (Some(at), true, Invalidation::Nothing) = (
        written.invalidates,
        written.invalidate.is_some(),
        config.invalidate,
    ) {
        let message = "invalidate = false says that nothing changes; remove one of the two";
        found.push(("invalidates", at, message));
    }
    found
}

/// What a rule says in vain.
fn doubtful(
    config: &Config,
    written: &Written,
    places: &Places,
    base: &Config,
    matches: Option<&Match>,
) -> Option<(usize, &'static str)> {
    let at = written.ttl?;
    let method = matches.and_then(|matches| matches.method.as_ref());
    if method.is_some_and(|method| !matches!(*method, Method::GET | Method::HEAD)) {
        let message = "only answers to GET and HEAD are stored, so it never applies; match \
                       method = \"GET\", or leave the method out";
        return Some((at, message));
    }
    let is_silent =
        !places.contains_key("cookies") && config.request.cookies == base.request.cookies;
    let passes = config.request.cookies == Cookies::Pass && !config.pass;
    (config.policy.ignore_origin.private && is_silent && passes).then_some((
        at,
        "visitors with a session cookie do not get the stored page, because the rule does not say \
         what cookies mean here; write cookies = \"ignore\" if the page is the same for all \
         visitors, or cookies = { key = [\"lang\"] } if a cookie selects it",
    ))
}

fn invalidation(value: &DeValue<'_>) -> Option<Invalidation> {
    match (value.as_bool(), value.as_str()) {
        (Some(true), _) => Some(Invalidation::Invalidate),
        (Some(false), _) => Some(Invalidation::Nothing),
        (None, Some("refresh")) => Some(Invalidation::Refresh),
        (None, _) => None,
    }
}

fn ignore_origin(words: &[&str]) -> IgnoreOrigin {
    IgnoreOrigin {
        private: words.contains(&"private"),
        no_cache: words.contains(&"no-cache"),
        no_store: words.contains(&"no-store"),
        must_revalidate: words.contains(&"must-revalidate"),
        set_cookie: words.contains(&"set-cookie"),
    }
}

impl Reader<'_, '_> {
    /// Reads a key of a rule that is not `match`.
    fn rule_key(
        &mut self,
        name: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
        written: &mut Written,
    ) {
        let place = value.span().start;
        match name {
            "ttl" => {
                written.ttl = Some(place);
                match TTL.check(value) {
                    Ok(Value::Duration(ttl)) => self.config.policy.ttl = Some(ttl),
                    Ok(_) => {}
                    Err(fault) => self.problem(name, place, fault),
                }
            }
            "ignore_origin" => match IGNORE_ORIGIN.check(value) {
                Ok(Value::Choices(words)) => {
                    self.config.policy.ignore_origin = ignore_origin(&words);
                }
                Ok(_) => {}
                Err(fault) => self.problem(name, place, fault),
            },
            "failure" => {
                if let Some(failure) = self.failure(value) {
                    self.config.failure = failure;
                }
            }
            "fallback" => self.fallback(value),
            "pass" => match value.get_ref().as_bool() {
                Some(pass) => {
                    self.config.pass = pass;
                    written.pass = pass.then_some(place);
                }
                None => self.problem(name, place, "write true or false".to_owned()),
            },
            "invalidate" => match invalidation(value.get_ref()) {
                Some(invalidation) => {
                    self.config.invalidate = invalidation;
                    written.invalidate = Some(place);
                }
                None => {
                    let message = "write true, false or \"refresh\"";
                    self.problem(name, place, message.to_owned());
                }
            },
            "tags" => match purging::tags(value) {
                Ok(tags) => self.config.tags = tags,
                Err(fault) => self.problem(name, place, fault),
            },
            "invalidates" => match purging::invalidates(value, &self.config.key) {
                Ok(invalidates) => {
                    self.config.invalidates = invalidates;
                    written.invalidates = Some(place);
                }
                Err(fault) => self.problem(name, place, fault),
            },
            name => self.read(name, at, value),
        }
    }

    /// Reads `match`.
    fn matches(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Match> {
        let at = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            let message = format!(
                "is a table, not {}; write for instance {{ path = \"/api/*\", method = \"GET\" }}",
                type_of(value.get_ref())
            );
            self.problem("match", at, message);
            return None;
        };
        let mut path = None;
        let mut method = None;
        let mut is_complete = true;
        for (key, value) in table {
            let at = value.span().start;
            match key.get_ref().as_ref() {
                "path" => match path_pattern(value.get_ref()) {
                    Ok(mut pattern) => {
                        if self.config.key.lowercase {
                            pattern.lowercase();
                        }
                        path = Some(pattern);
                    }
                    Err(message) => {
                        self.problem("match.path", at, message);
                        is_complete = false;
                    }
                },
                "method" => match read_method(value.get_ref()) {
                    Ok(read) => method = Some(read),
                    Err(message) => {
                        self.problem("match.method", at, message);
                        is_complete = false;
                    }
                },
                other => self.unknown_key("match", other, key.span().start, MATCH_KEYS),
            }
        }
        if path.is_none() && is_complete {
            let message = "has no path; write for instance { path = \"/api/*\" }, or { path = \
                           \"/*\" } for every path";
            self.problem("match", at, message.to_owned());
        }
        path.filter(|_| is_complete)
            .map(|path| Match { path, method })
    }

    /// Reads `failure`.
    fn failure(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Failure> {
        let at = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            let message = format!(
                "is a table, not {}; write for instance {{ status = [404] }}",
                type_of(value.get_ref())
            );
            self.problem("failure", at, message);
            return None;
        };
        let mut failure = Failure::default();
        let mut is_complete = true;
        for (key, value) in table {
            let at = value.span().start;
            match key.get_ref().as_ref() {
                "status" => match statuses(value) {
                    Ok(statuses) => failure.statuses = statuses,
                    Err(fault) => {
                        self.problem("failure.status", at, fault);
                        is_complete = false;
                    }
                },
                "body_contains" => match body_contains(value.get_ref()) {
                    Ok(text) => failure.body_contains = Some(text),
                    Err(message) => {
                        self.problem("failure.body_contains", at, message);
                        is_complete = false;
                    }
                },
                other => {
                    self.unknown_key("failure", other, key.span().start, FAILURE_KEYS);
                    is_complete = false;
                }
            }
        }
        if failure == Failure::default() && is_complete {
            let message = "has neither status nor body_contains; write for instance { status = \
                           [404] }, or { body_contains = \"\\\"errors\\\":\" }";
            self.problem("failure", at, message.to_owned());
        }
        Some(failure)
    }
}

fn path_pattern(value: &DeValue<'_>) -> Result<PathPattern, String> {
    match value.as_str() {
        Some(text) => PathPattern::parse(text),
        None => Err(format!(
            "is a text, not {}; write for instance \"/api/*\"",
            type_of(value)
        )),
    }
}

fn read_method(value: &DeValue<'_>) -> Result<Method, String> {
    let text = value.as_str().ok_or_else(|| {
        format!(
            "is a text, not {}; write one method, for instance \"GET\", or leave it out for every \
             method",
            type_of(value)
        )
    })?;
    let upper = text.to_ascii_uppercase();
    let meant = match upper == text {
        true => nearest(text, METHODS.into_iter()).filter(|meant| *meant != text),
        false => Some(upper.as_str()),
    };
    match (meant, Method::from_bytes(text.as_bytes())) {
        (None, Ok(method)) => Ok(method),
        (Some(meant), Ok(_)) => Err(format!("{text:?} is not a method; did you mean {meant:?}?")),
        (_, Err(_)) => Err(format!(
            "{text:?} is not a method; write {}",
            one_of(&METHODS)
        )),
    }
}

fn statuses(value: &Spanned<DeValue<'_>>) -> Result<Vec<u16>, Fault> {
    let wrong = || {
        Fault::from(format!(
            "write a list of statuses from {} to {}, for instance [404, 503]",
            STATUSES.start(),
            STATUSES.end()
        ))
    };
    let items = value.get_ref().as_array().ok_or_else(wrong)?;
    if items.len() > LIST_MAX {
        return Err(format!("has {} items; write at most {LIST_MAX}", items.len()).into());
    }
    items
        .iter()
        .map(|item| {
            integer(item.get_ref())
                .filter(|status| STATUSES.contains(status))
                .and_then(|status| u16::try_from(status).ok())
                .ok_or_else(|| wrong().at(item.span().start))
        })
        .collect()
}

fn body_contains(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.is_empty()).ok_or(
        "write a text that every failure has near its beginning, for instance \"\\\"errors\\\":\"",
    )?;
    if text.len() > FAILURE_BODY_MAX {
        return Err(format!(
            "has {} bytes, but only the first {FAILURE_BODY_MAX} bytes of a body are searched; \
             write a shorter text",
            text.len()
        ));
    }
    Ok(text.to_owned())
}
