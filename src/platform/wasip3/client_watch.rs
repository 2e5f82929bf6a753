//! Whether the client of a request is still there.

use super::body::HostBody;
use crate::shield::Body;
use wasip3::http::types::Request;

/// Tells when the client of a request has gone.
///
/// The embedded host gives a request without content a stream that carries no
/// bytes. It stays open until the request is answered, and breaks off if the client
/// goes before that. On other hosts there is none.
pub(super) struct ClientWatch(Request);

impl std::fmt::Debug for ClientWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ClientWatch").finish()
    }
}

impl ClientWatch {
    /// The watch of a request for which the host says that it has one. It costs
    /// nothing until [`ClientWatch::gone`] is awaited.
    pub(super) fn new(request: Request) -> Self {
        ClientWatch(request)
    }

    /// Resolves when the client has gone. Never resolves if the request is answered
    /// first. A client that sent bytes where there should be none counts as there.
    ///
    /// Dropping the future ends the watch. It has to be dropped when the answer is
    /// there: a read that is under way keeps the instance busy.
    pub(super) async fn gone(self) {
        let ClientWatch(request) = self;
        let mut body = HostBody::new(|handled| Request::consume_body(request, handled));
        if !matches!(body.chunk().await, Some(Err(_))) {
            std::future::pending::<()>().await;
        }
    }
}
