//! Requests and responses: the host's types and ours.

use super::bindings::exports::wasi::http::incoming_handler::Guest;
use super::bindings::wasi::http::outgoing_handler;
use super::bindings::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, HeaderError, IncomingRequest, IncomingResponse,
    Method as HostMethod, OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam,
    Scheme,
};
use super::bindings::wasi::random::random::get_random_u64;
use super::body::{Gone, HostBody, Upload, Writer};
use super::{front, log, monotonic, ready, run, sleep, spawn};
use crate::platform::host_fields::{REFUSED, append_all, fits, list_of, refused_line, with_added};
use crate::platform::message::{
    announce_nothing, has_content, headers_from, method_from_host, method_to_host, nanos,
    not_set_up, origin_error, plain,
};
use crate::platform::spin_fields::{is_embedded, take_spin_fields, tell_embedded_host};
use crate::semantics::request_target;
use crate::shield::{Answer, AnswerBody, Body, Content, OriginError, OriginRequest};
use crate::world::{HostStarts, RequestId};
use futures::future::{Either, abortable, select};
use http::{HeaderMap, StatusCode, Uri};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

struct Leeward;

mod export {
    #![allow(
        unsafe_code,
        unreachable_pub,
        reason = "exporting a function by name is"
    )]

    use super::Leeward;
    use crate::platform::wasip2::bindings;

    bindings::export!(Leeward with_types_in bindings);
}

impl Guest for Leeward {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        run(handle(request, response_out));
    }
}

async fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
    let is_head = matches!(request.method(), HostMethod::Head);
    let answer = match front().await {
        Ok(front) => match incoming(request) {
            Ok(request) => front.handle_while(request, None).await,
            Err(error) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        Err(error) => not_set_up(&error, get_random_u64()),
    };
    respond(answer, is_head, response_out).await;
}

fn incoming(request: IncomingRequest) -> Result<http::Request<Option<HostBody>>, http::Error> {
    let method = method_from_host!(HostMethod, request.method());
    let path = request.path_with_query();
    let target = request_target(&method, path.as_deref());
    let mut uri = Uri::builder().path_and_query(&*target);
    if let Some(authority) = request.authority() {
        let scheme = match request.scheme() {
            Some(Scheme::Https) => "https",
            Some(Scheme::Http | Scheme::Other(_)) | None => "http",
        };
        uri = uri.scheme(scheme).authority(authority);
    }
    let mut headers = headers_from(request.headers().entries());
    let told = take_spin_fields(&mut headers, is_embedded());
    let body = match has_content(&method, &headers, &told) {
        true => request.consume().ok(),
        false => None,
    };
    let body = body.and_then(|body| HostBody::new(body, None, None));
    let mut ours = http::Request::new(body);
    *ours.method_mut() = method;
    *ours.uri_mut() = uri.build()?;
    *ours.headers_mut() = headers;
    if told.start {
        ours.extensions_mut().insert(HostStarts);
    }
    if let Some(address) = told.address {
        ours.extensions_mut().insert(address);
    }
    // An instance has one request, so its name costs a call of the host.
    let id = told.id.unwrap_or_else(|| RequestId(get_random_u64()));
    ours.extensions_mut().insert(id);
    Ok(ours)
}

