//! The origin's door: the only code that sends a request to the origin.
//!
//! Fills, refreshes, passes and unsafe methods go through it. It knows what is added
//! to every request and how long a request may take, and it writes the log line.
//! Nothing else in the shield knows the platform's `send`.

mod time;

pub(crate) use time::{Pace, Reading, TRICKLE_WINDOW, read, time_left};

use crate::config::{Config, Origin};
use crate::question::{Fill, Outgoing, pass};
use crate::time::{Time, millis};
use crate::world::{Body, OriginError, OriginRequest, Platform, event};
use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use http::{Response, StatusCode, request};
use serde_json::Value;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// The name by which the shield marks requests and answers.
pub(crate) const PSEUDONYM: &str = "leeward";

/// The door of one instance.
#[derive(Debug)]
pub(crate) struct OriginDoor<P: Platform> {
    platform: Rc<P>,
    origin: Origin,
}

/// An answer of the origin, and when it was asked for.
#[derive(Debug)]
pub(crate) struct Answered<B> {
    pub(crate) response: Response<B>,
    /// When the request was sent.
    pub(crate) request_time: Time,
    /// When the head of the answer came.
    pub(crate) response_time: Time,
}

/// A visitor's request on its way to the origin.
#[derive(Debug)]
pub(crate) struct Forwarding<'a, B> {
    pub(crate) parts: &'a request::Parts,
    pub(crate) body: Option<B>,
    /// The visitor's address, where the platform tells it.
    pub(crate) address: Option<IpAddr>,
}

impl<P: Platform> OriginDoor<P> {
    pub(crate) fn new(platform: Rc<P>, origin: Origin) -> Self {
        OriginDoor { platform, origin }
    }

