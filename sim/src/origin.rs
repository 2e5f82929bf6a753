//! The origin: what it answers, when, and how it fails.

use crate::clock::Clocks;
use crate::coverage::Kind;
use crate::executor::{Executor, Micros, Owner, micros};
use crate::oracle::{Blame, Flight, Made, OpenFlight, Oracle, Said};
use crate::requests::{Asked, Media, ODD_FIELD, ODD_REFERER, REWRITING};
use crate::scenario::{
    Dependence, Depends, FaultKind, OriginFault, RETRY_AFTER_MAX, Reply, Resource, Scenario,
    SetsCookie, Speech,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use leeward::shield::{Body, OriginError, OriginRequest};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// Names the response; the oracle knows the rest.
pub(crate) const SERIAL: &str = "x-serial";

/// The field with an answer's tags.
const TAGS: &str = "surrogate-key";

/// The tag of a key's answers.
pub(crate) fn tag_of(key: usize) -> String {
    format!("of-{key}")
}

/// How long an answer that says nothing about itself, and is no success, may be
/// handed to others (`freshness.error_ttl`).
const ERROR_TTL: Duration = Duration::from_secs(1);

/// How long an error may be stored that says so itself
/// (`freshness.error_ttl_max`).
const ERROR_TTL_MAX: Duration = Duration::from_secs(60);

/// Most small pieces of a body that trickles.
const TRICKLE_PIECES: usize = 24;

/// How long each is, in bytes.
const TRICKLE_PIECE: usize = 48;

/// The pause before each.
const TRICKLE_PAUSE: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_millis(900));

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
        let timeout = request.first_byte_timeout;
        let mut headers = request.parts.headers;
        // The shield's own agent, which a fill has where the question has none.
        if headers.get(header::USER_AGENT).is_some_and(is_shields) {
            headers.remove(header::USER_AGENT);
        }
        let asked = Asked {
            method: request.parts.method,
            target: request
                .parts
                .uri
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
            headers,
            content: request.body.is_some(),
        };
        let sent = self.executor.now();
        self.oracle.sends();
        // The origin's work begins when the content is complete.
        if let Some(mut content) = request.body {
            while let Some(piece) = content.chunk().await {
                piece?;
            }
        }
        let flight = self.oracle.departs(owner, key, &asked, sent);
        let mut open = OpenFlight(Some(Rc::clone(&flight)));
        let result = self.answer(owner, key, asked, timeout, flight).await;
        match &result {
            Ok(response) => {
                if response.status().is_server_error() {
                    self.oracle.count(Kind::OriginFailed);
                    open.fails();
                }
                open.0 = None;
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
        asked: Asked,
        timeout: Duration,
        flight: Rc<Flight>,
    ) -> Result<Response<SimBody>, OriginError> {
        let Some(resource) = self.scenario.resources.get(key) else {
            return Err(OriginError::Failed("no such key".into()));
        };
        let announced = number(&asked.headers, header::CONTENT_LENGTH.as_str());
        if !asked.content && (1..u64::MAX).contains(&announced) {
            self.blame(&flight, Blame::Content);
            self.executor.sleep(Duration::from_millis(20)).await;
            return Err(OriginError::Failed("the content did not come".into()));
        }
        let fault = self.fault(key);
        let (least, most) = resource.latency;
        let mut latency = self.executor.between(least, most);
        match fault {
            Some(OriginFault::Refuses) => {
                self.executor.sleep(Duration::from_millis(5)).await;
                return Err(OriginError::Failed("connection refused".into()));
            }
            Some(OriginFault::Closes) if self.executor.random(fastrand::Rng::bool) => {
                self.executor.sleep(Duration::from_millis(5)).await;
                return Err(OriginError::NoHead("the connection was closed".into()));
            }
            Some(OriginFault::Hangs) => {
                self.executor.sleep(timeout).await;
                return Err(OriginError::Timeout);
            }
            Some(OriginFault::Slow) => {
                latency = self.executor.between(Duration::ZERO, timeout * 3 / 2);
            }
            Some(OriginFault::Particular)
                if dislikes(&asked) && self.executor.random(fastrand::Rng::bool) =>
            {
                self.blame(&flight, Blame::Referer);
                self.executor.sleep(Duration::from_millis(5)).await;
                return Err(OriginError::Failed("the connection was reset".into()));
            }
            Some(_) | None => {}
        }
        if latency >= timeout {
            self.executor.sleep(timeout).await;
            return Err(OriginError::Timeout);
        }
        let started = self.executor.now();
        self.executor.sleep(latency / 2).await;
        let (mut response, made) = self.make(key, resource, asked, started, fault, &flight);
        self.oracle.trace(owner, || {
            format!(
                "origin: key {key}: {} {:?}",
                response.status(),
                response.headers()
            )
        });
        if !made.normal {
            flight.fails();
        }
        let serial = self.oracle.made(made);
        flight.made(serial);
        response
            .headers_mut()
            .insert(SERIAL, HeaderValue::from(serial));
        if self.scenario.has_tags()
            && let Ok(tag) = HeaderValue::try_from(tag_of(key))
        {
            response.headers_mut().insert(TAGS, tag);
        }
        self.executor.sleep(latency - latency / 2).await;
        let trickles = fault == Some(OriginFault::Trickles);
        if trickles && self.executor.random(fastrand::Rng::bool) {
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        let (parts, content) = response.into_parts();
        let body = self.body(resource, fault, &content, timeout, flight);
        Ok(Response::from_parts(parts, body))
    }

    /// A failure is one visitor's fault. In preset `strict` the fields of a visitor
    /// reach the origin in what is fetched for all, as RFC 9111 assumes: nothing
    /// can be promised to the others.
    fn blame(&self, flight: &Flight, blame: Blame) {
        if !self.scenario.settings.strict {
            flight.blame(blame);
        }
    }

    /// What the origin says at this moment.
    fn make(
        &self,
        key: usize,
        resource: &Resource,
        asked: Asked,
        started: Micros,
        fault: Option<OriginFault>,
        flight: &Flight,
    ) -> (Response<Bytes>, Made) {
        let now = self.executor.now();
        let refusal = refusal(&asked, fault);
        if let Some(blame) = refusal.as_ref().and_then(|refusal| refusal.blame) {
            self.blame(flight, blame);
        }
        let credentials = asked.credentials();
        let depends = match refusal {
            Some(_) => Depends::default(),
            None => resource.depends,
        };
        let redirected = refusal.is_none()
            && match resource.reply {
                Reply::Content => false,
                Reply::Redirect => true,
                Reply::Canonical => asked.has_ignored_parameters(),
                Reply::Handshake => credentials.is_none(),
            };
        let (control, shared) = match &refusal {
            Some(refusal) => (refusal.control(now), !refusal.private),
            None => speech(resource, credentials.is_some(), now, &self.scenario),
        };
        let said = Said::read(&control);
        // What somebody was told on a POST, or on another method in disguise, is
        // nobody else's.
        let shared = shared && !asked.is_whole();
        let vary = match refusal {
            Some(_) => Vec::new(),
            None => self.vary(resource, now),
        };
        let variant: Vec<Option<String>> = vary.iter().map(|name| asked.value(name)).collect();
        let version = match micros(resource.changes) {
            0 => self.oracle.next_serial(),
            period => now / period,
        };
        let coding = ["br", "gzip"]
            .into_iter()
            .find(|coding| depends.coding != Dependence::No && asked.accepts_coding(coding));
        let mut content = format!("key {key} variant {variant:?} version {version} ");
        if depends.credentials != Dependence::No || !shared {
            content += &format!("whose {credentials:?} ");
        }
        if depends.unknown != Dependence::No {
            content += &format!("unknown {:?} {:?} ", asked.unknown(), asked.scheme());
            content += &format!("at {:?} ", REWRITING.map(|name| asked.value(name)));
        }
        if depends.accept != Dependence::No {
            content += &format!("media {:?} ", asked.media());
        }
        if let Some(coding) = coding {
            content += &format!("coding {coding} ");
        }
        if asked.is_whole() {
            content += &format!("done {} ", self.oracle.next_serial());
        }
        let etag = format!("\"{:x}\"", fxhash(&content));
        let tagged = resource.validator && refusal.is_none() && !redirected && !asked.is_whole();
        let precondition_failed = tagged && asked.headers.contains_key(header::IF_MATCH);
        let condition = asked
            .headers
            .get(header::IF_NONE_MATCH)
            .filter(|_| tagged && !precondition_failed);
        let matches = condition.is_some_and(|tag| tag.as_bytes() == etag.as_bytes());
        let wrongly = condition.is_some() && !matches && fault == Some(OriginFault::Confirms);
        if wrongly {
            self.oracle.count(Kind::ConfirmedWrongly);
        }
        let status = match &refusal {
            Some(refusal) => refusal.status,
            None if redirected => StatusCode::FOUND,
            None if precondition_failed => StatusCode::PRECONDITION_FAILED,
            None if matches || wrongly => StatusCode::NOT_MODIFIED,
            None => StatusCode::OK,
        };
        let body = match status {
            StatusCode::OK => body_of(&content, resource.size),
            _ => Bytes::new(),
        };
        let sets_cookie = refusal.is_none()
            && match resource.sets_cookie {
                SetsCookie::Never => {
                    resource.speech == Speech::SetCookie
                        || redirected && resource.reply == Reply::Handshake
                }
                SetsCookie::OnContent => status == StatusCode::OK,
                SetsCookie::OnConfirmation => status == StatusCode::NOT_MODIFIED,
                SetsCookie::Always => true,
            };
        let mut response = Response::new(body.clone());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut add = |name: header::HeaderName, text: &str| {
            if let Ok(text) = HeaderValue::from_str(text) {
                headers.append(name, text);
            }
        };
        if !control.is_empty() {
            add(header::CACHE_CONTROL, &control);
        }
        if tagged {
            add(header::ETAG, &etag);
        }
        if !vary.is_empty() {
            add(header::VARY, &vary.join(", "));
        }
        if sets_cookie {
            add(
                header::SET_COOKIE,
                &format!("id={}", self.oracle.next_serial()),
            );
        }
        if status == StatusCode::OK {
            add(header::CONTENT_LENGTH, &body.len().to_string());
            if let Some(coding) = coding {
                add(header::CONTENT_ENCODING, coding);
            }
        }
        let mut to_itself = false;
        if redirected {
            let location = match resource.reply {
                Reply::Redirect => format!("/moved{key}"),
                _ => asked.plain_target(),
            };
            to_itself = location == asked.plain_target();
            add(header::LOCATION, &location);
        }
        if let Some(refusal) = &refusal {
            for (name, value) in refusal.fields(self.date()) {
                add(name, &value);
            }
        }
        if version.is_multiple_of(2) {
            add(header::DATE, &httpdate::fmt_http_date(self.date()));
        }
        let status = match status {
            StatusCode::NOT_MODIFIED => StatusCode::OK,
            status => status,
        };
        let (lifetime, (swr, sie)) = match refusal.is_some() || status != StatusCode::OK {
            // RFC 9111 allows heuristics for a 404 that says nothing.
            true if said.is_silent() && self.scenario.settings.strict => (
                Duration::from_secs(self.scenario.settings.default_ttl),
                (
                    Duration::ZERO,
                    Duration::from_secs(self.scenario.settings.stale_if_error),
                ),
            ),
            true if said.is_silent() => (ERROR_TTL, Default::default()),
            true if refusal.is_some() && self.scenario.settings.strict => (
                said.lifetime,
                (
                    Duration::ZERO,
                    Duration::from_secs(self.scenario.settings.stale_if_error.max(60)),
                ),
            ),
            true if refusal.is_some() => (said.lifetime.min(ERROR_TTL_MAX), Default::default()),
            _ => (
                lifetime(resource, &self.scenario),
                windows(resource, &control, tagged, &self.scenario),
            ),
        };
        let is_error = status.is_client_error() || status.is_server_error();
        let brief = !self.scenario.settings.strict && said.is_silent() && is_error;
        let made = Made {
            key,
            visitor: self.oracle.on_whose_behalf(),
            size: body_size(status, resource),
            asked,
            said,
            shared,
            normal: refusal.is_none(),
            retry_after: refusal.and_then(|refusal| Some(now + micros(refusal.retry_after?))),
            sets_cookie,
            brief,
            confirms: matches || wrongly,
            to_itself,
            depends,
            started,
            at: now,
            status,
            vary: vary.into_iter().zip(variant).collect(),
            content,
            tag: etag,
            lifetime,
            stale_while_revalidate: swr,
            stale_on_error: swr.max(sie),
            no_cache: said.no_cache,
            each_use: said.no_cache || said.is_zero() && swr.is_zero(),
        };
        (response, made)
    }

    /// What the answers of a resource vary on, as they say it.
    fn vary(&self, resource: &Resource, now: Micros) -> Vec<&'static str> {
        let mut vary = resource.vary.to_vec();
        if resource.widens.is_some_and(|at| at <= now) && !vary.contains(&"x-device") {
            vary.push("x-device");
        }
        let depends = resource.depends;
        for (dependence, name) in [
            (depends.credentials, "cookie"),
            (depends.unknown, "x-tenant"),
            (depends.accept, "accept"),
            (depends.coding, "accept-encoding"),
        ] {
            if dependence == Dependence::ByVary {
                vary.push(name);
            }
        }
        if depends.agent {
            vary.push("user-agent");
        }
        vary
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
        if fault == Some(OriginFault::Trickles) && !content.is_empty() {
            flight.streams();
            return self.trickle(content, flight);
        }
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

impl Origin {
    /// A body in small pieces, for a long time. Its lease ends before, so it does not
    /// keep others from the origin.
    fn trickle(&self, content: &Bytes, flight: Rc<Flight>) -> SimBody {
        let mut rest = content.clone();
        let mut parts = VecDeque::new();
        for _ in 0..TRICKLE_PIECES {
            let piece = rest.split_to(TRICKLE_PIECE.min(rest.len()));
            let (least, most) = TRICKLE_PAUSE;
            parts.push_back((self.executor.between(least, most), piece));
        }
        parts.push_back((Duration::ZERO, rest));
        parts.retain(|(_, part)| !part.is_empty());
        let breaks = self.executor.random(fastrand::Rng::bool);
        if breaks {
            parts.pop_back();
        }
        self.oracle.count(Kind::Trickled);
        flight.fails();
        flight.settled();
        SimBody {
            executor: self.executor.clone(),
            parts,
            end: Some(if breaks { End::Breaks } else { End::Whole }),
            flight,
        }
    }
}

/// Whether a `User-Agent` is the shield's own.
fn is_shields(agent: &HeaderValue) -> bool {
    agent.as_bytes().starts_with(b"leeward/")
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

/// How much content belongs to an answer.
fn body_size(status: StatusCode, resource: &Resource) -> usize {
    match status {
        StatusCode::OK => resource.size,
        _ => 0,
    }
}

/// An answer that the origin gives instead of what it was asked for.
struct Refusal {
    status: StatusCode,
    retry_after: Option<Duration>,
    private: bool,
    /// It says itself how long it holds.
    lasts: bool,
    /// What in the request was refused, where others' are not.
    blame: Option<Blame>,
}

impl Refusal {
    fn control(&self, now: Micros) -> String {
        match (self.private, self.lasts && now.is_multiple_of(2)) {
            (true, _) => "private".into(),
            (false, true) => "public, max-age=2, stale-if-error=60".into(),
            (false, false) => String::new(),
        }
    }

    fn fields(&self, now: SystemTime) -> Vec<(header::HeaderName, String)> {
        let mut fields = Vec::new();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                fields.push((header::WWW_AUTHENTICATE, "Basic realm=\"a\"".to_owned()));
            }
            StatusCode::FOUND => {
                fields.push((header::LOCATION, "/error?aspxerrorpath=/".to_owned()));
            }
            _ => {}
        }
        if let Some(after) = self.retry_after {
            let value = match self.status {
                StatusCode::TOO_MANY_REQUESTS => after.as_secs().to_string(),
                _ => httpdate::fmt_http_date(now + after),
            };
            fields.push((header::RETRY_AFTER, value));
        }
        fields
    }
}

/// Whether it comes from where a particular origin wants nobody to come from.
fn dislikes(asked: &Asked) -> bool {
    asked.value("referer").as_deref() == Some(ODD_REFERER)
}

/// What the origin refuses to answer, if it does badly that way.
fn refusal(asked: &Asked, fault: Option<OriginFault>) -> Option<Refusal> {
    let plain = Refusal {
        status: StatusCode::FORBIDDEN,
        retry_after: None,
        private: false,
        lasts: false,
        blame: None,
    };
    match fault? {
        OriginFault::Errors | OriginFault::Flaps => Some(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..plain
        }),
        OriginFault::Unauthorized => {
            let known = asked.headers.contains_key(header::AUTHORIZATION);
            (!known).then_some(Refusal {
                status: StatusCode::UNAUTHORIZED,
                lasts: true,
                ..plain
            })
        }
        OriginFault::Missing => Some(Refusal {
            status: StatusCode::NOT_FOUND,
            ..plain
        }),
        OriginFault::Forbidden => Some(Refusal {
            lasts: true,
            ..plain
        }),
        OriginFault::TooMany => Some(Refusal {
            status: StatusCode::TOO_MANY_REQUESTS,
            retry_after: Some(RETRY_AFTER_MAX),
            ..plain
        }),
        OriginFault::Unavailable => Some(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            // A date has no parts of a second.
            retry_after: Some(RETRY_AFTER_MAX - Duration::from_secs(1)),
            ..plain
        }),
        OriginFault::Redirects => Some(Refusal {
            status: StatusCode::FOUND,
            private: true,
            ..plain
        }),
        OriginFault::Particular => {
            let (status, blame) = if asked.headers.contains_key(ODD_FIELD) {
                (StatusCode::BAD_REQUEST, Blame::Field)
            } else if dislikes(asked) {
                (StatusCode::FORBIDDEN, Blame::Referer)
            } else if asked.media() == Media::Other {
                (StatusCode::NOT_ACCEPTABLE, Blame::Accept)
            } else {
                return None;
            };
            Some(Refusal {
                status,
                blame: Some(blame),
                ..plain
            })
        }
        _ => None,
    }
}

