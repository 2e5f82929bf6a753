//! What a request is for: the site, or the operator. Pure.

use super::answer::Refusal;
use super::is_get;
use http::Method;

/// The paths of the operator begin so.
pub(super) const ROOT: &str = "/.leeward/";

/// The first segment of these paths.
const NAME: &[u8] = b".leeward";

/// The method of plugins that purge.
const PURGE: &str = "PURGE";

/// How often a path is decoded in search of a disguise.
const DECODINGS_MAX: usize = 4;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Visitors: the shield's.
    Site,
    /// The operator.
    Topic(Topic),
    /// A path of the operator in another spelling: nobody's.
    Disguised,
}

/// What the operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// Whether this node can answer.
    Health,
    /// The same, under the name that orchestrators use.
    Ready,
    /// The beginning of all paths.
    Index,
    /// The page for people. It asks for the token itself.
    Dashboard,
    /// What goes on.
    Status,
    /// The same, for Prometheus.
    Metrics,
    /// What is stored.
    Entries,
    /// What is stored of one URL.
    Entry,
    /// To purge, in JSON.
    Purge,
    /// To purge, by the method PURGE.
    PurgeMethod,
    /// To fetch pages before visitors ask for them.
    Warm,
    /// A path of the operator that does not exist.
    Unknown,
}

/// What a request is for. `path` is as it came.
pub(super) fn of(method: &Method, path: &str, has_token: bool, has_health: bool) -> Route {
    if let Some(name) = path.strip_prefix(ROOT) {
        let topic = topic_of(name);
        let is_open = matches!(topic, Topic::Health | Topic::Ready);
        return match (is_open, has_health, has_token) {
            (true, true, _) => Route::Topic(topic),
            (true, false, _) | (false, _, false) => Route::Site,
            (false, _, true) => Route::Topic(topic),
        };
    }
    if !has_token {
        return Route::Site;
    }
    if is_disguised(path) {
        return Route::Disguised;
    }
    match method.as_str() {
        PURGE => Route::Topic(Topic::PurgeMethod),
        _ => Route::Site,
    }
}

fn topic_of(name: &str) -> Topic {
    match name {
        "health" => Topic::Health,
        "ready" => Topic::Ready,
        "" => Topic::Index,
        "dashboard" => Topic::Dashboard,
        "status" => Topic::Status,
        "metrics" => Topic::Metrics,
        "entries" => Topic::Entries,
        "entry" => Topic::Entry,
        "purge" => Topic::Purge,
        "warm" => Topic::Warm,
        _ => Topic::Unknown,
    }
}

impl Topic {
    /// Whether it is for the operator alone.
    pub(super) fn needs_token(self) -> bool {
        match self {
            Topic::Health | Topic::Ready | Topic::Index | Topic::Dashboard => false,
            Topic::Status
            | Topic::Metrics
            | Topic::Entries
            | Topic::Entry
            | Topic::Purge
            | Topic::PurgeMethod
            | Topic::Warm
            | Topic::Unknown => true,
        }
    }

    /// What is said of a method that it does not have.
    pub(super) fn refuse_method(self, method: &Method) -> Option<Refusal> {
        let (has_method, allowed) = match self {
            Topic::Purge | Topic::Warm => (*method == Method::POST, "POST"),
            Topic::PurgeMethod | Topic::Unknown => (true, ""),
            Topic::Health
            | Topic::Ready
            | Topic::Index
            | Topic::Dashboard
            | Topic::Status
            | Topic::Metrics
            | Topic::Entries
            | Topic::Entry => (is_get(method), "GET, HEAD"),
        };
        (!has_method).then(|| Refusal::method(allowed))
    }
}

/// Whether a path that is none of the operator's would be one for who decodes it, ignores
/// case, or resolves dots and repeated slashes. Such a path is not the admin interface, and
/// it does not reach the origin, whose answer could be taken for one of the admin interface.
fn is_disguised(path: &str) -> bool {
    // Most paths are neither escaped nor like it: nothing is copied for those.
    let mut names = path.as_bytes().windows(NAME.len());
    if !path.contains('%') && !names.any(|name| name.eq_ignore_ascii_case(NAME)) {
        return false;
    }
    let mut text = path.as_bytes().to_vec();
    for _ in 0..DECODINGS_MAX {
        if is_of_operator(&text) {
            return true;
        }
        let decoded = decoded(&text);
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    is_of_operator(&text)
}

fn is_of_operator(path: &[u8]) -> bool {
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| matches!(byte, b'/' | b'\\')) {
        let end = segment.iter().position(|byte| *byte == b';');
        let name = segment
            .get(..end.unwrap_or(segment.len()))
            .unwrap_or(segment);
        match name {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    segments
        .first()
        .is_some_and(|first| first.eq_ignore_ascii_case(NAME))
}

/// The path with its escapes decoded once.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let escape = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, path: &str, has_token: bool) -> Route {
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        of(&method, path, has_token, true)
    }

    #[test]
    fn health_needs_no_token_and_the_rest_exists_with_one() {
        for (path, topic) in [
            ("health", Topic::Health),
            ("ready", Topic::Ready),
            ("status", Topic::Status),
            ("purge", Topic::Purge),
            ("dashboard", Topic::Dashboard),
            ("", Topic::Index),
            ("nothing", Topic::Unknown),
            ("Health", Topic::Unknown),
        ] {
            let path = format!("{ROOT}{path}");
            assert_eq!(route("GET", &path, true), Route::Topic(topic), "{path}");
            let open = matches!(topic, Topic::Health | Topic::Ready);
            let without = if open {
                Route::Topic(topic)
            } else {
                Route::Site
            };
            assert_eq!(route("GET", &path, false), without, "{path}");
        }
        let without_health = of(&Method::GET, "/.leeward/health", true, false);
        assert_eq!(without_health, Route::Site);
    }

    #[test]
    fn no_other_spelling_reaches_the_interface_or_the_origin() {
        for path in [
            "//.leeward/status",
            "/%2eleeward/status",
            "/%2Eleeward/purge",
            "/%252eleeward/status",
            "/.LEEWARD/status",
            "/.Leeward/status",
            "/a/../.leeward/status",
            "/a/%2e%2e/.leeward/status",
            "/./.leeward/status",
            "/.leeward",
            "/.leeward%2fstatus",
            "/.leeward;x/status",
            "/\\.leeward\\status",
            "/%2F.leeward/status",
        ] {
            assert_eq!(route("GET", path, true), Route::Disguised, "{path}");
            assert_eq!(route("GET", path, false), Route::Site, "{path}");
        }
        for path in [
            "/",
            "/leeward/status",
            "/a/.leeward/status",
            "/.leeward.txt",
            "/.well-known/x",
            "/a%20b",
            "/100%",
            "/..%2f",
        ] {
            assert_eq!(route("GET", path, true), Route::Site, "{path}");
        }
    }

    #[test]
    fn the_method_purge_is_the_operators_where_there_is_a_token() {
        assert_eq!(route("PURGE", "/a", true), Route::Topic(Topic::PurgeMethod));
        assert_eq!(route("PURGE", "/a", false), Route::Site);
        assert!(Topic::Purge.refuse_method(&Method::GET).is_some());
        assert!(Topic::Status.refuse_method(&Method::HEAD).is_none());
    }
}