    /// Whom it leads to.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What the settings add to a request.
    pub(crate) fn outgoing(config: &Config) -> Outgoing<'_> {
        Outgoing {
            user_agent: &config.origin.user_agent,
            via: config.origin.via.then_some(PSEUDONYM),
        }
    }

    /// Sends a fill, for at most `origin.first_byte_timeout`.
    pub(crate) async fn fill(
        &self,
        fill: Fill,
        config: &Config,
    ) -> Result<Answered<P::Body>, OriginError> {
        let timeout = config.origin.first_byte_timeout;
        let request = Self::request(fill.into_parts(), None, config, timeout);
        let request_time = self.platform.now();
        let sending = self.platform.send(request);
        let response = self.within(timeout, sending).await?;
        Ok(Answered {
            response,
            request_time,
            response_time: self.platform.now(),
        })
    }

    /// Forwards a visitor's request with its own fields, its content as it comes.
    /// The head of the answer has `origin.pass_timeout`, from the end of the content
    /// on. When that is, only the platform sees: it keeps the time of a request with
    /// content, so that no upload is cut that makes progress.
    pub(crate) async fn forward(
        &self,
        forwarding: Forwarding<'_, P::Body>,
        config: &Config,
    ) -> Result<Answered<P::Body>, OriginError> {
        let Forwarding {
            parts,
            body,
            address,
        } = forwarding;
        let outgoing = Self::outgoing(config);
        let parts = pass::forwarded(parts, body.is_some(), address, &self.origin, outgoing)
            .map_err(|error| OriginError::NotSent(error.to_string()))?;
        let request_time = self.platform.now();
        let (has_content, timeout) = (body.is_some(), config.origin.pass_timeout);
        let request = Self::request(parts, body, config, timeout);
        let sending = self.platform.send(request);
        let response = match has_content {
            true => sending.await?,
            false => self.within(timeout, sending).await?,
        };
        Ok(Answered {
            response,
            request_time,
            response_time: self.platform.now(),
        })
    }

    fn request(
        parts: request::Parts,
        body: Option<P::Body>,
        config: &Config,
        first_byte_timeout: Duration,
    ) -> OriginRequest<P::Body> {
        OriginRequest {
            parts,
            body,
            connect_timeout: config.origin.connect_timeout,
            first_byte_timeout,
            between_bytes_timeout: config.origin.between_bytes_timeout,
        }
    }

    /// The next piece of a body, for at most `origin.between_bytes_timeout`.
    async fn in_time<T>(
        &self,
        config: &Config,
        piece: impl Future<Output = Result<T, OriginError>>,
    ) -> Result<T, OriginError> {
        self.within(config.origin.between_bytes_timeout, piece)
            .await
    }

    /// What the origin does, for at most `limit`.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, OriginError>>,
    ) -> Result<T, OriginError> {
        let timeout = self.platform.sleep(limit);
        match select(pin!(work), pin!(timeout)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => Err(OriginError::Timeout),
        }
    }

    /// Reads the beginning of a body: at least `most` bytes, unless it is shorter.
    pub(crate) async fn peek<B: Body>(
        &self,
        config: &Config,
        mut body: Peeked<B>,
        most: usize,
    ) -> Result<Peeked<B>, OriginError> {
        let mut beginning = BytesMut::new();
        while beginning.len() < most {
            let next = async { body.chunk().await.transpose() };
            match self.in_time(config, next).await? {
                Some(bytes) => beginning.extend_from_slice(&bytes),
                None => {
                    return Ok(Peeked {
                        beginning: Some(beginning.freeze()),
                        rest: None,
                    });
                }
            }
        }
        Ok(Peeked {
            beginning: Some(beginning.freeze()),
            rest: body.rest,
        })
    }

    /// Writes the log line of an exchange.
    pub(crate) fn log(&self, line: &LogLine<'_>) {
        let status = match line.status {
            Ok(status) => status.map_or(Value::Null, |status| status.as_u16().into()),
            Err(_) => Value::Null,
        };
        let mut fields = vec![
            ("reason", line.reason.into()),
            ("method", line.method.into()),
            ("path", line.path.into()),
            ("status", status),
            ("millis", millis(line.took).into()),
        ];
        if let Err(error) = line.status {
            fields.push(("error", error.to_string().into()));
        }
        if let Some(outcome) = line.outcome {
            fields.push(("outcome", outcome.into()));
        }
        if let Some(settled) = line.settled {
            fields.push(("settled", settled.into()));
        }
        self.platform.log(&event("origin", &fields));
    }
}

/// What the log says about an exchange with the origin.
#[derive(Debug)]
pub(crate) struct LogLine<'a> {
    /// Why the origin was asked.
    pub(crate) reason: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// The status of the answer; `None` if there was no exchange.
    pub(crate) status: Result<Option<StatusCode>, &'a OriginError>,
    /// What the answer did to the cell.
    pub(crate) outcome: Option<&'a str>,
    /// How the lease ended.
    pub(crate) settled: Option<&'a str>,
    pub(crate) took: Duration,
}

/// A body whose beginning has been looked at.
#[derive(Debug)]
pub(crate) struct Peeked<B> {
    beginning: Option<Bytes>,
    rest: Option<B>,
}

impl<B> Peeked<B> {
    /// A body that has not been looked at.
    pub(crate) fn whole(body: B) -> Self {
        Peeked {
            beginning: None,
            rest: Some(body),
        }
    }

    /// What has been read.
    pub(crate) fn beginning(&self) -> &[u8] {
        self.beginning.as_deref().unwrap_or_default()
    }

    /// The body itself, if nothing has been taken from it.
    pub(crate) fn into_whole(self) -> Result<B, Self> {
        match self {
            Peeked {
                beginning: None,
                rest: Some(body),
            } => Ok(body),
            peeked => Err(peeked),
        }
    }
}

impl<B: Body> Body for Peeked<B> {
    async fn chunk(&mut self) -> Option<Result<Bytes, OriginError>> {
        match self.beginning.take() {
            Some(beginning) if !beginning.is_empty() => Some(Ok(beginning)),
            Some(_) | None => self.rest.as_mut()?.chunk().await,
        }
    }
}
