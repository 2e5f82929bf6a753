//! What is to be purged, as a request says it: in JSON, or by the method PURGE as plugins
//! for Varnish and nginx send it. Pure.

use super::answer::Refusal;
use crate::cell::transition::Purge;
use crate::config::{Config, Origin};
use crate::purges::{Prefix, Scope, Tag};
use crate::semantics::canonical_host;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, Uri, request};
use serde_json::{Map, Value};

/// Most URLs, prefixes and tags of one order.
pub(super) const TARGETS_MAX: usize = 256;

/// By which plugins say that the target is a pattern.
const PURGE_METHOD: HeaderName = HeaderName::from_static("x-purge-method");

/// By which Fastly's clients ask for a soft purge, and others of ours for a hard one.
const PURGE_MODE: HeaderName = HeaderName::from_static("x-purge-mode");

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What an order may have.
const KEYS: &str = "url, urls, prefix, prefixes, tag, tags, all and mode";

/// What is to be purged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// A URL for each host that has the path.
    pub(super) urls: Vec<Uri>,
    /// How many URLs were named.
    pub(super) named_urls: usize,
    pub(super) scopes: Vec<Scope>,
    pub(super) purge: Purge,
}

/// By which names the site is known.
#[derive(Clone, Debug)]
pub(super) struct Site<'a> {
    config: &'a Config,
    /// Where keys have no hosts: those that the request and the origin name.
    names: Vec<String>,
}

impl<'a> Site<'a> {
    /// The site that a request of the operator is for.
    pub(super) fn of(parts: &request::Parts, config: &'a Config, origin: &Origin) -> Self {
        let headers = &parts.headers;
        let named = |name: &HeaderName| {
            let values = headers.get_all(name).iter();
            let texts = values.filter_map(|value| value.to_str().ok());
            texts.flat_map(|text| text.split(',').map(|host| host.trim().to_owned()))
        };
        let authority = parts.uri.authority().map(ToString::to_string);
        let names = authority
            .into_iter()
            .chain(named(&HOST))
            .chain(named(&FORWARDED_HOST))
            .chain([origin.authority.as_str().to_owned()])
            .map(|host| without_port(&host).to_ascii_lowercase())
            .collect();
        Site { config, names }
    }

    /// The site, where there is no request.
    pub(super) fn without_request(config: &'a Config, origin: &Origin) -> Self {
        let names = vec![without_port(origin.authority.as_str()).to_ascii_lowercase()];
        Site { config, names }
    }

    /// The hosts in keys that a URL's host means; a single none where keys have none.
    fn hosts(&self, named: Option<(&str, &str)>) -> Result<Vec<Option<String>>, Refusal> {
        let own = &self.config.key.hosts;
        match (named, own.is_empty()) {
            (None, true) => Ok(vec![None]),
            (None, false) => Ok(own.iter().cloned().map(Some).collect()),
            (Some((scheme, host)), false) => {
                let canonical = canonical_host(scheme, host);
                match own.contains(&canonical) {
                    true => Ok(vec![Some(canonical)]),
                    false => Err(Refusal::other_site(host)),
                }
            }
            (Some((_, host)), true) => {
                let name = without_port(host).to_ascii_lowercase();
                match self.names.contains(&name) {
                    true => Ok(vec![None]),
                    false => Err(Refusal::other_site(host)),
                }
            }
        }
    }

    /// The URLs that a text names.
    pub(super) fn urls(&self, text: &str) -> Result<Vec<Uri>, Refusal> {
        let (host, path) = split(text)?;
        let target: PathAndQuery = path
            .parse()
            .ok()
            .filter(|_| !path.contains('#'))
            .ok_or_else(|| Refusal::bad(format!("{text:?} is not a URL"), URL_REMEDY))?;
        let of_host = |host: Option<String>| {
            let mut parts = http::uri::Parts::default();
            parts.path_and_query = Some(target.clone());
            if let Some(host) = host {
                let authority: Authority = host.parse().ok()?;
                (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(authority));
            }
            Uri::from_parts(parts).ok()
        };
        let hosts = self.hosts(host)?;
        let urls: Option<Vec<Uri>> = hosts.into_iter().map(of_host).collect();
        urls.ok_or_else(|| Refusal::bad(format!("{text:?} is not a URL"), URL_REMEDY))
    }

