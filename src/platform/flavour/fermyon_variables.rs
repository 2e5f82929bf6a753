//! The settings of the flavours for Fermyon's and Akamai's clouds: variables of
//! `fermyon:spin@2`.

use crate::platform::setup::SetupError;
use crate::platform::wasip2::bindings::fermyon::spin::variables;

/// A variable of the platform, or none if it is not set.
pub(crate) async fn variable(name: &'static str) -> Result<Option<String>, SetupError> {
    let problem = |error| format!("the variable `{name}` cannot be read: {error}");
    match variables::get(name) {
        Ok(value) => Ok(Some(value)),
        Err(variables::Error::Undefined(_)) => Ok(None),
        Err(error @ variables::Error::InvalidName(_)) => {
            Err(SetupError::Misconfigured(problem(error)))
        }
        // A provider of variables may be out of reach for a while.
        Err(error @ (variables::Error::Provider(_) | variables::Error::Other(_))) => {
            Err(SetupError::Unreadable(problem(error)))
        }
    }
}
