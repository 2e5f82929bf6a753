//! Where connections to the origin go: `--connect`.

use std::task::{Context, Poll};

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use tower_service::Service;

use crate::address::Address;

/// Another address for connections to the origin. The requests themselves, and
/// the name in the origin's certificate, are not affected.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    origin: Address,
    connect: Authority,
}

impl Route {
    /// Connections to `origin` go to `connect`. Returns `None` if `connect`
    /// cannot stand in a URL.
    pub(crate) fn new(origin: Address, connect: &Address) -> Option<Self> {
        Some(Self {
            origin,
            connect: Authority::try_from(connect.to_string()).ok()?,
        })
    }

    /// Returns where a connection for a request to `uri` goes.
    fn destination(&self, uri: Uri) -> Uri {
        if Address::of_uri(&uri).as_ref() != Some(&self.origin) {
            return uri;
        }
        let mut parts = uri.clone().into_parts();
        parts.authority = Some(self.connect.clone());
        parts.scheme.get_or_insert(Scheme::HTTP);
        parts
            .path_and_query
            .get_or_insert(PathAndQuery::from_static("/"));
        Uri::from_parts(parts).unwrap_or(uri)
    }
}

/// A connector that follows a [`Route`]. It has to be inside the connector that
/// does TLS, which takes the certificate's name from the URI that it is given.
#[derive(Debug, Clone)]
pub(super) struct Routed<C> {
    pub(super) connector: C,
    pub(super) route: Option<Route>,
}

impl<C: Service<Uri>> Service<Uri> for Routed<C> {
    type Response = C::Response;
    type Error = C::Error;
    type Future = C::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> C::Future {
        let destination = match &self.route {
            Some(route) => route.destination(uri),
            None => uri,
        };
        self.connector.call(destination)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn only_connections_to_the_origin_are_redirected() {
        let origin = "legacy.example.com:80".parse().unwrap();
        let route = Route::new(origin, &"10.0.0.5:8080".parse().unwrap()).unwrap();
        for (uri, destination) in [
            ("http://legacy.example.com", "http://10.0.0.5:8080/"),
            ("http://Legacy.Example.com:80/", "http://10.0.0.5:8080/"),
            (
                "http://legacy.example.com:81/",
                "http://legacy.example.com:81/",
            ),
            ("https://legacy.example.com/", "https://legacy.example.com/"),
            ("http://other.example.com/", "http://other.example.com/"),
        ] {
            let routed = route.destination(uri.parse().unwrap());
            assert_eq!(routed.to_string(), destination, "{uri}");
        }
    }
}
