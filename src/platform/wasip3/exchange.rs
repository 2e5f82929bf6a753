//! Requests and responses: the host's types and ours.

use super::body::{End, HostBody, outgoing, written};
use super::client_watch::ClientWatch;
use super::spawn::{Spawning, spawn};
use super::{front, log, request_id};
use crate::platform::host_fields::{REFUSED, append_all, list_of, refused_line, with_added};
use crate::platform::message::{
    announce_nothing, has_content, headers_from, method_from_host, method_to_host, nanos,
    not_set_up, origin_error, plain,
};
use crate::platform::spin_fields::{is_embedded, take_spin_fields, tell_embedded_host};
use crate::semantics::request_target;
use crate::shield::{Answer, Content, OriginError, OriginRequest, Slot};
use crate::world::HostStarts;
use futures::FutureExt;
use http::{HeaderMap, StatusCode, Uri};
use wasip3::http::client;
use wasip3::http::types::{
    ErrorCode, Fields, HeaderError, Method as HostMethod, Request, RequestOptions, Response, Scheme,
};
use wasip3::random::random::get_random_u64;
use wasip3::wit_future;
use wit_bindgen::StreamReader;

struct Leeward;

#[allow(unsafe_code, reason = "exporting a function by name is")]
mod export {
    use super::Leeward;
    wasip3::http::service::export!(Leeward);
}

impl wasip3::exports::http::handler::Guest for Leeward {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        Spawning::new(handle(request)).await
    }
}

async fn handle(request: Request) -> Result<Response, ErrorCode> {
    let answer = match front().await {
        Ok(front) => match incoming(request) {
            Ok(Incoming { request, client }) => {
                let gone = client.map(|client| client.gone().boxed_local());
                front.handle_while(request, gone).await
            }
            Err(error) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        Err(error) => not_set_up(&error, get_random_u64()),
    };
    respond(answer)
}

/// A visitor's request.
struct Incoming {
    request: http::Request<Option<HostBody>>,
    /// Tells when the client has gone, if the host can.
    client: Option<ClientWatch>,
}

fn incoming(request: Request) -> Result<Incoming, http::Error> {
    let method = method_from_host!(HostMethod, request.get_method());
    let path = request.get_path_with_query();
    let target = request_target(&method, path.as_deref());
    let mut uri = Uri::builder().path_and_query(&*target);
    if let Some(authority) = request.get_authority() {
        let scheme = match request.get_scheme() {
            Some(Scheme::Https) => "https",
            Some(Scheme::Http | Scheme::Other(_)) | None => "http",
        };
        uri = uri.scheme(scheme).authority(authority);
    }
    let mut headers = headers_from(request.get_headers().copy_all());
    let told = take_spin_fields(&mut headers, is_embedded());
    let (body, client) = if has_content(&method, &headers, &told) {
        let body = HostBody::new(|handled| Request::consume_body(request, handled));
        (Some(body), None)
    } else {
        (None, told.client_watch.then(|| ClientWatch::new(request)))
    };
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
    let id = told.id.unwrap_or_else(request_id);
    ours.extensions_mut().insert(id);
    Ok(Incoming {
        request: ours,
        client,
    })
}

/// An answer to a visitor.
fn respond(answer: Answer<HostBody>) -> Result<Response, ErrorCode> {
    let (fields, answer) = match fields_from(answer.headers()) {
        Ok(fields) => (fields, answer),
        Err(why) => {
            log(&refused_line(&why));
            let answer = plain(StatusCode::BAD_GATEWAY, REFUSED);
            let fields = fields_from(answer.headers());
            let failed = |why| ErrorCode::InternalError(Some(why));
            (fields.map_err(failed)?, answer)
        }
    };
    let (parts, body) = answer.into_parts();
    let (contents, end, slot) = outgoing(body);
    let (response, sent) = Response::new(fields, contents, end);
    response
        .set_status_code(parts.status.as_u16())
        .map_err(|()| ErrorCode::InternalError(Some("the status is not valid".into())))?;
    keep_alive(sent, slot);
    Ok(response)
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
    let _ = options.set_first_byte_timeout(Some(nanos(first_byte_timeout)));
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
    let (contents, end) = match body {
        Some(content) => content_of(content),
        None => (None, wit_future::new(|| Ok(None)).1),
    };
    let (outgoing, sent) = Request::new(fields, contents, end, Some(options));
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
    keep_alive(sent, None);
    let response = client::send(outgoing).await.map_err(origin_error)?;
    let status = StatusCode::from_u16(response.get_status_code())
        .map_err(|error| OriginError::Failed(error.to_string()))?;
    let headers = headers_from(response.get_headers().copy_all());
    let body = HostBody::new(|handled| Response::consume_body(response, handled));
    let mut ours = http::Response::new(body);
    *ours.status_mut() = status;
    *ours.headers_mut() = headers;
    Ok(ours)
}

/// The content of a request as the host takes it. The host moves the bytes of content that
/// nothing has been read of.
fn content_of(content: Content<HostBody>) -> (Option<StreamReader<u8>>, End) {
    match content.into_unread() {
        Ok(body) => body.into_parts(),
        Err(content) => {
            let (contents, end) = written(content);
            (Some(contents), end)
        }
    }
}

/// Keeps the instance alive while the host transmits a message: the bytes of a
/// body that is only passed on do not pass through any task of ours. Keeps the
/// message's place in the origin's budget as well.
fn keep_alive(sent: impl IntoFuture<Output = Result<(), ErrorCode>> + 'static, slot: Option<Slot>) {
    spawn(async move {
        // The task that reads the message learns of failures.
        let _ = sent.into_future().await;
        drop(slot);
    });
}

fn origin_error(error: ErrorCode) -> OriginError {
    origin_error!(ErrorCode, error)
}

/// The fields of a message for the host.
///
/// # Errors
///
/// Which of them it refuses, for the operator.
fn fields_from(headers: &HeaderMap) -> Result<Fields, String> {
    let list = list_of(headers);
    Fields::from_list(&list).or_else(|_| {
        // Says which.
        let fields = Fields::new();
        append_all(&list, |name, value| fields.append(name, value))?;
        Ok(fields)
    })
}
