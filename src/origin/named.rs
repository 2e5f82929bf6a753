//! A visitor's request as the log names it.

use crate::events::url;
use crate::world::RequestId;
use http::{Method, Request, request};
use serde_json::Value;

/// What a line of the log says about which request it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    id: Option<RequestId>,
    method: Method,
    url: String,
}

impl Named {
    /// The name of a visitor's request.
    pub(crate) fn of(parts: &request::Parts) -> Self {
        Named {
            id: parts.extensions.get().copied(),
            method: parts.method.clone(),
            url: url(&parts.uri, &parts.headers),
        }
    }

    /// The same of one that is in one piece.
    pub(crate) fn of_request<B>(request: &Request<B>) -> Self {
        Named {
            id: request.extensions().get().copied(),
            method: request.method().clone(),
            url: url(request.uri(), request.headers()),
        }
    }

    /// What a line says of it that has no other method.
    pub(crate) fn with_method(&self) -> Vec<(&'static str, Value)> {
        let mut fields = self.fields();
        fields.push(("method", self.method.as_str().into()));
        fields
    }

    /// What a line says of it.
    pub(crate) fn fields(&self) -> Vec<(&'static str, Value)> {
        let mut fields = vec![("url", self.url.as_str().into())];
        fields.extend(self.id.map(|id| ("request", id.to_string().into())));
        fields
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_line_names_the_request_as_the_host_does() {
        let mut request = Request::get("http://a/b?c").body(()).unwrap();
        let url = ("url", Value::from("a/b?c"));
        let alone = Named::of_request(&request).fields();
        assert_eq!(alone.first(), Some(&url));
        assert_eq!(alone.len(), 1);
        let method = ("method", Value::from("GET"));
        assert!(Named::of_request(&request).with_method().contains(&method));
        request.extensions_mut().insert(RequestId(0xa5));
        let id = ("request", Value::from("00000000000000a5"));
        assert_eq!(
            Named::of_request(&request).fields(),
            [url.clone(), id.clone()]
        );
        let (parts, ()) = request.into_parts();
        assert_eq!(Named::of(&parts).fields(), [url, id]);
    }
}
