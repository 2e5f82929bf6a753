//! What is stored, for the operator.

use super::Front;
use super::answer::{Refusal, json, refusal};
use super::order::Site;
use crate::cell::{Body, Cell};
use crate::question::{parts_of_key, selector_in_words};
use crate::semantics::Audience;
use crate::shield::Answer;
use crate::time::{Time, millis};
use crate::world::Platform;
use http::{StatusCode, request};
use serde_json::{Value, json};
use std::time::Duration;

/// Most entries of one answer.
const ENTRIES_MAX: usize = 100;

impl<P: Platform> Front<P> {
    pub(super) async fn entries(&self, query: Option<&str>) -> Answer<P::Body> {
        let prefix = parameter(query, "prefix").unwrap_or_else(|| "/".to_owned());
        if !prefix.starts_with('/') {
            let refused = Refusal::bad(
                format!("prefix {prefix:?} does not begin with a slash"),
                "write for instance entries?prefix=/products/",
            );
            return refusal(&refused);
        }
        let cursor = parameter(query, "cursor");
        let listed = self
            .shield
            .cells()
            .list(&prefix, cursor.as_deref(), ENTRIES_MAX);
        let page = match listed.await {
            Ok(Some(page)) => page,
            Ok(None) => {
                let refused = Refusal::unavailable(
                    "the store does not list its names",
                    "ask for one URL: entry?url=/page",
                );
                return refusal(&refused);
            }
            Err(error) => {
                return refusal(&Refusal::unavailable(&error.to_string(), "see the log"));
            }
        };
        let now = self.shield.platform().now();
        let clock_skew = self.shield.config().lease.clock_skew;
        let entries: Vec<Value> = page
            .cells
            .iter()
            .map(|cell| described(cell, now, clock_skew))
            .collect();
        json(
            StatusCode::OK,
            &json!({ "entries": entries, "next": page.next }),
        )
    }

    pub(super) async fn entry(&self, parts: &request::Parts) -> Answer<P::Body> {
        let Some(url) = parameter(parts.uri.query(), "url") else {
            let refused = Refusal::bad("no url is named", "write for instance entry?url=/page");
            return refusal(&refused);
        };
        let site = Site::of(parts, self.shield.config(), self.shield.origin());
        let urls = match site.urls(&url) {
            Ok(urls) => urls,
            Err(refused) => return refusal(&refused),
        };
        let now = self.shield.platform().now();
        let clock_skew = self.shield.config().lease.clock_skew;
        let mut found = Vec::new();
        for url in &urls {
            let host = url.authority().map_or("", |authority| authority.as_str());
            let target = url.path_and_query().map_or("/", |target| target.as_str());
            let key = self.shield.key("http", host, target);
            match self.shield.cells().of_key(&key).await {
                Ok(cells) => {
                    found.extend(cells.iter().map(|cell| described(cell, now, clock_skew)));
                }
                Err(error) => {
                    return refusal(&Refusal::unavailable(&error.to_string(), "see the log"));
                }
            }
        }
        match found.is_empty() {
            true => refusal(&Refusal::not_found(
                format!("nothing is stored for {url:?}, and nothing is known of it"),
                "ask the site for it, and see Cache-Status of the answer",
            )),
            false => json(StatusCode::OK, &json!({ "url": url, "entries": found })),
        }
    }
}

/// A cell for people.
fn described(cell: &Cell, now: Time, clock_skew: Duration) -> Value {
    let (host, target) = parts_of_key(&cell.key).unwrap_or((None, &cell.key));
    let question = question_of(cell);
    let lease = cell.lease.filter(|lease| lease.is_live(now, clock_skew));
    let mut told = json!({
        "url": target,
        "host": host,
        "question": question,
        "state": state_of(cell, now),
        "being_fetched": lease.is_some(),
    });
    let Some(object) = told.as_object_mut() else {
        return told;
    };
    if let Some(entry) = &cell.entry {
        let size = match &entry.body {
            Body::Inline(bytes) => bytes.len() as u64,
            Body::Chunked(manifest) => manifest.length,
        };
        object.insert("status".into(), entry.status.as_u16().into());
        object.insert(
            "age_s".into(),
            entry.freshness.current_age(now).as_secs().into(),
        );
        object.insert("ttl_s".into(), entry.freshness.ttl(now).into());
        object.insert("bytes".into(), size.into());
        let audience = match entry.audience {
            Audience::Everyone => "everyone",
            Audience::Anonymous => "visitors without credentials",
        };
        object.insert("for".into(), audience.into());
        object.insert(
            "on_error".into(),
            entry.freshness.may_serve_on_error(now).into(),
        );
    }
    if let Some(retry) = cell.marks.retry.filter(|retry| now < retry.not_before) {
        let pause = millis(retry.not_before.since(now));
        object.insert("failures".into(), retry.failures.into());
        object.insert("next_attempt_in_ms".into(), pause.into());
    }
    if let Some(until) = cell
        .marks
        .credentials_pass_until
        .filter(|until| now < *until)
    {
        let pause = millis(until.since(now));
        object.insert(
            "visitors_with_credentials_are_passed_for_ms".into(),
            pause.into(),
        );
    }
    if !cell.marks.vary.is_empty() {
        let names: Vec<&str> = cell.marks.vary.iter().map(|of| of.name.as_str()).collect();
        object.insert("varies_by".into(), names.into());
    }
    told
}

/// What visitors ask for who get the cell.
fn question_of(cell: &Cell) -> String {
    let mut lines = cell.key.split('\n').skip(1);
    let (mut words, mut selector) = (Vec::new(), cell.marks.resident.as_deref());
    for line in lines.by_ref() {
        match line.strip_prefix("vary ") {
            Some(variant) => selector = Some(variant),
            None => words.push(line.to_owned()),
        }
    }
    let selector = selector.map(|text| {
        let told = selector_in_words(text);
        told.unwrap_or_else(|| text.to_owned())
    });
    words.extend(selector);
    words.join(", ")
}

/// What a visitor would get of a cell.
fn state_of(cell: &Cell, now: Time) -> &'static str {
    let passes = cell.marks.pass.is_some_and(|pass| now < pass.until);
    match &cell.entry {
        None if passes => "not stored: answers may not be, and requests are passed",
        None => "nothing stored",
        Some(entry) if entry.invalidated => "invalidated: the origin is asked before it is used",
        Some(entry) if entry.freshness.is_fresh(now) => "fresh",
        Some(entry) if entry.freshness.may_serve_while_revalidating(now) => {
            "stale: served while it is refreshed"
        }
        Some(entry) if entry.freshness.may_serve_on_error(now) => {
            "old: the origin is asked; served if it fails"
        }
        Some(_) => "over: the origin is asked before it is used",
    }
}

/// A parameter of a query, decoded.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(decoded(value))
}

/// Text whose escapes are decoded, and whose `+` are spaces.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match (first, escaped) {
            (b'%', Some(byte)) => {
                out.push(byte);
                after.get(2..).unwrap_or_default()
            }
            (b'+', _) => {
                out.push(b' ');
                after
            }
            _ => {
                out.push(*first);
                after
            }
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Some("prefix=%2Fa+b%zz&url=https://x/?c%3Dd&url=2&e");
        assert_eq!(parameter(query, "prefix").as_deref(), Some("/a b%zz"));
        assert_eq!(parameter(query, "url").as_deref(), Some("https://x/?c=d"));
        assert_eq!(parameter(query, "e"), None);
        assert_eq!(parameter(None, "e"), None);
    }
}
