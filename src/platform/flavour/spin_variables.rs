//! The settings of the flavours for Spin 4: Spin's variables.

use crate::platform::setup::SetupError;
use spin_sdk::variables;

/// No option has another default.
pub(crate) const DEFAULTS: &[(&str, &str)] = &[];

/// A variable of the platform, or none if it is not set.
pub(crate) async fn variable(name: &'static str) -> Result<Option<String>, SetupError> {
    let problem = |error| format!("the variable `{name}` cannot be read: {error}");
    match variables::get(name).await {
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
