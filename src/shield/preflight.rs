//! CORS preflights: answered with the origin's last good answer to the same question.
//!
//! A stored GET is no use to a browser whose preflight fails. So a preflight asks a
//! question like a GET does, under the same leases, and in cells of its own. Preset
//! `strict` forwards it: HTTP's caches store no answer to OPTIONS.

use super::{Answer, Shield};
use crate::config::Config;
use crate::question::preflight;
use crate::semantics::Preset;
use crate::world::Platform;
use http::Request;
use std::rc::Rc;

impl<P: Platform> Shield<P> {
    /// Answers an OPTIONS: a preflight by its question; others are forwarded.
    pub(super) async fn options(
        self: &Rc<Self>,
        request: Request<Option<P::Body>>,
        config: Rc<Config>,
    ) -> Answer<P::Body> {
        let (parts, body) = request.into_parts();
        let may_ask = body.is_none() && config.policy.preset == Preset::Uptime && !config.pass;
        let asked = match may_ask {
            true => preflight::preflight(&parts, self.door.origin(), &config.key, &config.request),
            false => None,
        };
        match asked {
            Some((plain, visitor)) => {
                self.visit(plain, visitor, config, super::request::Gone(None))
                    .await
            }
            None => {
                let request = Request::from_parts(parts, body);
                self.forward(request, &config).await
            }
        }
    }
}
