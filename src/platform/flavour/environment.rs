//! The settings of the flavours for hosts without settings of their own: environment
//! variables.

use crate::platform::defaults;
use crate::platform::setup::SetupError;
use std::env::{VarError, var};

/// How the names of the variables begin.
const PREFIX: &str = "LEEWARD_";

/// The options that have another default.
pub(crate) const DEFAULTS: &[(&str, &str)] = defaults::HUNDRED_FIELDS;

/// A setting, or none if its variable is not set.
pub(crate) async fn variable(name: &'static str) -> Result<Option<String>, SetupError> {
    let variable = format!("{PREFIX}{}", name.to_ascii_uppercase());
    let wrong = |text: String| Err(SetupError::Misconfigured(text));
    match var(&variable) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) if name == "origin" => wrong(format!(
            "the environment variable {variable} is not set; set it to the base URL of the \
             server to protect, for instance {variable}=http://10.0.0.5:8080"
        )),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => wrong(format!(
            "the environment variable {variable} is not valid UTF-8"
        )),
    }
}
