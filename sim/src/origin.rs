//! The origin: what it answers, when, and how it fails.

use crate::clock::Clocks;
use crate::coverage::Kind;
use crate::executor::{Executor, Micros, Owner, micros};
use crate::oracle::{Boarding, Flight, Made, Oracle};
use crate::scenario::{FaultKind, OriginFault, Resource, Scenario, Speech};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request};
use leeward::shield::{Body, OriginError, OriginRequest};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// Names the response; the oracle knows the rest.
pub(crate) const SERIAL: &str = "x-serial";

/// Names the visitor; the origin sees on whose behalf it is asked.
pub(crate) const VISITOR: &str = "x-visitor";

/// The origin.
pub(crate) struct Origin {
    pub(crate) executor: Executor,
    pub(crate) oracle: Rc<Oracle>,
    pub(crate) scenario: Rc<Scenario>,
    pub(crate) clocks: Rc<Clocks>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").finish_non_exhaustive()
    }
}

impl Origin {
    fn fault(&self, key: usize) -> Option<OriginFault> {
        let now = self.executor.now();
        let found = self
            .scenario
            .faults
            .iter()
            .find_map(|fault| match fault.kind {
                FaultKind::Origin { keys, how }
                    if (fault.from..fault.to).contains(&now) && keys & (1 << key) != 0 =>
                {
                    Some(how)
                }
                _ => None,
            });
        found.filter(|how| *how != OriginFault::Flaps || self.executor.random(fastrand::Rng::bool))
    }

    /// One exchange, on behalf of `owner`.
    pub(crate) async fn exchange(
        &self,
        owner: Owner,
        request: OriginRequest<SimBody>,
    ) -> Result<Response<SimBody>, OriginError> {
        let key = key_of(request.parts.uri.path());
        let flight = self.oracle.departs(owner, key);
        let mut boarding = Boarding(Some(Rc::clone(&flight)));
        let result = self.answer(owner, key, &request, flight).await;
        match &result {
            Ok(response) => {
                if response.status().is_server_error() {
                    self.oracle.count(Kind::OriginFailed);
                    boarding.fails();
                }
                boarding.0 = None;
            }
            Err(error) => {
                self.oracle.count(Kind::OriginFailed);
                self.oracle
                    .trace(owner, || format!("origin: key {key}: {error}"));
            }
        }
        result
    }

    async fn answer(
        &self,
        owner: Owner,
        key: usize,
        request: &OriginRequest<SimBody>,
        flight: Rc<Flight>,
    ) -> Result<Response<SimBody>, OriginError> {
        let Some(resource) = self.scenario.resources.get(key) else {
            return Err(OriginError::Failed("no such key".into()));
        };
        let fault = self.fault(key);
        let timeout = request.first_byte_timeout;
        let (least, most) = resource.latency;
        let mut latency = self.executor.between(least, most);
        match fault {
            Some(OriginFault::Refuses) => {
                self.executor.sleep(Duration::from_millis(5)).await;
                return Err(OriginError::Failed("connection refused".into()));
            }
            Some(OriginFault::Hangs) => {
                self.executor.sleep(timeout).await;
                return Err(OriginError::Timeout);
            }
            Some(OriginFault::Slow) => {
                latency = self.executor.between(Duration::ZERO, timeout * 3 / 2);
            }
            Some(_) | None => {}
        }
        if latency >= timeout {
            self.executor.sleep(timeout).await;
            return Err(OriginError::Timeout);
        }
        let started = self.executor.now();
        self.executor.sleep(latency / 2).await;
        let (mut response, made) = self.make(key, resource, &request.parts, started, fault);
        self.oracle.trace(owner, || {
            format!(
                "origin: key {key}: {} {:?}",
                response.status(),
                response.headers()
            )
        });
        let serial = self.oracle.made(made);
        response
            .headers_mut()
            .insert(SERIAL, HeaderValue::from(serial));
        self.executor.sleep(latency - latency / 2).await;
        let (parts, content) = response.into_parts();
        let body = self.body(resource, fault, &content, timeout, flight);
        Ok(Response::from_parts(parts, body))
    }

