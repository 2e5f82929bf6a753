//! The origin of the hostile tests. Its answer depends on everything that it receives,
//! whatever it says about caching.
//!
//! The body of a page names the method, the target and every field of the request,
//! except for conditions, which depend on what the cache has, and for the address that
//! the shield itself adds to a request that it passes. So two answers are equal only if
//! the requests were.

use http::{Method, StatusCode};
use leeward_tests::{Answer, Seen};

/// Most bytes of fields in a request; the origin answers 400 to more, as IIS does.
const FIELDS_MAX: usize = 16_000;

/// Most bytes of a request's target; the origin answers 404 to more.
const TARGET_MAX: usize = 2_048;

/// Seconds that an answer with `max-age` is fresh.
const LIFETIME: u32 = 600;

/// Seconds that a silent answer is fresh, by the settings.
const DEFAULT_LIFETIME: u32 = 60;

/// The host of the site.
const SITE: &str = "shop.example";

/// The validator of every page that has one. Pages that were made for different
/// visitors have the same, as with IIS.
const ETAG: &str = "\"v1\"";

/// What the origin says about caching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Says {
    /// Nothing.
    Silent,
    /// `max-age`.
    MaxAge,
    /// `public` and `max-age`, with a `Set-Cookie` that no other answer has, also on a
    /// 304.
    Public,
    /// `no-cache`, with an `ETag`.
    NoCache,
    /// `private`.
    Private,
}

impl Says {
    /// As a part of a path.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Says::Silent => "silent",
            Says::MaxAge => "max-age",
            Says::Public => "public",
            Says::NoCache => "no-cache",
            Says::Private => "private",
        }
    }

    /// Whether an entry can be fresh.
    pub(crate) fn is_fresh(self) -> bool {
        matches!(self, Says::Silent | Says::MaxAge | Says::Public)
    }

    /// What the path of a request says; see [`path`].
    fn of(target: &str) -> Self {
        let all = [Says::MaxAge, Says::Public, Says::NoCache, Says::Private];
        let named = all
            .into_iter()
            .find(|says| target.contains(&format!("-{}/", says.name())));
        named.unwrap_or(Says::Silent)
    }
}

/// A path whose pages say `says`. With `expires`, the first answer is fresh for one
/// second.
pub(crate) fn path(says: Says, state: &str, expires: bool, row: usize) -> String {
    let begin = if expires { "expires-" } else { "" };
    format!("/{begin}{state}-{}/row{row:05}", says.name())
}

/// The answer to a request.
pub(crate) fn page(seen: &Seen) -> Answer {
    let answer = match refusal(seen) {
        Some(refusal) if refusal.0 == StatusCode::INTERNAL_SERVER_ERROR => {
            return Answer::fixed("a failure").status(refusal.0);
        }
        Some((status, location)) => {
            let answer = Answer::fixed(format!("refused: {status}")).status(status);
            match location {
                Some(location) => answer.header("location", &location),
                None => answer,
            }
        }
        None => told(seen),
    };
    let says = Says::of(&seen.target);
    let answer = match says {
        Says::Silent => answer,
        Says::MaxAge => answer.max_age(LIFETIME),
        Says::Public => answer
            .cache_control(&format!("public, max-age={LIFETIME}"))
            .header("set-cookie", &cookie(seen)),
        Says::NoCache => answer.cache_control("no-cache"),
        Says::Private => answer.cache_control("private"),
    };
    if seen.target.contains("expires-") && seen.number == 1 {
        // Stale in a second. Its `Cache-Control` is that of the next answer.
        let lifetime = match says {
            Says::Silent => DEFAULT_LIFETIME,
            _ => LIFETIME,
        };
        return answer.header("age", &(lifetime - 1).to_string());
    }
    answer
}

/// A `Set-Cookie` that no other answer has.
fn cookie(seen: &Seen) -> String {
    let path = seen.target.split('?').next().unwrap_or_default();
    format!(
        "session={}-{}; HttpOnly",
        path.replace('/', "."),
        seen.number
    )
}

