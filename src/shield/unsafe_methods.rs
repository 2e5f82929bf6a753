//! Requests of other methods than GET and HEAD. They wait for the beginning of their content,
//! which for most is all of it, and then for a place in the origin's budget; the rest
//! streams both ways. An answer that is not an error invalidates what is stored for its
//! target (RFC 9111 section 4.4), before the answer ends.

use super::answer::assemble;
use super::own_answer::Delivery;
use super::request::{Gone, address_of};
use super::served::{Own, Served};
use super::{Answer, Shield};
use crate::budget::Class;
use crate::cell::transition::Purge;
use crate::cells::Backing;
use crate::config::{Config, Invalidated, Invalidation};
use crate::origin::{Forwarding, LogLine, Named, NoAnswer, OriginBody, Slot, refused, status_of};
use crate::purges::Scope;
use crate::question::{destination, is_secure, is_served, key_of, location};
use crate::semantics::{
    Forward, Hop, Target, announced, count_hop, invalidation_targets, is_safe,
    strip_connection_fields,
};
use crate::time::Time;
use crate::world::{Content, Platform};
use futures::future::{Either, select};
use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode, request};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// How much of a request's content is read before the request waits for a place in the
/// origin's budget, in bytes. More than most forms have. The host bounds the requests of an
/// instance, and so the sum.
const CONTENT_FIRST: usize = 256 << 10;

/// How long the beginning of content of unknown length is waited for.
const CONTENT_PAUSE: Duration = Duration::from_secs(1);

/// The methods that are at least served here, as `Allow` names them; unknown ones
/// are forwarded too.
const METHODS: &str = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE";

impl<P: Platform> Shield<P> {
    /// Forwards a request to the origin, and its answer back.
    pub(super) async fn forward(
        self: &Rc<Self>,
        request: Request<Option<P::Body>>,
        config: &Rc<Config>,
    ) -> Answer<P::Body> {
        let (mut visitor, body) = request.into_parts();
        if count_hop(&visitor.method, &mut visitor.headers) == Hop::Answer {
            return self.answer_as_the_last_hop(&visitor.method);
        }
        if !is_served(&visitor, &config.key) {
            return self.misdirected(&visitor);
        }
        if self.refuses_connection_auth(&visitor.headers, config) {
            return self.connection_auth_refused();
        }
        let mut body = match self.read_first(&visitor, body).await {
            Ok(body) => body,
            Err(error) => return self.not_sent(&visitor, &error, config),
        };
        let limit = self.platform.now().plus(config.wait.budget);
        let path = visitor.uri.path();
        let slot = match self
            .admit_with(&mut body, Class::Unsafe, path, limit, &Gone(None))
            .await
        {
            Ok(slot) => slot,
            Err(error) => return self.not_sent(&visitor, &error, config),
        };
        let is_whole = body.as_ref().is_none_or(Content::is_read);
        let began = self.platform.now();
        let forwarding = Forwarding {
            parts: &visitor,
            body,
            address: address_of(&visitor),
        };
        let answered = self.door.forward(forwarding, slot, config).await;
        self.door.log(&LogLine {
            reason: "method",
            method: visitor.method.as_str(),
            path: visitor.uri.path(),
            named: Some(&Named::of(&visitor)),
            status: status_of(&answered),
            outcome: refused(&answered),
            settled: None,
            took: self.platform.now().since(began),
        });
        let mut answered = match answered {
            Ok(answered) => answered,
            Err(error) => {
                let delivery = Delivery::after(&error, is_whole);
                return self.no_answer(&visitor, &error, delivery, Forward::Method, config);
            }
        };
        location::rewrite(answered.response.headers_mut(), self.door.origin());
        self.invalidate(&visitor, &answered.response, config).await;
        let forwarded = match visitor.method == Method::POST {
            true => self.forwarded(&visitor, &answered, config),
            false => None,
        };
        let (parts, body, stored) = match forwarded {
            Some(forwarded) => {
                self.keep_post(forwarded, target(&visitor), answered.response)
                    .await
            }
            None => {
                let (parts, body) = answered.response.into_parts();
                let body = self.to_visitor(&parts.headers, body, config);
                (parts, body, false)
            }
        };
        let mut headers = parts.headers;
        strip_connection_fields(&mut headers);
        let served = Served::Forwarded {
            status: parts.status,
            stored,
        };
        assemble(parts.status, headers, body, served, Backing::Shared)
    }

    /// The answer to a request of which nothing was sent.
    fn not_sent(
        &self,
        visitor: &request::Parts,
        error: &NoAnswer,
        config: &Config,
    ) -> Answer<P::Body> {
        self.no_answer(visitor, error, Delivery::NotSent, Forward::Method, config)
    }