    /// What the origin says at this moment.
    fn make(
        &self,
        key: usize,
        resource: &Resource,
        request: &request::Parts,
        started: Micros,
        fault: Option<OriginFault>,
    ) -> (Response<Bytes>, Made) {
        let errors = matches!(fault, Some(OriginFault::Errors | OriginFault::Flaps));
        let now = self.executor.now();
        let visitor = number(&request.headers, VISITOR);
        let value = |name: &str| {
            request
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let mut vary = resource.vary.to_vec();
        if resource.widens.is_some_and(|at| at <= now) && !vary.contains(&"x-device") {
            vary.push("x-device");
        }
        let unsafe_method = request.method == http::Method::POST;
        let cookie = request.headers.contains_key(header::COOKIE);
        let (control, shared) = speech(resource, cookie, now, &self.scenario);
        let authorization = request.headers.contains_key(header::AUTHORIZATION);
        let leave = control.contains("s-maxage") || control.contains("must-revalidate");
        let shared = shared && !errors && !unsafe_method && (!authorization || leave);
        let version = match micros(resource.changes) {
            0 => self.oracle.next_serial(),
            period => now / period,
        };
        let whose = if shared { u64::MAX } else { visitor };
        let variant: Vec<Option<String>> = vary.iter().map(|name| value(name)).collect();
        let content = format!("key {key} variant {variant:?} version {version} whose {whose};");
        let etag = format!("\"{:x}\"", fxhash(&content));
        let tagged = resource.validator && !errors && !unsafe_method;
        let asked = request
            .headers
            .get(header::IF_NONE_MATCH)
            .filter(|_| tagged);
        let matches = asked.is_some_and(|tag| tag.as_bytes() == etag.as_bytes());
        let wrongly = asked.is_some() && !matches && fault == Some(OriginFault::Confirms);
        if wrongly {
            self.oracle.count(Kind::ConfirmedWrongly);
        }
        let current = matches || wrongly;
        let status = match (errors, current) {
            (true, _) => StatusCode::SERVICE_UNAVAILABLE,
            (false, true) => StatusCode::NOT_MODIFIED,
            (false, false) => StatusCode::OK,
        };
        let body = match status {
            StatusCode::OK => body_of(&content, resource.size),
            _ => Bytes::new(),
        };
        let mut response = Response::new(body.clone());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut add = |name: header::HeaderName, text: &str| {
            if let Ok(text) = HeaderValue::from_str(text) {
                headers.append(name, text);
            }
        };
        if !errors && !control.is_empty() {
            add(header::CACHE_CONTROL, &control);
        }
        if tagged {
            add(header::ETAG, &etag);
        }
        if !vary.is_empty() {
            add(header::VARY, &vary.join(", "));
        }
        if resource.speech == Speech::SetCookie {
            add(header::SET_COOKIE, &format!("session={visitor}"));
        }
        if status == StatusCode::OK {
            add(header::CONTENT_LENGTH, &body.len().to_string());
        }
        if version.is_multiple_of(2) {
            add(header::DATE, &httpdate::fmt_http_date(self.date()));
        }
        let (swr, sie) = windows(resource, &control, &self.scenario);
        let made = Made {
            key,
            visitor,
            shared,
            started,
            at: now,
            status: match status {
                StatusCode::NOT_MODIFIED => StatusCode::OK,
                status => status,
            },
            vary: vary
                .iter()
                .zip(variant)
                .map(|(name, value)| (*name, value))
                .collect(),
            content,
            tag: etag,
            size: if errors { 0 } else { resource.size },
            lifetime: lifetime(resource, &self.scenario),
            stale_while_revalidate: swr,
            stale_on_error: swr.max(sie),
            no_cache: resource.speech == Speech::NoCache,
        };
        (response, made)
    }

    /// The origin's clock is right.
    fn date(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.clocks.truth().as_unix_millis())
    }

    fn body(
        &self,
        resource: &Resource,
        fault: Option<OriginFault>,
        content: &Bytes,
        timeout: Duration,
        flight: Rc<Flight>,
    ) -> SimBody {
        let size = content.len().div_ceil(resource.parts.max(1)).max(1);
        let mut parts = VecDeque::new();
        let mut rest = content.clone();
        let mut took = 0;
        while !rest.is_empty() {
            let part = rest.split_to(size.min(rest.len()));
            let delay = self
                .executor
                .between(Duration::ZERO, Duration::from_millis(30));
            took += micros(delay);
            parts.push_back((delay, part));
        }
        let end = match fault {
            Some(OriginFault::Breaks) if !content.is_empty() => {
                parts.pop_back();
                End::Breaks
            }
            Some(OriginFault::Short) if !content.is_empty() => {
                parts.pop_back();
                End::Whole
            }
            Some(OriginFault::HangsInBody) if !content.is_empty() => {
                parts.pop_back();
                End::Hangs(timeout)
            }
            Some(_) | None => End::Whole,
        };
        match end {
            End::Whole | End::Breaks => flight.done_at(self.executor.now() + took),
            End::Hangs(_) => {}
        }
        if end != End::Whole || fault == Some(OriginFault::Short) {
            self.oracle.count(Kind::OriginFailed);
            flight.fails();
        }
        SimBody {
            executor: self.executor.clone(),
            parts,
            end: Some(end),
            flight,
        }
    }
}

