//! What the shield says where nothing stored helps and the origin has no answer: a
//! page for people, an object for programs, or the operator's fallback. Pure.
//!
//! Nothing of the request or of the origin's error is in it. The cause is in
//! `Cache-Status` and in the log.

use super::served::Own;
use crate::budget::HaltedBy;
use crate::config::Fallback;
use crate::origin::NoAnswer;
use crate::question::accept::Accept;
use crate::semantics::is_safe;
use crate::world::OriginError;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE,
    RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::time::Duration;

/// A `Retry-After` is longer than the pause that it speaks of by up to this part of
/// it, at random, so that clients do not return together.
const RETRY_AFTER_SPREAD: u64 = 4;

/// The least that it is spread over, in seconds: a short pause, too, is spread.
const RETRY_AFTER_SPREAD_MIN: u64 = 2;

/// What is said where the host denies requests to the origin.
const DENIED: &str = concat!(
    "This server may not send requests to the server of this site. On Spin, ",
    "`allowed_outbound_hosts` of the component has to name the origin (scheme, host and port), ",
    "and a path belongs into the variable `origin_path`."
);

/// From this many seconds on, people are told minutes.
const MINUTES_FROM: u64 = 120;

/// In which form the shield speaks to a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Html,
    Json,
    Text,
}

impl Form {
    /// The form that a visitor prefers. Without a preference it is plain text.
    fn of(visitor: &HeaderMap) -> Form {
        match Accept::read(visitor).preferred() {
            "text/html" | "application/xhtml+xml" => Form::Html,
            "application/json" => Form::Json,
            _ => Form::Text,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Form::Html => "text/html; charset=utf-8",
            Form::Json => "application/json",
            Form::Text => "text/plain; charset=utf-8",
        }
    }
}

/// What is known of the way of a request to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The origin has received nothing of it.
    NotSent,
    /// The origin may have received it, or a part.
    Unknown,
}

impl Delivery {
    /// What an attempt to send a request tells. `is_whole` says that all its content was
    /// there before: if not, it may have broken off on its way.
    pub(super) fn after(error: &NoAnswer, is_whole: bool) -> Self {
        match error {
            NoAnswer::Failed(OriginError::Unreachable(_) | OriginError::Denied) => {
                Delivery::NotSent
            }
            NoAnswer::Failed(OriginError::NotSent(_)) if is_whole => Delivery::NotSent,
            // An upload that got no slot for its end, or whose visitor left, was under way.
            NoAnswer::Busy | NoAnswer::Halted(_) | NoAnswer::Gone | NoAnswer::Failed(_) => {
                Delivery::Unknown
            }
        }
    }
}

/// A request that the shield cannot help.
#[derive(Clone, Copy, Debug)]
pub(super) struct Helpless<'a> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    /// 502, 503 or 504.
    pub(super) status: StatusCode,
    pub(super) why: Own,
    /// Counts for unsafe methods only.
    pub(super) delivery: Delivery,
    /// What the client is told to wait, in seconds.
    pub(super) retry_after: u64,
    /// What the operator says instead.
    pub(super) fallback: Option<&'a Fallback>,
}

/// An answer of the shield's own, without what is added to every answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OwnAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: bytes::Bytes,
    pub(super) why: Own,
}

/// How many seconds a client is told to wait: never less than `pause`, at least one,
/// and longer at random.
pub(super) fn retry_after(pause: Duration, random: u128) -> u64 {
    let whole = u64::from(pause.subsec_nanos() > 0);
    let seconds = pause.as_secs().saturating_add(whole).max(1);
    let spread = (seconds / RETRY_AFTER_SPREAD).max(RETRY_AFTER_SPREAD_MIN);
    let longer = u64::try_from(random % (u128::from(spread) + 1)).unwrap_or(0);
    seconds.saturating_add(longer)
}

/// The answer to a request that the shield cannot help.
pub(super) fn helpless(helpless: Helpless<'_>) -> OwnAnswer {
    match helpless.fallback {
        Some(fallback) if may_fall_back(helpless.method, helpless.why) => {
            let mut headers = base(fallback.content_type.clone());
            if fallback.status == StatusCode::SERVICE_UNAVAILABLE {
                headers.insert(RETRY_AFTER, HeaderValue::from(helpless.retry_after));
            }
            OwnAnswer {
                status: fallback.status,
                headers,
                body: fallback.body.clone(),
                why: Own::RuleFallback,
            }
        }
        Some(_) | None => {
            let form = Form::of(helpless.headers);
            let mut headers = base(HeaderValue::from_static(form.content_type()));
            headers.insert(RETRY_AFTER, HeaderValue::from(helpless.retry_after));
            OwnAnswer {
                status: helpless.status,
                headers,
                body: page(&helpless, form).into(),
                why: helpless.why,
            }
        }
    }
}