    /// Reads the beginning of a request's content, before the request waits for a place in
    /// the origin's budget: a visitor that sends slowly does not keep one. Content of unknown
    /// length may be one half of a conversation, so it is not waited for.
    pub(super) async fn read_first(
        &self,
        visitor: &request::Parts,
        body: Option<P::Body>,
    ) -> Result<Option<Content<P::Body>>, NoAnswer> {
        let Some(body) = body else {
            return Ok(None);
        };
        let mut content = Content::unread(body);
        let read = {
            let reading = pin!(content.read(CONTENT_FIRST));
            match announced(&visitor.headers) {
                Some(_) => reading.await,
                None => match select(reading, pin!(self.platform.sleep(CONTENT_PAUSE))).await {
                    Either::Left((read, _)) => read,
                    Either::Right(_) => Ok(()),
                },
            }
        };
        // Content breaks off where its client leaves.
        read.map_err(|_| NoAnswer::Gone)?;
        Ok(Some(content).filter(|content| !content.is_empty()))
    }

    /// Waits for a place in the origin's budget, and reads the beginning of the request's
    /// content meanwhile: what has been read does not keep the place for its visitor.
    pub(super) async fn admit_with(
        &self,
        content: &mut Option<Content<P::Body>>,
        class: Class,
        target: &str,
        limit: Time,
        gone: &Gone,
    ) -> Result<Slot, NoAnswer> {
        let admitted = self.admit(class, target, limit, gone);
        let Some(content) = content else {
            return admitted.await;
        };
        let reading = pin!(content.read(CONTENT_FIRST));
        match select(pin!(admitted), reading).await {
            Either::Left((admitted, _)) => admitted,
            Either::Right((Ok(()), admitted)) => admitted.await,
            Either::Right((Err(_), _)) => Err(NoAnswer::Gone),
        }
    }

    /// The answer to TRACE and OPTIONS whose last hop this is (RFC 9110 section
    /// 7.6.2). TRACE would show a visitor what proxies in front have added to the
    /// request.
    fn answer_as_the_last_hop(&self, method: &Method) -> Answer<P::Body> {
        let (status, text) = match *method {
            Method::TRACE => (StatusCode::METHOD_NOT_ALLOWED, "TRACE is not served here"),
            _ => (StatusCode::OK, "a shield in front of the origin"),
        };
        let mut answer = self.own(Own::MaxForwards, status, text);
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(METHODS));
        answer
    }

    /// Makes what is stored for the targets of an unsafe request invalid.
    async fn invalidate(
        self: &Rc<Self>,
        visitor: &request::Parts,
        response: &Response<OriginBody<P::Body>>,
        config: &Config,
    ) {
        if is_safe(&visitor.method) {
            return;
        }
        let purge = match config.invalidate {
            Invalidation::Invalidate => Purge::Invalidate,
            Invalidation::Refresh => Purge::Soft,
            Invalidation::Nothing => return,
        };
        let target = target(visitor);
        let mut paths = invalidation_targets(
            target,
            &visitor.method,
            response.status(),
            response.headers(),
        );
        // An editor that lost a race has to read the new version.
        let lost_race = matches!(
            response.status(),
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED
        );
        if lost_race {
            paths.push(target.path_and_query.to_owned());
        }
        if !paths.is_empty() {
            // What a WebDAV COPY or MOVE has made, or has found there.
            paths.extend(destination(visitor));
            self.invalidate_others(&config.invalidates, purge, &mut paths)
                .await;
        }
        for path in paths {
            let key = self.key(target.scheme, target.host, &path);
            self.cells.purge(key, purge).await;
        }
    }

    /// Makes invalid what a rule names besides, and adds the single paths of it to `paths`.
    async fn invalidate_others(
        self: &Rc<Self>,
        invalidates: &[Invalidated],
        purge: Purge,
        paths: &mut Vec<String>,
    ) {
        let mut prefixes = Vec::new();
        for invalidated in invalidates {
            match invalidated {
                Invalidated::Path(path) => paths.push(path.clone()),
                Invalidated::Prefix(prefix) => prefixes.push(Scope::Prefix(prefix.clone())),
            }
        }
        if !prefixes.is_empty() {
            self.cells.purge_scopes(&prefixes, purge).await;
        }
    }

    /// The key of a target.
    pub(crate) fn key(&self, scheme: &str, host: &str, path_and_query: &str) -> String {
        let path = crate::question::target::path_of(path_and_query);
        let rule = self.config_for(&Method::GET, path);
        key_of(
            self.door.origin(),
            scheme,
            Some(host),
            path_and_query,
            &rule.key,
        )
    }
}

/// What a request is for.
fn target(visitor: &request::Parts) -> Target<'_> {
    let host = visitor
        .uri
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| {
            let host = visitor.headers.get(http::header::HOST)?;
            host.to_str().ok()
        })
        .unwrap_or_default();
    Target {
        scheme: match is_secure(&visitor.uri, &visitor.headers) {
            true => "https",
            false => "http",
        },
        host,
        path_and_query: visitor
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str()),
    }
}
