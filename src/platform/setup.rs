//! What an instance makes once, from settings that it may fail to read.

use crate::admin::FrontSettings;
use crate::budget::SettingsMark;
use crate::config::{Config, Origin};
use crate::world::event;

/// Why it could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// The settings are wrong. They stay wrong for the life of the instance.
    Misconfigured(String),
    /// The settings could not be read this time.
    Unreadable(String),
}

impl SetupError {
    /// The line for the operator's log.
    pub fn log_line(&self) -> String {
        let (kind, text) = match self {
            SetupError::Misconfigured(text) => ("misconfigured", text),
            SetupError::Unreadable(text) => ("settings-unreadable", text),
        };
        event(kind, &[("error", text.as_str().into())])
    }
}

/// Reads what the operator sets from the platform's variables `origin`, `config` and
/// `admin_token`. `variable` returns none for a variable that is not set. Some options have
/// other defaults on the platform, see [`Config::parse_over`].
///
/// # Errors
///
/// What is wrong with them, for the operator, or why they could not be read.
pub async fn read(
    defaults: &[(&str, &str)],
    variable: impl AsyncFn(&'static str) -> Result<Option<String>, SetupError>,
) -> Result<FrontSettings, SetupError> {
    let origin = variable("origin").await?.ok_or_else(|| {
        SetupError::Misconfigured(
            "the variable `origin` is not set; set it to the base URL of the server to protect, \
             for instance SPIN_VARIABLE_ORIGIN=http://10.0.0.5:8080"
                .to_owned(),
        )
    })?;
    let origin = Origin::parse(&origin).map_err(misconfigured)?;
    let text = variable("config").await?.unwrap_or_default();
    let config = Config::parse_over(defaults, &text).map_err(misconfigured)?;
    Ok(FrontSettings {
        mark: SettingsMark::of(&origin.to_string(), &text),
        origin,
        config,
        admin_token: variable("admin_token").await?,
    })
}

fn misconfigured(error: impl std::fmt::Display) -> SetupError {
    SetupError::Misconfigured(error.to_string())
}

/// The outcome of the instance's setup, once it is definite.
#[derive(Debug)]
pub struct Setup<T>(Option<Result<T, String>>);

impl<T: Clone> Setup<T> {
    /// Nothing has been tried yet.
    pub const fn new() -> Self {
        Setup(None)
    }

    /// The definite outcome, or none if the next request has to try.
    pub fn outcome(&self) -> Option<Result<T, SetupError>> {
        let outcome = self.0.clone()?;
        Some(outcome.map_err(SetupError::Misconfigured))
    }

    /// Notes what an attempt has made, and returns what its request goes on
    /// with: the outcome of another request's attempt if that has ended first,
    /// because all requests have to use the same one.
    ///
    /// # Errors
    ///
    /// The definite error, or what kept this attempt from reading the settings.
    /// The latter is not kept.
    pub fn note(&mut self, made: Result<T, SetupError>) -> Result<T, SetupError> {
        if let Some(outcome) = self.outcome() {
            return outcome;
        }
        self.0 = match &made {
            Ok(value) => Some(Ok(value.clone())),
            Err(SetupError::Misconfigured(problem)) => Some(Err(problem.clone())),
            Err(SetupError::Unreadable(_)) => None,
        };
        made
    }
}

impl<T: Clone> Default for Setup<T> {
    fn default() -> Self {
        Setup::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misconfigured() -> SetupError {
        SetupError::Misconfigured("no origin".to_owned())
    }

    fn unreadable() -> SetupError {
        SetupError::Unreadable("the provider is down".to_owned())
    }

    #[test]
    fn a_setting_that_could_not_be_read_once_is_tried_again() {
        let mut setup = Setup::new();
        assert_eq!(setup.note(Err(unreadable())), Err(unreadable()));
        assert_eq!(setup.outcome(), None);
        assert_eq!(setup.note(Ok(1)), Ok(1));
        assert_eq!(setup.outcome(), Some(Ok(1)));
    }

    #[test]
    fn the_first_definite_outcome_stays() {
        for first in [Ok(1), Err(misconfigured())] {
            let mut setup = Setup::new();
            assert_eq!(setup.note(first.clone()), first);
            for later in [Ok(2), Err(misconfigured()), Err(unreadable())] {
                assert_eq!(setup.note(later), first);
            }
            assert_eq!(setup.outcome(), Some(first));
        }
    }
}
