//! The requests to the origin, counted.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use leeward::platform::spin_fields::REASON;
use leeward::world::RequestReason;
use wasmtime_wasi_http::{Error, WasiBody};

use super::observed;

/// What became of a request to the origin: the label `outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OriginOutcome {
    Informational,
    Success,
    Redirect,
    ClientError,
    ServerError,
    /// It did not answer in time.
    Timeout,
    /// No connection.
    Unreachable,
    /// The connection ended without an answer, or the answer was not HTTP.
    Broken,
    /// Nobody waited for the answer any more.
    Gone,
}

impl OriginOutcome {
    pub(super) const ALL: [OriginOutcome; 9] = [
        OriginOutcome::Informational,
        OriginOutcome::Success,
        OriginOutcome::Redirect,
        OriginOutcome::ClientError,
        OriginOutcome::ServerError,
        OriginOutcome::Timeout,
        OriginOutcome::Unreachable,
        OriginOutcome::Broken,
        OriginOutcome::Gone,
    ];

    /// The label.
    pub(super) fn name(self) -> &'static str {
        match self {
            OriginOutcome::Informational => "1xx",
            OriginOutcome::Success => "2xx",
            OriginOutcome::Redirect => "3xx",
            OriginOutcome::ClientError => "4xx",
            OriginOutcome::ServerError => "5xx",
            OriginOutcome::Timeout => "timeout",
            OriginOutcome::Unreachable => "unreachable",
            OriginOutcome::Broken => "broken",
            OriginOutcome::Gone => "gone",
        }
    }

    /// Whether the origin failed.
    pub(super) fn is_failure(self) -> bool {
        match self {
            OriginOutcome::ServerError
            | OriginOutcome::Timeout
            | OriginOutcome::Unreachable
            | OriginOutcome::Broken => true,
            OriginOutcome::Informational
            | OriginOutcome::Success
            | OriginOutcome::Redirect
            | OriginOutcome::ClientError
            | OriginOutcome::Gone => false,
        }
    }

    fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            0..200 => OriginOutcome::Informational,
            200..300 => OriginOutcome::Success,
            300..400 => OriginOutcome::Redirect,
            400..500 => OriginOutcome::ClientError,
            _ => OriginOutcome::ServerError,
        }
    }

    fn of_error(error: &Error) -> Self {
        match error {
            Error::ConnectionTimeout
            | Error::ConnectionReadTimeout
            | Error::ConnectionWriteTimeout
            | Error::HttpResponseTimeout => OriginOutcome::Timeout,
            Error::DnsTimeout
            | Error::DnsError { .. }
            | Error::DestinationNotFound
            | Error::DestinationUnavailable
            | Error::DestinationIpUnroutable
            | Error::ConnectionRefused
            | Error::TlsProtocolError
            | Error::TlsCertificateError
            | Error::TlsAlertReceived { .. } => OriginOutcome::Unreachable,
            // The visitor's content broke off.
            Error::HttpRequestBodySize(_) => OriginOutcome::Gone,
            _ => OriginOutcome::Broken,
        }
    }
}

/// A request at the origin, until its answer ends.
#[derive(Debug)]
pub(crate) struct OriginExchange {
    /// Why it is sent; none where the component does not say.
    reason: Option<RequestReason>,
    began: Instant,
    is_answered: bool,
}

impl OriginExchange {
    /// A request with these fields is sent. Removes what the component says of it to the host.
    pub(crate) fn begin(fields: &mut HeaderMap) -> Self {
        let said = fields.remove(REASON);
        let reason = said.and_then(|said| {
            let mut all = RequestReason::ALL.into_iter();
            all.find(|reason| said == reason.token())
        });
        if let Some(observed) = observed() {
            observed.metrics.sent();
        }
        OriginExchange {
            reason,
            began: Instant::now(),
            is_answered: false,
        }
    }

    /// There is no answer.
    pub(crate) fn failed(mut self, error: &Error) {
        self.note(OriginOutcome::of_error(error));
    }

    /// The head of the answer has come.
    pub(crate) fn answered(
        mut self,
        response: http::Response<WasiBody>,
    ) -> http::Response<WasiBody> {
        self.note(OriginOutcome::of_status(response.status()));
        response.map(|body| {
            let exchange = (!body.is_end_stream()).then_some(self);
            Counted { body, exchange }.boxed_unsync()
        })
    }

    fn note(&mut self, outcome: OriginOutcome) {
        if std::mem::replace(&mut self.is_answered, true) {
            return;
        }
        if let Some(observed) = observed() {
            let after = self.began.elapsed();
            observed
                .metrics
                .origin_answered(self.reason, outcome, after);
        }
    }
}

impl Drop for OriginExchange {
    fn drop(&mut self) {
        self.note(OriginOutcome::Gone);
        if let Some(observed) = observed() {
            observed.metrics.origin_ended();
        }
    }
}

/// The body of an answer. The exchange ends with it.
struct Counted {
    body: WasiBody,
    exchange: Option<OriginExchange>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.exchange = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_and_error_has_a_label() {
        for (status, name) in [
            (101, "1xx"),
            (200, "2xx"),
            (304, "3xx"),
            (429, "4xx"),
            (503, "5xx"),
            (999, "5xx"),
        ] {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            assert_eq!(OriginOutcome::of_status(status).name(), name, "{status}");
        }
        for (error, name, is_failure) in [
            (Error::ConnectionReadTimeout, "timeout", true),
            (Error::ConnectionRefused, "unreachable", true),
            (Error::TlsCertificateError, "unreachable", true),
            (Error::ConnectionTerminated, "broken", true),
            (Error::HttpRequestBodySize(None), "gone", false),
        ] {
            let outcome = OriginOutcome::of_error(&error);
            assert_eq!((outcome.name(), outcome.is_failure()), (name, is_failure));
        }
    }
}