/// `Cache-Control`, and whether what is said may be shared.
fn speech(resource: &Resource, known: bool, now: Micros, scenario: &Scenario) -> (String, bool) {
    let mut text = match resource.speech {
        Speech::Silent => return (String::new(), true),
        Speech::NoStore => return ("no-store".into(), false),
        Speech::Private if scenario.careless => return ("max-age=3".into(), false),
        Speech::Private => return (format!("private, max-age={}", resource.max_age), false),
        Speech::NoCache => return ("no-cache".into(), true),
        Speech::PrivateWithCookie if known => return ("private".into(), false),
        Speech::PrivateAtTimes if (now / 3_000_000).is_multiple_of(2) && now < scenario.healed => {
            return ("private".into(), false);
        }
        Speech::SharedMaxAge => format!("s-maxage={}", resource.max_age),
        Speech::MustRevalidate => format!("max-age={}, must-revalidate", resource.max_age),
        Speech::MaxAge | Speech::SetCookie | Speech::PrivateWithCookie | Speech::PrivateAtTimes => {
            format!("max-age={}", resource.max_age)
        }
    };
    if resource.public {
        text.insert_str(0, "public, ");
    }
    for (name, seconds) in [
        ("stale-while-revalidate", resource.stale_while_revalidate),
        ("stale-if-error", resource.stale_if_error),
    ] {
        if let Some(seconds) = seconds {
            text.push_str(&format!(", {name}={seconds}"));
        }
    }
    (text, true)
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
///
/// The operator's do not apply to a lifetime of zero: with a validator it is used if the
/// origin fails.
fn windows(
    resource: &Resource,
    control: &str,
    tagged: bool,
    scenario: &Scenario,
) -> (Duration, Duration) {
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
    let zero = resource.max_age == 0 && !silent;
    let at_once = if zero {
        0
    } else {
        settings.stale_while_revalidate
    };
    let on_error = match zero && !tagged {
        true => 0,
        false => settings.stale_if_error,
    };
    let (swr, sie) = if control.contains("must-revalidate") || control.contains("no-cache") {
        (0, 0)
    } else if control.contains("s-maxage") {
        match settings.strict {
            true => (0, 0),
            false => (swr.unwrap_or(0), sie.unwrap_or(0)),
        }
    } else if settings.strict {
        (swr.unwrap_or(0), sie.unwrap_or(on_error))
    } else {
        (floor(swr, at_once), floor(sie, on_error))
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
    pub(crate) fn of_visitor(executor: &Executor, parts: &[(u64, &'static str)]) -> Self {
        let parts = parts.iter().map(|(millis, part)| {
            let part = Bytes::from_static(part.as_bytes());
            (Duration::from_millis(*millis), part)
        });
        SimBody {
            executor: executor.clone(),
            parts: parts.collect(),
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