/// The fields of every answer of the shield's own. Any browser application may read
/// it.
pub(super) fn base(content_type: HeaderValue) -> HeaderMap {
    [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Retry-After, Cache-Status"),
        ),
    ]
    .into_iter()
    .collect()
}

/// Whether a fallback is an answer to the request: a GET or HEAD that wants to
/// know what the origin would say.
fn may_fall_back(method: &Method, why: Own) -> bool {
    let is_refusal = matches!(why, Own::OnlyIfCached | Own::ConnectionAuth);
    matches!(*method, Method::GET | Method::HEAD) && !is_refusal
}

/// What happened, in a sentence for people.
fn happened(why: Own) -> &'static str {
    match why {
        Own::OriginTimeout | Own::WaitBudget => "The server of this site takes too long to answer.",
        Own::OnlyIfCached => {
            "There is no stored copy of this page, and the request did not allow to fetch one."
        }
        Own::OriginBusy | Own::Halted(HaltedBy::Rate) => "The server of this site is busy.",
        // Only the operator can help, and may be the one who reads it.
        Own::OriginDenied => DENIED,
        Own::FieldsRefused => {
            "The answer of this site's server has fields that cannot be passed on."
        }
        Own::Backoff
        | Own::Halted(HaltedBy::Breaker | HaltedBy::Store)
        | Own::ClientGone
        | Own::OriginFailed
        | Own::RuleFallback
        | Own::Refused
        | Own::Misdirected
        | Own::MaxForwards
        | Own::Loop
        | Own::ConnectionAuth => "The server of this site does not answer as it should.",
    }
}

/// When to come back, for people.
fn when(seconds: u64) -> String {
    match seconds {
        1 => "Please try again in one second.".to_owned(),
        MINUTES_FROM.. => {
            let minutes = seconds.div_ceil(60);
            format!("Please try again in about {minutes} minutes.")
        }
        _ => format!("Please try again in {seconds} seconds."),
    }
}

fn page(helpless: &Helpless<'_>, form: Form) -> String {
    let Helpless {
        method,
        why,
        delivery,
        retry_after,
        ..
    } = *helpless;
    let title = "This page is not available at the moment";
    let mut happened = happened(why).to_owned();
    let delivery = (!is_safe(method)).then_some(delivery);
    match delivery {
        Some(Delivery::NotSent) => {
            happened.push_str(" Your request was not sent to it, so it is safe to send it again.");
        }
        Some(Delivery::Unknown) => {
            happened.push_str(" It is not known whether it has received your request.");
        }
        None => {}
    }
    let when = when(retry_after);
    match form {
        Form::Text => format!("{title}.\n{happened}\n{when}\n"),
        Form::Json => {
            let mut object = serde_json::json!({
                "status": helpless.status.as_u16(),
                "title": title,
                "detail": format!("{happened} {when}"),
                "retry_after": retry_after,
            });
            if delivery == Some(Delivery::NotSent)
                && let Some(members) = object.as_object_mut()
            {
                members.insert("sent".to_owned(), false.into());
            }
            format!("{object}\n")
        }
        Form::Html => {
            let [title, happened, when] = [title, &happened, &when].map(escaped);
            format!(
                "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
                 <title>{title}</title>\n\
                 <style>body{{font:1.1em/1.5 sans-serif;max-width:34em;margin:4em auto;\
                 padding:0 1em}}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
                 <p>{happened}</p>\n<p>{when}</p>\n</body>\n</html>\n"
            )
        }
    }
}

