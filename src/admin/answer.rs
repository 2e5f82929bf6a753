//! Answers of the admin interface.

use super::CONTENT_MAX;
use super::WRONG_TOKENS_MAX;
use crate::semantics::content_length;
use crate::shield::{Answer, AnswerBody};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

/// Keeps browsers from taking an answer for something else.
const NO_SNIFFING: HeaderName = HeaderName::from_static("x-content-type-options");

/// The answer to the host itself.
pub(super) fn nothing<B>() -> Answer<B> {
    let mut answer = Answer::new(AnswerBody::Empty);
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// Why a request is not answered, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    error: String,
    remedy: String,
    /// The methods that there are.
    allow: Option<&'static str>,
}

impl Refusal {
    /// The request is wrong.
    pub(super) fn bad(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Refusal {
            status: StatusCode::BAD_REQUEST,
            error: error.into(),
            remedy: remedy.into(),
            allow: None,
        }
    }

    fn with(status: StatusCode, error: &str, remedy: &str) -> Self {
        Refusal {
            status,
            ..Refusal::bad(error, remedy)
        }
    }

    /// A URL is not of this site.
    pub(super) fn other_site(host: &str) -> Self {
        Refusal {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            ..Refusal::bad(
                format!("{host:?} is not known as a name of this site; nothing was done"),
                "write the path alone, for instance \"/page\"; or send the request with this \
                 host in `Host`; or name the host in key.hosts",
            )
        }
    }

    /// What was asked for is not stored.
    pub(super) fn not_found(error: impl Into<String>, remedy: &str) -> Self {
        Refusal {
            status: StatusCode::NOT_FOUND,
            ..Refusal::bad(error, remedy)
        }
    }

    pub(super) fn unavailable(error: &str, remedy: &str) -> Self {
        Refusal::with(StatusCode::SERVICE_UNAVAILABLE, error, remedy)
    }

    pub(super) fn method(allow: &'static str) -> Self {
        Refusal {
            allow: Some(allow),
            ..Refusal::with(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path has no such method",
                "see docs/operations.md",
            )
        }
    }

    pub(super) fn token(was_given: bool) -> Self {
        let error = match was_given {
            true => "the token is wrong",
            false => "a token is needed",
        };
        let remedy = "send `Authorization: Bearer` and the value of admin_token";
        Refusal::with(StatusCode::UNAUTHORIZED, error, remedy)
    }

    pub(super) fn too_many_tokens() -> Self {
        Refusal {
            status: StatusCode::TOO_MANY_REQUESTS,
            ..Refusal::bad(
                format!("{WRONG_TOKENS_MAX} requests with wrong tokens wait already"),
                "come back in a second",
            )
        }
    }

    pub(super) fn disguised() -> Self {
        Refusal::with(
            StatusCode::NOT_FOUND,
            "paths under /.leeward/ are written as they are",
            "write the path without escapes, dots and repeated slashes, in lower case",
        )
    }

    pub(super) fn unknown_path() -> Self {
        Refusal::with(
            StatusCode::NOT_FOUND,
            "the admin interface has no such path",
            "it has health, ready, status, entries, entry, purge, warm, metrics and dashboard",
        )
    }

    pub(super) fn too_long() -> Self {
        Refusal {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..Refusal::bad(
                format!("the content has more than {CONTENT_MAX} bytes"),
                "send several requests",
            )
        }
    }

    pub(super) fn broken_off() -> Self {
        Refusal::bad("the content broke off; nothing was done", "send it again")
    }

    /// What went wrong, for the tests.
    #[cfg(test)]
    pub(super) fn told(&self) -> (u16, &str) {
        (self.status.as_u16(), &self.error)
    }
}

/// A refusal as an answer.
pub(super) fn refusal<B>(refused: &Refusal) -> Answer<B> {
    let content = json!({ "error": refused.error, "remedy": refused.remedy });
    let mut answer = json(refused.status, &content);
    if let Some(allow) = refused.allow {
        let allow = HeaderValue::from_static(allow);
        answer.headers_mut().insert(ALLOW, allow);
    }
    let comes_back = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    if comes_back.contains(&refused.status) {
        let second = HeaderValue::from_static("1");
        answer.headers_mut().insert(RETRY_AFTER, second);
    }
    answer
}

/// An answer in JSON.
pub(super) fn json<B>(status: StatusCode, content: &Value) -> Answer<B> {
    let text = format!("{content:#}\n");
    with_content(status, "application/json", text)
}

/// An answer that nobody stores.
pub(super) fn with_content<B>(
    status: StatusCode,
    content_type: &'static str,
    text: impl Into<Bytes>,
) -> Answer<B> {
    let content = text.into();
    let mut headers: HeaderMap = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (NO_SNIFFING, HeaderValue::from_static("nosniff")),
    ]
    .into_iter()
    .collect();
    content_length(&mut headers, content.len() as u64);
    let mut answer = Answer::new(AnswerBody::Full(content));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Another path has it.
pub(super) fn found<B>(path: &'static str) -> Answer<B> {
    let text = format!("see {path}\n");
    let mut answer = with_content(StatusCode::FOUND, "text/plain; charset=utf-8", text);
    let path = HeaderValue::from_static(path);
    answer.headers_mut().insert(LOCATION, path);
    answer
}

/// The answer without content, if the method is HEAD.
pub(super) fn no_content_for_head<B>(method: &Method, answer: Answer<B>) -> Answer<B> {
    match *method == Method::HEAD {
        true => answer.map(|_| AnswerBody::Empty),
        false => answer,
    }
}