    /// The prefixes that a text names.
    fn prefixes(&self, text: &str) -> Result<Vec<Scope>, Refusal> {
        let (host, path) = split(text)?;
        let hosts = match host {
            // One for all hosts.
            None => vec![None],
            Some(host) => self.hosts(Some(host))?,
        };
        let of_host = |host: Option<String>| {
            Prefix::parse(host, path, &self.config.key)
                .map(Scope::Prefix)
                .map_err(|problem| {
                    Refusal::bad(format!("{text:?} is not a prefix"), problem.to_string())
                })
        };
        hosts.into_iter().map(of_host).collect()
    }
}

const URL_REMEDY: &str =
    "write a path as \"/page?a=b\", or a URL that begins with http:// or https://";

/// The scheme and the host of a URL.
type SchemeAndHost<'a> = (&'a str, &'a str);

/// The scheme and host of a URL, if it has one, and its path and query.
fn split(text: &str) -> Result<(Option<SchemeAndHost<'_>>, &str), Refusal> {
    if text.starts_with('/') && !text.starts_with("//") {
        return Ok((None, text));
    }
    let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
    let scheme = ["http", "https"]
        .into_iter()
        .find(|scheme| lower.starts_with(&format!("{scheme}://")));
    let Some(scheme) = scheme else {
        return Err(Refusal::bad(format!("{text:?} is not a URL"), URL_REMEDY));
    };
    let rest = text.get(scheme.len() + 3..).unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if host.is_empty() || host.contains('@') {
        return Err(Refusal::bad(format!("{text:?} has no host"), URL_REMEDY));
    }
    match path {
        "" => Ok((Some((scheme, host)), "/")),
        path if path.starts_with('/') => Ok((Some((scheme, host)), path)),
        _ => Err(Refusal::bad(format!("{text:?} has no path"), URL_REMEDY)),
    }
}

/// A host without its port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

impl Order {
    /// An order in JSON: an object with at least one of the keys `url`, `urls`, `prefix`,
    /// `prefixes`, `tag`, `tags` and `all`, and perhaps `mode`, `"soft"` or `"hard"`.
    pub(super) fn from_json(content: &[u8], site: &Site<'_>) -> Result<Self, Refusal> {
        let object: Map<String, Value> = serde_json::from_slice(content).map_err(|error| {
            Refusal::bad(
                format!("the content is not a JSON object: {error}"),
                "write for instance {\"url\":\"/page\"}, {\"prefix\":\"/products/\"}, \
                 {\"tag\":\"news\"} or {\"all\":true}",
            )
        })?;
        let mut order = Order::empty(Purge::Soft);
        for (key, value) in &object {
            match key.as_str() {
                "url" | "urls" => {
                    for text in texts(key, value)? {
                        order.add_url(text, site)?;
                    }
                }
                "prefix" | "prefixes" => {
                    for text in texts(key, value)? {
                        order.scopes.extend(site.prefixes(text)?);
                    }
                }
                "tag" | "tags" => {
                    for text in texts(key, value)? {
                        order.add_tag(text)?;
                    }
                }
                "all" => match value.as_bool() {
                    Some(true) => order.scopes.push(Scope::Everything),
                    Some(false) | None => {
                        return Err(Refusal::bad(
                            "\"all\" is true or left out",
                            "write {\"all\":true}",
                        ));
                    }
                },
                "mode" => order.purge = mode(value.as_str().unwrap_or_default())?,
                other => {
                    return Err(Refusal::bad(
                        format!("{other:?} is not a key of a purge; nothing was purged"),
                        format!("there are {KEYS}"),
                    ));
                }
            }
        }
        order.checked()
    }

    /// An order by the method PURGE: of the request's own URL, of all that begin so
    /// (`X-Purge-Method: prefix` or `regex`, or a `*` at the end), or of the tags in
    /// `Surrogate-Key`.
    pub(super) fn from_request(parts: &request::Parts, site: &Site<'_>) -> Result<Self, Refusal> {
        let purge = match field(&parts.headers, &PURGE_MODE) {
            Some(text) => mode(text)?,
            None => Purge::Soft,
        };
        let mut order = Order::empty(purge);
        if let Some(names) = field(&parts.headers, &SURROGATE_KEY) {
            for name in names.split([' ', ',']).filter(|name| !name.is_empty()) {
                order.add_tag(name)?;
            }
            return order.checked();
        }
        let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let host = site.config.key.hosts.first().and_then(|_| {
            let authority = parts.uri.authority().map(Authority::as_str);
            authority.or_else(|| field(&parts.headers, &HOST))
        });
        let url = |target: &str| match host {
            Some(host) => format!("http://{host}{target}"),
            None => target.to_owned(),
        };
        let is_pattern = match field(&parts.headers, &PURGE_METHOD) {
            None | Some("default" | "exact" | "single") => target.ends_with('*'),
            Some("prefix" | "regex" | "wildcard" | "regexp") => true,
            Some(other) => {
                return Err(Refusal::bad(
                    format!("X-Purge-Method {other:?} is not known; nothing was purged"),
                    "write prefix, or leave it out",
                ));
            }
        };
        match is_pattern {
            true => {
                let prefix = target.strip_suffix(".*").unwrap_or(target);
                order.scopes.extend(site.prefixes(&url(prefix))?);
            }
            false => order.add_url(&url(target), site)?,
        }
        order.checked()
    }