/// The status of an answer that is not a page and, for a redirect, where it leads;
/// `None` if the request gets a page.
fn refusal(seen: &Seen) -> Option<(StatusCode, Option<String>)> {
    let has = |name: &str| seen.headers.contains_key(name);
    let holds = |name: &str, text: &str| {
        seen.header(name)
            .is_some_and(|value| value.to_ascii_lowercase().contains(text))
    };
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let fields: usize = seen
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let just = |status| Some((status, None));

    if fields > FIELDS_MAX {
        return just(StatusCode::BAD_REQUEST);
    }
    if seen.target.len() > TARGET_MAX || path.contains("//") {
        return just(StatusCode::NOT_FOUND);
    }
    if seen.target.contains('<') || seen.target.to_ascii_lowercase().contains("%3c") {
        return just(StatusCode::INTERNAL_SERVER_ERROR);
    }
    if has("x-odd") {
        return just(StatusCode::INTERNAL_SERVER_ERROR);
    }
    if ["x-original-url", "x-rewrite-url"]
        .iter()
        .any(|name| has(name))
    {
        return just(StatusCode::NOT_FOUND);
    }
    let overrides = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ];
    if overrides.iter().any(|name| has(name)) {
        return just(StatusCode::METHOD_NOT_ALLOWED);
    }
    if seen.method == Method::OPTIONS {
        return just(StatusCode::NO_CONTENT);
    }
    if seen.method == Method::POST || seen.method == Method::PATCH {
        return just(StatusCode::FORBIDDEN);
    }
    if seen.method != Method::GET && seen.method != Method::HEAD {
        return just(StatusCode::METHOD_NOT_ALLOWED);
    }
    let agent_is_banned = holds("user-agent", "sqlmap");
    let comes_from_elsewhere = has("referer") && !holds("referer", SITE);
    if agent_is_banned || comes_from_elsewhere || holds("sec-fetch-site", "cross-site") {
        return just(StatusCode::FORBIDDEN);
    }
    if has("expect") {
        return just(StatusCode::EXPECTATION_FAILED);
    }
    if has("accept")
        && !["*/*", "text/", "json", "image/"]
            .iter()
            .any(|part| holds("accept", part))
    {
        return just(StatusCode::NOT_ACCEPTABLE);
    }
    if has("content-type") || has("content-encoding") {
        return just(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    if holds("if-match", "other") || has("if-unmodified-since") {
        return just(StatusCode::PRECONDITION_FAILED);
    }
    if has("range") {
        return just(StatusCode::RANGE_NOT_SATISFIABLE);
    }
    if ["ntlm", "negotiate", "basic"]
        .iter()
        .any(|scheme| holds("authorization", scheme))
    {
        return just(StatusCode::UNAUTHORIZED);
    }
    if holds("prefer", "respond-async") {
        return just(StatusCode::ACCEPTED);
    }
    if has("upgrade-insecure-requests") {
        let secure = format!("https://{SITE}{}", seen.target);
        return Some((StatusCode::TEMPORARY_REDIRECT, Some(secure)));
    }
    let clean = clean(query);
    if clean != query {
        let to = match clean.as_str() {
            "" => path.to_owned(),
            clean => format!("{path}?{clean}"),
        };
        return Some((StatusCode::FOUND, Some(to)));
    }
    None
}

/// The query that the origin redirects to: without what campaigns add, sorted.
fn clean(query: &str) -> String {
    let mut parts: Vec<_> = query
        .split('&')
        .filter(|part| !part.starts_with("utm_") && !part.starts_with("fbclid"))
        .collect();
    parts.sort_by_key(|part| part.split('=').next().unwrap_or_default().to_owned());
    parts.join("&")
}

/// The page that tells what the request was.
fn told(seen: &Seen) -> Answer {
    let mut names: Vec<_> = seen.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    let mut body = format!("{} {}\n", seen.method, seen.target);
    for name in names {
        if !["if-none-match", "if-modified-since"].contains(&name) {
            let value = seen.header(name).unwrap_or_default();
            // What the shield adds: its own agent to a fill, these to a passed request.
            let value = match name {
                "x-forwarded-for" => value.trim_end_matches("127.0.0.1").trim_end_matches(", "),
                "x-forwarded-host" if value == SITE => "",
                _ => &value,
            };
            let own_agent = name == "user-agent" && value.starts_with("leeward/");
            // A request without the field says the same (RFC 9110 section 12.5.1).
            let anything = name == "accept" && value == "*/*";
            if own_agent || anything || (value.is_empty() && name.starts_with("x-forwarded-")) {
                continue;
            }
            body.push_str(&format!("{name}: {value}\n"));
        }
    }
    body.push_str(&String::from_utf8_lossy(&seen.content));
    let zipped = seen
        .header("accept-encoding")
        .is_some_and(|value| value.contains("gzip") && !value.contains("gzip;q=0"));
    let answer = if zipped {
        Answer::fixed(format!("gzip of {body}")).header("content-encoding", "gzip")
    } else {
        Answer::fixed(body)
    };
    let answer = answer.header("content-type", "text/html");
    match Says::of(&seen.target) {
        Says::NoCache | Says::Public => answer.etag(ETAG),
        Says::Silent | Says::MaxAge | Says::Private => answer,
    }
}
