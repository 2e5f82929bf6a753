//! What the origin has answered.

use crate::executor::Micros;
use crate::requests::Asked;
use crate::scenario::Depends;
use http::StatusCode;
use std::time::Duration;

/// A response that the origin made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) key: usize,
    /// On whose behalf the origin was asked.
    pub(crate) visitor: u64,
    /// The request as it came.
    pub(crate) asked: Asked,
    /// What it says about caching.
    pub(crate) said: Said,
    /// Whether the origin means it for more than one visitor, whatever it says.
    pub(crate) shared: bool,
    /// Whether it is what the resource answers with while nothing is wrong.
    pub(crate) normal: bool,
    /// Until when the origin asks to be left alone.
    pub(crate) retry_after: Option<Micros>,
    pub(crate) sets_cookie: bool,
    /// Whether it is a 304: its content was made before, for another request.
    pub(crate) confirms: bool,
    /// Whether it is a redirect to what was asked for.
    pub(crate) to_itself: bool,
    /// On what in the request its content depends.
    pub(crate) depends: Depends,
    /// When the request reached the origin.
    pub(crate) started: Micros,
    /// When it was made.
    pub(crate) at: Micros,
    /// 304 counts as what it confirms.
    pub(crate) status: StatusCode,
    /// The request fields that its `Vary` names, as it was asked with them.
    pub(crate) vary: Vec<(&'static str, Option<String>)>,
    /// It is shared for a moment, counted from when it came.
    pub(crate) brief: bool,
    /// Its `ETag`, sent or not.
    pub(crate) tag: String,
    pub(crate) content: String,
    pub(crate) size: usize,
    pub(crate) lifetime: Duration,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) stale_on_error: Duration,
    pub(crate) no_cache: bool,
    /// Whether it is to be validated before each use: `no-cache`, or a lifetime of zero
    /// without a window of the origin's own.
    pub(crate) each_use: bool,
}

/// What an answer says about caching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) public: bool,
    pub(crate) shared_max_age: bool,
    pub(crate) max_age: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) no_cache: bool,
    pub(crate) no_store: bool,
    pub(crate) private: bool,
    pub(crate) lifetime: Duration,
}

impl Said {
    /// Reads a `Cache-Control` of the simulated origin.
    pub(crate) fn read(control: &str) -> Self {
        let mut said = Said::default();
        for directive in control.split(", ") {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name {
                "public" => said.public = true,
                "s-maxage" => said.shared_max_age = true,
                "max-age" => said.max_age = true,
                "must-revalidate" => said.must_revalidate = true,
                "no-cache" => said.no_cache = true,
                "no-store" => said.no_store = true,
                "private" => said.private = true,
                _ => {}
            }
            if let ("max-age" | "s-maxage", Ok(seconds)) = (name, value.parse()) {
                said.lifetime = Duration::from_secs(seconds);
            }
        }
        said
    }

    /// Whether it says nothing.
    pub(crate) fn is_silent(self) -> bool {
        self == Said::default()
    }

    /// Whether it states a lifetime of zero.
    pub(crate) fn is_zero(self) -> bool {
        (self.max_age || self.shared_max_age) && self.lifetime.is_zero()
    }

    /// Whether the origin said that the answer is for everyone, those with
    /// credentials included.
    pub(crate) fn is_for_everyone(self) -> bool {
        (self.public || self.shared_max_age || self.max_age) && !self.private && !self.no_store
    }

    /// Whether it may be stored though it is the answer to a request with a
    /// cookie, or sets one, as RFC 9111 has it in the preset `strict`.
    fn may_be_shared(self) -> bool {
        self.public || self.shared_max_age
    }
}

/// Whether an answer with this status that was made for somebody anonymous may be for those
/// with credentials at all: a success or a permanent redirect.
pub(super) fn concerns_everyone(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=299 | 301 | 308)
}

/// Whether an answer with this status may be given to others though it says nothing: one
/// that is cacheable by default (RFC 9110 section 15.1), or an error.
fn is_shared_silently(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 400..=599
    )
}

impl Made {
    /// Whether it was made for a visitor who came then.
    pub(super) fn is_own(&self, visitor: u64, arrived: Micros) -> bool {
        self.visitor == visitor && self.started >= arrived
    }

    /// Why only the visitor that it was made for may get it.
    pub(super) fn is_alone(&self, strict: bool) -> Option<&'static str> {
        let said = self.said;
        if !self.shared {
            return Some("the origin means it for one visitor alone");
        }
        if self.to_itself {
            return Some("it is a redirect to itself");
        }
        if said.is_silent() && !is_shared_silently(self.status) {
            return Some("it is no page and no error, and says nothing");
        }
        let made_with_cookie = self.sets_cookie && !self.confirms;
        if made_with_cookie && (said.is_silent() || strict && !said.may_be_shared()) {
            return Some("it was made with a cookie");
        }
        // Without credentials there is nobody in particular whom it is for.
        self.asked.credentials()?;
        let authorized = self.asked.headers.contains_key("authorization");
        let cookie = self.asked.headers.contains_key("cookie");
        let leave = strict
            && (!authorized || said.may_be_shared() || said.must_revalidate)
            && (!cookie || said.may_be_shared());
        (!leave).then_some("it was made for credentials")
    }

    /// Whether a refresh that brings it has come to nothing: the entry at hand is
    /// kept.
    pub(super) fn is_refused(&self, strict: bool) -> bool {
        let gone = matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GONE);
        let error = self.status.is_client_error() || self.status.is_server_error();
        error && !gone || self.is_alone(strict).is_some()
    }
}