    fn empty(purge: Purge) -> Self {
        Order {
            urls: Vec::new(),
            named_urls: 0,
            scopes: Vec::new(),
            purge,
        }
    }

    fn add_url(&mut self, text: &str, site: &Site<'_>) -> Result<(), Refusal> {
        if text.ends_with('*') {
            return Err(Refusal::bad(
                format!("{text:?} is a pattern; nothing was purged"),
                "write it without the * as \"prefix\"",
            ));
        }
        self.urls.extend(site.urls(text)?);
        self.named_urls = self.named_urls.saturating_add(1);
        Ok(())
    }

    fn add_tag(&mut self, name: &str) -> Result<(), Refusal> {
        let tag = Tag::named(name).ok_or_else(|| {
            Refusal::bad(
                format!("{name:?} is not a tag; nothing was purged"),
                "a tag has 1 to 1024 characters, and no spaces or commas",
            )
        })?;
        self.scopes.push(Scope::Tag(tag));
        Ok(())
    }

    fn checked(self) -> Result<Self, Refusal> {
        let targets = self.named_urls.saturating_add(self.scopes.len());
        match targets {
            0 => Err(Refusal::bad(
                "nothing is named to be purged",
                "write for instance {\"url\":\"/page\"}, or {\"all\":true} for everything",
            )),
            1..=TARGETS_MAX => Ok(self),
            _ => Err(Refusal::bad(
                format!("{targets} URLs, prefixes and tags are named; nothing was purged"),
                format!("name at most {TARGETS_MAX} in one request, or a prefix of them"),
            )),
        }
    }
}

/// The one value of a field.
fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then_some(value)
}

/// A text, or a list of texts.
fn texts<'a>(key: &str, value: &'a Value) -> Result<Vec<&'a str>, Refusal> {
    let wrong = || {
        Refusal::bad(
            format!("{key:?} is not a text or a list of texts; nothing was purged"),
            format!("write for instance {{\"{key}\":\"/page\"}}"),
        )
    };
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) if items.len() > TARGETS_MAX => Err(Refusal::bad(
            format!("{key:?} has {} items; nothing was purged", items.len()),
            format!("name at most {TARGETS_MAX} in one request, or a prefix of them"),
        )),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().ok_or_else(wrong))
            .collect(),
        _ => Err(wrong()),
    }
}

