//! `spin:variables`: what the operator set, as the guest reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf};

use super::bindings::spin_variables::{Error, Host, HostWithStore};

/// The variables by name.
#[derive(Debug, Clone)]
pub(crate) struct Variables(Arc<BTreeMap<&'static str, String>>);

impl Variables {
    /// These variables and no others.
    pub(crate) fn new(values: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self(Arc::new(values.into_iter().collect()))
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