/// The key of a path.
pub(crate) fn key_of(path: &str) -> usize {
    path.strip_prefix("/k")
        .and_then(|key| key.parse().ok())
        .unwrap_or(usize::MAX)
}

/// A number in a field.
pub(crate) fn number(headers: &HeaderMap, name: &str) -> u64 {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(u64::MAX)
}

/// The bytes of a content.
pub(crate) fn body_of(content: &str, size: usize) -> Bytes {
    content.bytes().cycle().take(size).collect()
}

fn fxhash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `Cache-Control`, and whether what is said may be shared.
fn speech(resource: &Resource, cookie: bool, now: Micros, scenario: &Scenario) -> (String, bool) {
    let mut text = match resource.speech {
        Speech::Silent => return (String::new(), true),
        Speech::NoStore => return ("no-store".into(), false),
        Speech::Private if scenario.careless => return ("max-age=3".into(), false),
        Speech::Private => return (format!("private, max-age={}", resource.max_age), false),
        Speech::NoCache => return ("no-cache".into(), true),
        Speech::PrivateWithCookie if cookie => return ("private".into(), false),
        Speech::PrivateAtTimes if (now / 3_000_000).is_multiple_of(2) && now < scenario.healed => {
            return ("private".into(), false);
        }
        Speech::SharedMaxAge => format!("s-maxage={}", resource.max_age),
        Speech::MustRevalidate => format!("max-age={}, must-revalidate", resource.max_age),
        Speech::MaxAge | Speech::SetCookie | Speech::PrivateWithCookie | Speech::PrivateAtTimes => {
            format!("max-age={}", resource.max_age)
        }
    };
    for (name, seconds) in [
        ("stale-while-revalidate", resource.stale_while_revalidate),
        ("stale-if-error", resource.stale_if_error),
    ] {
        if let Some(seconds) = seconds {
            text.push_str(&format!(", {name}={seconds}"));
        }
    }
    (text, resource.speech != Speech::SetCookie)
}

/// The longest that a cache may call it fresh.
fn lifetime(resource: &Resource, scenario: &Scenario) -> Duration {
    Duration::from_secs(match resource.speech {
        Speech::Silent => scenario.settings.default_ttl,
        Speech::NoCache => 0,
        _ => resource.max_age,
    })
}

/// The longest that a cache may use it stale: at once, and when the origin
/// fails.
fn windows(resource: &Resource, control: &str, scenario: &Scenario) -> (Duration, Duration) {
    let settings = &scenario.settings;
    let silent = resource.speech == Speech::Silent;
    let stated = |seconds: Option<u64>| seconds.filter(|_| !silent);
    let (swr, sie) = (
        stated(resource.stale_while_revalidate),
        stated(resource.stale_if_error),
    );
    let floor = |stated: Option<u64>, operator: u64| match stated {
        Some(0) => 0,
        Some(stated) => stated.max(operator),
        None => operator,
    };
    let (swr, sie) = if control.contains("must-revalidate") || control.contains("no-cache") {
        (0, 0)
    } else if control.contains("s-maxage") {
        match settings.strict {
            true => (0, 0),
            false => (swr.unwrap_or(0), sie.unwrap_or(0)),
        }
    } else if settings.strict {
        (swr.unwrap_or(0), sie.unwrap_or(settings.stale_if_error))
    } else {
        (
            floor(swr, settings.stale_while_revalidate),
            floor(sie, settings.stale_if_error),
        )
    };
    (Duration::from_secs(swr), Duration::from_secs(sie))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Breaks,
    Hangs(Duration),
}

/// A body on its way.
pub(crate) struct SimBody {
    executor: Executor,
    parts: VecDeque<(Duration, Bytes)>,
    end: Option<End>,
    flight: Rc<Flight>,
}

impl SimBody {
    /// What a visitor sends.
    pub(crate) fn of_visitor(executor: &Executor) -> Self {
        SimBody {
            executor: executor.clone(),
            parts: VecDeque::new(),
            end: Some(End::Whole),
            flight: Rc::default(),
        }
    }
}

impl std::fmt::Debug for SimBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimBody").finish_non_exhaustive()
    }
}

impl Drop for SimBody {
    fn drop(&mut self) {
        self.flight.closed();
    }
}

impl Body for SimBody {
    async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        if let Some((delay, _)) = self.parts.front() {
            self.executor.sleep(*delay).await;
            return self.parts.pop_front().map(|(_, part)| Ok(part));
        }
        match self.end.take()? {
            End::Whole => None,
            End::Breaks => {
                self.flight.failed();
                Some(Err(OriginError::Failed("the body broke off".into())))
            }
            End::Hangs(timeout) => {
                self.executor.sleep(timeout).await;
                self.flight.failed();
                Some(Err(OriginError::Timeout))
            }
        }
    }
}