/// Whether an answer has content at all. Hosts compare what is written with
/// `Content-Length`, which the answers that have none may have all the same.
fn may_have_content(is_head: bool, status: StatusCode) -> bool {
    !is_head
        && !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

/// Sends an answer to a visitor.
async fn respond(answer: Answer<HostBody>, is_head: bool, response_out: ResponseOutparam) {
    let internal = |why: String| Err(ErrorCode::InternalError(Some(why)));
    let (fields, answer) = match fields_from(answer.headers()) {
        Ok(fields) => (fields, answer),
        Err(why) => {
            log(&refused_line(&why));
            let answer = plain(StatusCode::BAD_GATEWAY, REFUSED);
            match fields_from(answer.headers()) {
                Ok(fields) => (fields, answer),
                Err(why) => return ResponseOutparam::set(response_out, internal(why)),
            }
        }
    };
    let (parts, body) = answer.into_parts();
    let response = OutgoingResponse::new(fields);
    if response.set_status_code(parts.status.as_u16()).is_err() {
        let error = internal("the status is not valid".to_owned());
        return ResponseOutparam::set(response_out, error);
    }
    let has_content = may_have_content(is_head, parts.status) && !matches!(body, AnswerBody::Empty);
    // A response whose body is not taken out has none.
    let writer = match has_content {
        true => response.body().ok().and_then(Writer::new),
        false => None,
    };
    ResponseOutparam::set(response_out, Ok(response));
    if let Some(writer) = writer {
        // The visitor has gone, or the answer broke off and must not look complete.
        let _ = write_answer(body, writer).await;
    }
}

async fn write_answer(body: AnswerBody<HostBody>, writer: Writer) -> Result<(), Gone> {
    let body = match body {
        AnswerBody::Origin(body) => match body.into_whole() {
            Ok((mut body, slot)) => {
                while let Some(piece) = body.chunk().await {
                    writer.write(&piece.map_err(|_| Gone)?).await?;
                }
                let trailers = body.take_trailers();
                drop(body);
                drop(slot);
                return writer.finish(trailers).await;
            }
            Err(body) => AnswerBody::Origin(body),
        },
        body @ (AnswerBody::Empty | AnswerBody::Full(_) | AnswerBody::Stream(_)) => body,
    };
    let mut body = body;
    while let Some(piece) = body.chunk().await {
        writer.write(&piece.map_err(|_| Gone)?).await?;
    }
    writer.finish(None).await
}

/// Whether the host lets a request close its connection.
pub(super) fn closes_connections() -> bool {
    close(&Fields::new()).is_ok()
}

/// Closes the connection of a message after it.
fn close(fields: &Fields) -> Result<(), HeaderError> {
    fields.append("connection", b"close")
}

/// Whether the host would take the fields of an answer, and what the shield adds to them.
pub(super) fn lets_through(headers: &HeaderMap) -> Result<(), String> {
    fields_from(&with_added(headers)).map(drop)
}

/// Sends a request to the origin. `closes` says whether the host lets it close its
/// connection.
pub(super) async fn send(
    request: OriginRequest<HostBody>,
    closes: bool,
) -> Result<http::Response<HostBody>, OriginError> {
    let refused = |what: &str| OriginError::NotSent(format!("the host refuses the {what}"));
    let OriginRequest {
        reason,
        mut parts,
        body,
        connect_timeout,
        first_byte_timeout,
        between_bytes_timeout,
        alone,
    } = request;
    let options = RequestOptions::new();
    // A host that has no such option leaves timeouts to the shield.
    let _ = options.set_connect_timeout(Some(nanos(connect_timeout)));
    if body.is_none() {
        // Hosts count the time of the content, so with content only we keep it.
        let _ = options.set_first_byte_timeout(Some(nanos(first_byte_timeout)));
    }
    let _ = options.set_between_bytes_timeout(Some(nanos(between_bytes_timeout)));
    if is_embedded() {
        tell_embedded_host(&mut parts, reason, body.is_some());
    }
    if body.is_none() {
        announce_nothing(&mut parts);
    }
    let refused_field = |why: String| refused(&format!("field {why}"));
    let fields = fields_from(&parts.headers).map_err(refused_field)?;
    if alone && closes {
        close(&fields).map_err(|error| refused_field(format!("`connection`: {error}")))?;
    }
    let outgoing = OutgoingRequest::new(fields);
    let scheme = match parts.uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some(_) | None => Scheme::Http,
    };
    outgoing
        .set_method(&method_to_host!(HostMethod, &parts.method))
        .map_err(|()| refused("method"))?;
    outgoing
        .set_scheme(Some(&scheme))
        .map_err(|()| refused("scheme"))?;
    outgoing
        .set_authority(parts.uri.authority().map(|authority| authority.as_str()))
        .map_err(|()| refused("authority"))?;
    outgoing
        .set_path_with_query(parts.uri.path_and_query().map(|path| path.as_str()))
        .map_err(|()| refused("path"))?;
    let content = match body {
        None => None,
        Some(body) => {
            let writer = outgoing.body().ok().and_then(Writer::new);
            Some((body, writer.ok_or_else(|| refused("content"))?))
        }
    };
    let answer = outgoing_handler::handle(outgoing, Some(options)).map_err(from_host)?;
    let progress = Rc::new(Cell::new(monotonic()));
    let (upload, limit) = match content {
        None => (None, None),
        Some((body, writer)) => {
            let sending = upload(body, writer, Rc::clone(&progress));
            let (sending, handle) = abortable(sending);
            spawn(async move {
                let _ = sending.await;
            });
            (Some(Upload::new(handle)), Some(first_byte_timeout))
        }
    };
    let response = head(&answer, &progress, limit).await?;
    let status = StatusCode::from_u16(response.status())
        .map_err(|error| OriginError::Failed(error.to_string()))?;
    let headers = headers_from(response.headers().entries());
    let body = response.consume().ok();
    let body = body.and_then(|body| HostBody::new(body, Some(between_bytes_timeout), upload));
    let body = body.ok_or_else(|| OriginError::Failed("the answer has no body".to_owned()))?;
    let mut ours = http::Response::new(body);
    *ours.status_mut() = status;
    *ours.headers_mut() = headers;
    Ok(ours)
}