/// Text as the content of an HTML element.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::header::ACCEPT;

    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

    fn accepting(accept: Option<&str>) -> HeaderMap {
        accept
            .map(|accept| (ACCEPT, HeaderValue::from_str(accept).unwrap()))
            .into_iter()
            .collect()
    }

    fn fallback(status: u16) -> Fallback {
        Fallback {
            status: StatusCode::from_u16(status).unwrap(),
            content_type: HeaderValue::from_static("application/json"),
            body: "{}".into(),
        }
    }

    #[test]
    fn the_form_is_the_one_that_the_visitor_prefers() {
        for (accept, form) in [
            (None, Form::Text),
            (Some("*/*"), Form::Text),
            (Some(BROWSER), Form::Html),
            (Some("application/xhtml+xml, text/html;q=0.9"), Form::Html),
            (Some("text/html;q=0.5, application/json"), Form::Json),
            (Some("application/json"), Form::Json),
            (Some("application/json, text/plain, */*"), Form::Json),
            (Some("text/plain, text/html;q=0.1"), Form::Text),
            (Some("image/avif,image/webp,*/*;q=0.8"), Form::Text),
            (Some("nonsense"), Form::Text),
        ] {
            assert_eq!(Form::of(&accepting(accept)), form, "{accept:?}");
        }
    }

    #[test]
    fn a_client_is_never_told_less_than_the_pause_and_clients_are_spread() {
        for (millis, least, most) in [
            (0, 1, 3),
            (1, 1, 3),
            (1_000, 1, 3),
            (1_001, 2, 4),
            (3_750, 4, 6),
            (60_000, 60, 75),
            (600_000, 600, 750),
        ] {
            let told: std::collections::BTreeSet<u64> = (0..1_000)
                .map(|random| retry_after(Duration::from_millis(millis), random))
                .collect();
            assert_eq!(told, (least..=most).collect(), "{millis}");
        }
        assert_eq!(retry_after(Duration::MAX, u128::MAX), u64::MAX);
    }

    /// The methods, causes and settings; status, detail and `Retry-After`.
    #[test]
    fn what_is_answered() {
        let (ok, unavailable) = (fallback(200), fallback(503));
        for (method, why, fallback, expected) in [
            (Method::GET, Own::Backoff, None, (503, Own::Backoff, true)),
            (
                Method::GET,
                Own::Backoff,
                Some(&ok),
                (200, Own::RuleFallback, false),
            ),
            (
                Method::HEAD,
                Own::OriginFailed,
                Some(&ok),
                (200, Own::RuleFallback, false),
            ),
            (
                Method::GET,
                Own::WaitBudget,
                Some(&unavailable),
                (503, Own::RuleFallback, true),
            ),
            (
                Method::GET,
                Own::OnlyIfCached,
                Some(&ok),
                (503, Own::OnlyIfCached, true),
            ),
            (
                Method::POST,
                Own::OriginTimeout,
                Some(&ok),
                (503, Own::OriginTimeout, true),
            ),
            (
                Method::OPTIONS,
                Own::OriginFailed,
                Some(&ok),
                (503, Own::OriginFailed, true),
            ),
        ] {
            let answer = helpless(Helpless {
                method: &method,
                headers: &HeaderMap::new(),
                status: StatusCode::SERVICE_UNAVAILABLE,
                why,
                delivery: Delivery::Unknown,
                retry_after: 7,
                fallback,
            });
            let told = answer.headers.get(RETRY_AFTER);
            let got = (answer.status.as_u16(), answer.why, told.is_some());
            assert_eq!(got, expected, "{method} {why:?}");
            assert!(told.is_none_or(|told| told == "7"));
            assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
            assert_eq!(answer.headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        }
    }

    #[test]
    fn each_form_says_what_happened_and_when_to_come_back() {
        let answer = |accept, method: &Method, retry_after| {
            let answer = helpless(Helpless {
                method,
                headers: &accepting(Some(accept)),
                status: StatusCode::GATEWAY_TIMEOUT,
                why: Own::OriginTimeout,
                delivery: Delivery::Unknown,
                retry_after,
                fallback: None,
            });
            let kind = answer.headers[CONTENT_TYPE].to_str().unwrap().to_owned();
            (kind, String::from_utf8(answer.body.to_vec()).unwrap())
        };
        let (kind, html) = answer(BROWSER, &Method::GET, 5);
        assert_eq!(kind, "text/html; charset=utf-8");
        assert!(html.starts_with("<!doctype html>"), "{html}");
        assert!(html.contains("<p>Please try again in 5 seconds.</p>"));
        assert!(html.contains("<p>The server of this site takes too long to answer.</p>"));
        assert!(!html.contains("://") && html.len() < 1_024, "{html}");
        let (kind, json) = answer("application/json", &Method::GET, 150);
        assert_eq!(kind, "application/json");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (json["status"].as_u64(), json["retry_after"].as_u64()),
            (Some(504), Some(150))
        );
        let detail = json["detail"].as_str().unwrap();
        assert!(
            detail.ends_with("try again in about 3 minutes."),
            "{detail}"
        );
        let (kind, text) = answer("*/*", &Method::POST, 1);
        assert_eq!(kind, "text/plain; charset=utf-8");
        assert!(text.contains("one second"), "{text}");
        assert!(text.contains("not known whether it has received"), "{text}");
    }

    fn page_of(method: &Method, accept: &str, delivery: Delivery) -> String {
        let answer = helpless(Helpless {
            method,
            headers: &accepting(Some(accept)),
            status: StatusCode::SERVICE_UNAVAILABLE,
            why: Own::Halted(HaltedBy::Breaker),
            delivery,
            retry_after: 6,
            fallback: None,
        });
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    /// The breaker was open, and the visitor of an order form read that it is not known
    /// whether the server has received the order.
    #[test]
    fn a_post_that_was_not_sent_is_told_so() {
        const NOT_SENT: &str = "Your request was not sent to it, so it is safe to send it again.";
        for accept in [BROWSER, "application/json", "*/*"] {
            let text = page_of(&Method::POST, accept, Delivery::NotSent);
            assert!(text.contains(NOT_SENT), "{text}");
            assert!(!text.contains("not known"), "{text}");
            let text = page_of(&Method::POST, accept, Delivery::Unknown);
            assert!(text.contains("not known whether"), "{text}");
            assert!(!text.contains("not sent"), "{text}");
            // Nobody minds a GET that is sent twice.
            let text = page_of(&Method::GET, accept, Delivery::NotSent);
            assert!(!text.contains("not sent"), "{text}");
        }
        for (method, delivery, sent) in [
            (Method::POST, Delivery::NotSent, Some(false)),
            (Method::POST, Delivery::Unknown, None),
            (Method::GET, Delivery::NotSent, None),
        ] {
            let json = page_of(&method, "application/json", delivery);
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(json["sent"].as_bool(), sent, "{method} {delivery:?}");
        }
    }

    #[test]
    fn only_what_cannot_have_reached_the_origin_counts_as_not_sent() {
        let text = || "why".to_owned();
        for (error, is_whole, delivery) in [
            (OriginError::Unreachable(text()), false, Delivery::NotSent),
            (OriginError::NotSent(text()), true, Delivery::NotSent),
            (OriginError::Denied, false, Delivery::NotSent),
            // Content that broke off on its way.
            (OriginError::NotSent(text()), false, Delivery::Unknown),
            (OriginError::Failed(text()), true, Delivery::Unknown),
            (OriginError::Timeout, true, Delivery::Unknown),
            (OriginError::TooManyStreams, true, Delivery::Unknown),
        ] {
            let told = Delivery::after(&NoAnswer::Failed(error.clone()), is_whole);
            assert_eq!(told, delivery, "{error:?} {is_whole}");
        }
        assert_eq!(Delivery::after(&NoAnswer::Busy, true), Delivery::Unknown);
    }

    #[test]
    fn a_denied_request_names_the_settings_in_each_form() {
        for accept in [BROWSER, "application/json", "*/*"] {
            let answer = helpless(Helpless {
                method: &Method::GET,
                headers: &accepting(Some(accept)),
                status: StatusCode::SERVICE_UNAVAILABLE,
                why: Own::OriginDenied,
                retry_after: 5,
                delivery: Delivery::NotSent,
                fallback: None,
            });
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            assert!(text.contains("allowed_outbound_hosts"), "{text}");
            assert!(text.contains("origin_path"), "{text}");
        }
    }

    #[test]
    fn a_fallback_is_no_answer_to_what_is_refused() {
        for (why, may) in [
            (Own::OriginDenied, true),
            (Own::FieldsRefused, true),
            (Own::ConnectionAuth, false),
            (Own::OnlyIfCached, false),
        ] {
            assert_eq!(may_fall_back(&Method::GET, why), may, "{why:?}");
        }
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            escaped("<a href=\"x\">'&'</a>"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;"
        );
    }
}
