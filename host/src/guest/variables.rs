//! `spin:variables` and `fermyon:spin/variables`: what the operator set, as the guest
//! reads it. Flavours without either read it from their environment.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf};

use super::bindings::fermyon_variables;
use super::bindings::spin_variables::{Error, Host, HostWithStore};

/// The variable with the configuration.
const CONFIG: &str = "config";

/// Variables that are in the environment too, with their names there.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("origin", "LEEWARD_ORIGIN"),
    (CONFIG, "LEEWARD_CONFIG"),
    ("admin_token", "LEEWARD_ADMIN_TOKEN"),
];

/// The variables by name.
#[derive(Debug, Clone)]
pub(crate) struct Variables(Arc<BTreeMap<&'static str, String>>);

impl Variables {
    /// These variables and no others.
    pub(crate) fn new(values: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self(Arc::new(values.into_iter().collect()))
    }

    /// The same variables with another configuration.
    pub(super) fn configured(&self, config: &str) -> Self {
        let mut variables = BTreeMap::clone(&self.0);
        variables.insert(CONFIG, config.to_owned());
        Self(Arc::new(variables))
    }

    /// The environment of the guest: some of the variables, under names that no other
    /// program uses.
    pub(super) fn environment(&self) -> Vec<(&'static str, &str)> {
        let named = ENVIRONMENT.into_iter().filter_map(|(variable, name)| {
            let value = self.0.get(variable)?;
            Some((name, value.as_str()))
        });
        named.collect()
    }

    fn get(&self, name: &str) -> Result<String, Error> {
        if !is_name(name) {
            return Err(Error::InvalidName(format!(
                "{name:?}: a name starts with a lower-case letter and goes on with lower-case \
                 letters, digits and single underscores"
            )));
        }
        self.0
            .get(name)
            .cloned()
            .ok_or_else(|| Error::Undefined(format!("no variable {name:?}")))
    }
}

/// Spin's rule for names of variables.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.ends_with('_')
        && !name.contains("__")
}

impl Host for Variables {}

impl fermyon_variables::Host for Variables {
    async fn get(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<String, fermyon_variables::Error>> {
        Ok(Variables::get(self, &name).map_err(|error| match error {
            Error::InvalidName(text) => fermyon_variables::Error::InvalidName(text),
            Error::Undefined(text) => fermyon_variables::Error::Undefined(text),
            Error::Provider(text) => fermyon_variables::Error::Provider(text),
            Error::Other(text) => fermyon_variables::Error::Other(text),
        }))
    }
}

impl<T> HostWithStore<T> for HasSelf<Variables> {
    async fn get(
        accessor: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<String, Error>> {
        Ok(accessor.with(|mut access| access.get().get(&name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_has_what_flavours_without_variables_need_and_nothing_else() {
        let variables = Variables::new([
            ("origin", "http://a".to_owned()),
            ("redis_address", "redis://:secret@b".to_owned()),
            ("config", String::new()),
        ]);
        let expected = vec![("LEEWARD_ORIGIN", "http://a"), ("LEEWARD_CONFIG", "")];
        assert_eq!(variables.environment(), expected);
    }

    #[test]
    fn another_configuration_leaves_the_other_variables_and_who_has_the_old_one() {
        let old = Variables::new([
            ("origin", "http://a".to_owned()),
            ("config", "old".to_owned()),
        ]);
        let new = old.configured("new");
        assert!(matches!(new.get("config"), Ok(text) if text == "new"));
        assert!(matches!(new.get("origin"), Ok(text) if text == "http://a"));
        assert!(matches!(old.get("config"), Ok(text) if text == "old"));
    }

    #[test]
    fn a_variable_is_found_undefined_or_ill_named() {
        let variables = Variables::new([("origin", "http://a".to_owned())]);
        assert!(matches!(variables.get("origin"), Ok(value) if value == "http://a"));
        assert!(matches!(variables.get("orig"), Err(Error::Undefined(_))));
        for name in ["", "Origin", "1a", "_a", "a_", "a__b", "a-b"] {
            assert!(
                matches!(variables.get(name), Err(Error::InvalidName(_))),
                "{name:?}"
            );
        }
    }
}