fn mode(text: &str) -> Result<Purge, Refusal> {
    match text {
        "soft" => Ok(Purge::Soft),
        "hard" => Ok(Purge::Hard),
        "invalidate" => Ok(Purge::Invalidate),
        _ => Err(Refusal::bad(
            format!("the mode {text:?} is not known; nothing was purged"),
            "write soft (served as stale while it is refreshed), invalidate (not served before \
             the origin was asked) or hard (forgotten)",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::Request;

    fn order(config: &str, content: &str) -> Result<Order, (u16, String)> {
        let config = Config::parse(config).unwrap();
        let request = Request::post("/.leeward/purge").header("host", "shop.example:8080");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let origin = Origin::parse("http://10.0.0.5:8080").unwrap();
        let site = Site::of(&parts, &config, &origin);
        Order::from_json(content.as_bytes(), &site).map_err(told)
    }

    fn told(refused: Refusal) -> (u16, String) {
        let (status, error) = refused.told();
        (status, error.to_owned())
    }

    fn urls(order: &Order) -> Vec<String> {
        order.urls.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_order_names_urls_prefixes_and_tags() {
        let found = order(
            "",
            r#"{"url":"/a?b=c","urls":["https://Shop.example/d","http://10.0.0.5:8080/"],
                "prefix":"/e/*","tags":["f","g"],"mode":"hard"}"#,
        )
        .unwrap();
        assert_eq!(urls(&found), ["/a?b=c", "/d", "/"]);
        assert_eq!(found.named_urls, 3);
        assert_eq!(found.scopes.len(), 3);
        assert_eq!(found.purge, Purge::Hard);
        let found = order("", r#"{"all":true}"#).unwrap();
        assert_eq!(found.scopes, [Scope::Everything]);
        assert_eq!(found.purge, Purge::Soft);
    }

    #[test]
    fn a_path_is_of_every_host_where_keys_have_hosts() {
        let config = r#"key.hosts = ["a.example", "b.example"]"#;
        let found = order(config, r#"{"url":"/x"}"#).unwrap();
        assert_eq!(urls(&found), ["http://a.example/x", "http://b.example/x"]);
        let found = order(config, r#"{"url":"https://B.example:443/x"}"#).unwrap();
        assert_eq!(urls(&found), ["http://b.example/x"]);
        let found = order(config, r#"{"prefix":"/x"}"#).unwrap();
        assert_eq!(found.scopes.len(), 1);
        let (status, _) = order(config, r#"{"url":"http://shop.example/x"}"#).unwrap_err();
        assert_eq!(status, 422);
    }

    #[test]
    fn a_wrong_order_purges_nothing_and_says_what_to_write() {
        let many = format!(r#"{{"urls":[{}"/a"]}}"#, r#""/a","#.repeat(TARGETS_MAX));
        let both = format!(
            r#"{{"urls":[{}"/a"],"tags":["b"]}}"#,
            r#""/a","#.repeat(TARGETS_MAX - 1)
        );
        for (content, status) in [
            ("", 400),
            ("url=/a", 400),
            ("[]", 400),
            ("{}", 400),
            (r#"{"mode":"hard"}"#, 400),
            (r#"{"url":"/a","mode":"gentle"}"#, 400),
            (r#"{"url":"/a","mode":1}"#, 400),
            (r#"{"uri":"/a"}"#, 400),
            (r#"{"url":"a"}"#, 400),
            (r#"{"url":""}"#, 400),
            (r#"{"url":"//shop.example/a"}"#, 400),
            (r#"{"url":"ftp://shop.example/a"}"#, 400),
            (r#"{"url":"http:///a"}"#, 400),
            (r#"{"url":"http://user@shop.example/a"}"#, 400),
            (r#"{"url":"/a b"}"#, 400),
            (r#"{"url":"/a*"}"#, 400),
            (r#"{"url":7}"#, 400),
            (r#"{"urls":["/a",7]}"#, 400),
            (r#"{"url":"http://other.example/a"}"#, 422),
            (r#"{"prefix":"products/"}"#, 400),
            (r#"{"prefix":"*"}"#, 400),
            (r#"{"prefix":"http://other.example/"}"#, 422),
            (r#"{"tag":"a b"}"#, 400),
            (r#"{"tag":""}"#, 400),
            (r#"{"all":false}"#, 400),
            (r#"{"all":"yes"}"#, 400),
            (&many, 400),
            (&both, 400),
        ] {
            let refused = order("", content);
            assert_eq!(
                refused.map_err(|(status, _)| status),
                Err(status),
                "{content}"
            );
        }
    }

    #[test]
    fn plugins_purge_by_the_method() {
        let scopes = |fields: &[(&str, &str)], path: &str| {
            let mut request = Request::builder().method("PURGE").uri(path);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let config = Config::default();
            let origin = Origin::parse("http://10.0.0.5:8080").unwrap();
            let site = Site::of(&parts, &config, &origin);
            let order = Order::from_request(&parts, &site).map_err(told);
            order.map(|order| (urls(&order), order.scopes, order.purge))
        };
        let prefix =
            |text: &str| Scope::Prefix(Prefix::parse(None, text, &Config::default().key).unwrap());
        let (url, soft) = (vec!["/a?b".to_owned()], Purge::Soft);
        assert_eq!(scopes(&[], "/a?b"), Ok((url.clone(), vec![], soft)));
        let default = [("x-purge-method", "default")];
        assert_eq!(scopes(&default, "/a?b"), Ok((url, vec![], soft)));
        for (fields, path, expected) in [
            (&[][..], "/a/*", "/a/"),
            (&[("x-purge-method", "regex")], "/.*", "/"),
            (&[("x-purge-method", "prefix")], "/a", "/a"),
        ] {
            let found = scopes(fields, path);
            assert_eq!(found, Ok((vec![], vec![prefix(expected)], soft)), "{path}");
        }
        let tags = [("surrogate-key", "a b"), ("x-purge-mode", "hard")];
        let (urls, of_tags, purge) = scopes(&tags, "/").unwrap();
        assert!(urls.is_empty());
        assert_eq!((of_tags.len(), purge), (2, Purge::Hard));
        for fields in [[("x-purge-method", "ban")], [("x-purge-mode", "x")]] {
            assert!(scopes(&fields, "/").is_err(), "{fields:?}");
        }
    }
}