/// Waits for the head of an answer; with a limit, for at most that long after the last
/// `progress` of the request's content.
async fn head(
    answer: &FutureIncomingResponse,
    progress: &Cell<Duration>,
    limit: Option<Duration>,
) -> Result<IncomingResponse, OriginError> {
    loop {
        if let Some(result) = answer.get() {
            let twice = |()| OriginError::Failed("the answer was taken before".to_owned());
            return result.map_err(twice)?.map_err(from_host);
        }
        let arrival = pin!(ready(answer.subscribe()));
        let Some(limit) = limit else {
            arrival.await;
            continue;
        };
        let end = progress.get().saturating_add(limit);
        let left = end.saturating_sub(monotonic());
        if left.is_zero() {
            return Err(OriginError::Timeout);
        }
        // Later it may turn out that there was progress meanwhile.
        match select(arrival, pin!(sleep(left))).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }
}

/// Sends the content of a request as it comes. Content that breaks off must not look
/// complete to the origin.
async fn upload(content: Content<HostBody>, writer: Writer, progress: Rc<Cell<Duration>>) {
    let trailers = match content.into_unread() {
        Ok(mut body) => match copy(&mut body, &writer, &progress).await {
            true => body.take_trailers(),
            false => return,
        },
        Err(mut content) => match copy(&mut content, &writer, &progress).await {
            true => None,
            false => return,
        },
    };
    let _ = writer.finish(trailers).await;
    progress.set(monotonic());
}

/// Whether all of a body could be sent.
async fn copy(body: &mut impl Body, writer: &Writer, progress: &Cell<Duration>) -> bool {
    while let Some(piece) = body.chunk().await {
        let Ok(piece) = piece else { return false };
        if writer.write(&piece).await.is_err() {
            return false;
        }
        progress.set(monotonic());
    }
    true
}

fn from_host(error: ErrorCode) -> OriginError {
    origin_error!(ErrorCode, error)
}

/// The fields of a message for the host.
///
/// # Errors
///
/// Which of them it refuses, for the operator.
fn fields_from(headers: &HeaderMap) -> Result<Fields, String> {
    // Beyond its limit the host ends the instance.
    fits(headers)?;
    let list = list_of(headers);
    Fields::from_list(&list).or_else(|_| {
        // Says which.
        let fields = Fields::new();
        append_all(&list, |name, value| fields.append(name, value))?;
        Ok(fields)
    })
}
