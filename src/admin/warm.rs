//! Pages that are fetched before visitors ask for them.

use super::Front;
use super::answer::{Refusal, json, refusal};
use super::order::{Site, TARGETS_MAX};
use crate::shield::Answer;
use crate::world::{Body, Platform, event};
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST};
use http::{Request, StatusCode, Uri, request};
use serde::Deserialize;
use serde_json::json;
use std::rc::Rc;

/// What browsers accept for a page that a person opens.
const ACCEPT_PAGE: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// What they accept for what a page consists of.
const ACCEPT_ANY: &str = "*/*";

/// The codings of browsers.
const CODINGS: &str = "gzip, deflate, br, zstd";

/// Most pages that one order fetches: each URL for each of `key.hosts`.
const FETCHES_MAX: usize = 1_024;

/// Most bytes of the query and path of one URL.
const URL_BYTES_MAX: usize = 8 << 10;

/// What is to be fetched.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    urls: Vec<String>,
}

impl<P: Platform> Front<P> {
    /// Fetches pages behind the answer, one after the other, under the budget: as a browser
    /// without cookies would ask for them.
    pub(super) async fn warm(
        self: &Rc<Self>,
        parts: &request::Parts,
        content: &[u8],
    ) -> Answer<P::Body> {
        let site = Site::of(parts, self.shield.config(), self.shield.origin());
        let urls = match wanted(content, &site) {
            Ok(urls) => urls,
            Err(refused) => return refusal(&refused),
        };
        let count = urls.len();
        let front = Rc::clone(self);
        let fetching = async move { front.fetch_all(urls).await };
        self.shield.platform().spawn(fetching);
        json(
            StatusCode::ACCEPTED,
            &json!({
                "warming": count,
                "note": "one after the other, under the budget; the log says when it is done",
            }),
        )
    }

    /// Begins to fetch what the settings name, if this instance has not, and no other has
    /// lately.
    pub(super) fn warm_at_start(self: &Rc<Self>) {
        let config = self.shield.config();
        if config.warm.urls.is_empty() || self.has_begun.replace(true) {
            return;
        }
        let site = Site::without_request(config, self.shield.origin());
        let wanted = config.warm.urls.iter().take(TARGETS_MAX);
        let urls: Vec<Uri> = wanted
            .filter_map(|url| site.urls(url).ok())
            .flatten()
            .take(FETCHES_MAX)
            .collect();
        let front = Rc::clone(self);
        self.shield.platform().spawn(async move {
            let cells = front.shield.cells();
            if cells.takes_turn_to_warm(front.mark).await {
                front.fetch_all(urls).await;
            }
        });
    }

    async fn fetch_all(self: &Rc<Self>, urls: Vec<Uri>) {
        let (count, mut worked) = (urls.len(), 0_usize);
        for url in urls {
            worked = worked.saturating_add(usize::from(self.fetch(&url).await));
        }
        let fields = [("urls", count.into()), ("worked", worked.into())];
        self.shield.platform().log(&event("warm", &fields));
    }

    /// Whether the answer came, and was no error.
    async fn fetch(self: &Rc<Self>, url: &Uri) -> bool {
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let accept = match is_page(url.path()) {
            true => ACCEPT_PAGE,
            false => ACCEPT_ANY,
        };
        let mut request = Request::get(path)
            .header(ACCEPT, accept)
            .header(ACCEPT_ENCODING, CODINGS);
        if let Some(authority) = url.authority() {
            request = request.header(HOST, authority.as_str());
        }
        let Ok(request) = request.body(None) else {
            return false;
        };
        let mut answer = self.shield.handle(request).await;
        while let Some(piece) = answer.body_mut().chunk().await {
            if piece.is_err() {
                return false;
            }
        }
        !answer.status().is_client_error() && !answer.status().is_server_error()
    }
}

fn wanted(content: &[u8], site: &Site<'_>) -> Result<Vec<Uri>, Refusal> {
    const REMEDY: &str = "write for instance {\"urls\":[\"/\",\"/products/\"]}";
    let wanted: Wanted = serde_json::from_slice(content).map_err(|error| {
        Refusal::bad(
            format!("the content is not an object with urls: {error}"),
            REMEDY,
        )
    })?;
    if wanted.urls.is_empty() {
        return Err(Refusal::bad("no URL is named", REMEDY));
    }
    if wanted.urls.len() > TARGETS_MAX {
        return Err(Refusal::bad(
            format!("{} URLs are named", wanted.urls.len()),
            format!("name at most {TARGETS_MAX} in one request"),
        ));
    }
    let mut urls = Vec::new();
    for text in &wanted.urls {
        if text.len() > URL_BYTES_MAX {
            return Err(Refusal::bad("a URL is too long", REMEDY));
        }
        urls.extend(site.urls(text)?);
    }
    if urls.len() > FETCHES_MAX {
        return Err(Refusal::bad(
            format!("for all of key.hosts these are {} pages", urls.len()),
            format!("name at most {FETCHES_MAX} of them in one request"),
        ));
    }
    Ok(urls)
}

/// Whether people open a path: its last segment has no extension but that of a page.
fn is_page(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    let extension = last
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    extension.is_none_or(|extension| {
        [
            "html", "htm", "xhtml", "php", "asp", "aspx", "jsp", "cfm", "do",
        ]
        .contains(&extension.as_str())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::{Config, Origin};

    #[test]
    fn pages_are_asked_for_as_browsers_do() {
        for (path, expected) in [
            ("/", true),
            ("/a", true),
            ("/a.b/c", true),
            ("/Default.ASPX", true),
            ("/a.css", false),
            ("/logo.png", false),
        ] {
            assert_eq!(is_page(path), expected, "{path}");
        }
    }

    #[test]
    fn a_wrong_order_fetches_nothing() {
        let config = Config::default();
        let origin = Origin::parse("http://10.0.0.5:8080").unwrap();
        let (parts, ()) = Request::post("/").body(()).unwrap().into_parts();
        let site = Site::of(&parts, &config, &origin);
        let many = format!(r#"{{"urls":[{}"/a"]}}"#, r#""/a","#.repeat(TARGETS_MAX));
        let long = format!(r#"{{"urls":["/{}"]}}"#, "a".repeat(URL_BYTES_MAX));
        for content in [
            "",
            "[]",
            "{}",
            r#"{"urls":[]}"#,
            r#"{"urls":"/a"}"#,
            r#"{"urls":["a"]}"#,
            r#"{"urls":["http://other.example/"]}"#,
            r#"{"urls":["/a"],"mode":"x"}"#,
            &many,
            &long,
        ] {
            assert!(wanted(content.as_bytes(), &site).is_err(), "{content}");
        }
        let found = wanted(br#"{"urls":["/a","http://10.0.0.5/b"]}"#, &site).unwrap();
        assert_eq!(found.len(), 2);
        // Each URL is one for each host.
        let hosts: Vec<String> = (0..100).map(|host| format!("\"h{host}\"")).collect();
        let config = Config::parse(&format!("key.hosts = [{}]", hosts.join(","))).unwrap();
        let site = Site::of(&parts, &config, &origin);
        for (urls, expected) in [(10, Some(1_000)), (11, None)] {
            let order = format!(r#"{{"urls":[{}"/a"]}}"#, r#""/a","#.repeat(urls - 1));
            let found = wanted(order.as_bytes(), &site).ok().map(|urls| urls.len());
            assert_eq!(found, expected, "{urls}");
        }
    }
}
