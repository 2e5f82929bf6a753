//! Authentication that belongs to a connection, where visitors share the connections to the
//! origin: 501 for what would make one visitor act as another. `semantics::connection_auth`
//! decides, as a pure function.

use super::served::Own;
use super::{Answer, Shield};
use crate::config::Config;
use crate::semantics::{
    Bond, Handling, bond_of_answer, bond_of_request, handling, remove_bound_challenges,
};
use crate::world::{Platform, event};
use http::{HeaderMap, StatusCode};

/// What visitors are told.
const REASON: &str = "NTLM and Negotiate are not served here: they authenticate a connection, \
    and all visitors share the connections to the server of this site";

/// What the log says to do.
const REMEDY: &str = "let the origin offer a scheme that authenticates each request, such as \
    Basic over HTTPS, or a form; or run `leeward up`, which closes such connections; or, if the \
    origin does not tie users to connections, set origin.connection_auth = \"forward\"";

impl<P: Platform> Shield<P> {
    /// Whether a request with these fields is not sent to the origin.
    pub(super) fn refuses_connection_auth(&self, fields: &HeaderMap, config: &Config) -> bool {
        let refuses = self.handling(bond_of_request(fields), config) == Handling::Refuse;
        if refuses {
            self.log_connection_auth("a request had credentials of NTLM or Negotiate");
        }
        refuses
    }

    /// 501 to a request that authenticates its connection, or that was asked to.
    pub(super) fn connection_auth_refused(&self) -> Answer<P::Body> {
        let status = StatusCode::NOT_IMPLEMENTED;
        self.own(Own::ConnectionAuth, status, REASON)
    }

    /// The answer as it may go to the visitor: without an offer that nobody could take.
    pub(super) fn without_connection_auth(
        &self,
        mut answer: Answer<P::Body>,
        config: &Config,
    ) -> Answer<P::Body> {
        let bond = bond_of_answer(answer.status(), answer.headers());
        match self.handling(bond, config) {
            Handling::Forward => answer,
            Handling::WithoutChallenges => {
                remove_bound_challenges(answer.headers_mut());
                answer
            }
            Handling::Refuse => {
                self.log_connection_auth("the origin asks for NTLM or Negotiate and nothing else");
                self.connection_auth_refused()
            }
        }
    }

    fn handling(&self, bond: Bond, config: &Config) -> Handling {
        // Most messages have none, and the host need not be asked.
        match bond {
            Bond::None => Handling::Forward,
            bond => handling(
                bond,
                self.platform.closes_connections(),
                config.origin.connection_auth,
            ),
        }
    }

    /// Once for an instance.
    fn log_connection_auth(&self, problem: &str) {
        if self.connection_auth_logged.replace(true) {
            return;
        }
        self.platform.log(&event(
            "connection-auth-refused",
            &[("problem", problem.into()), ("remedy", REMEDY.into())],
        ));
    }
}
