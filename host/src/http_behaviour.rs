//! Whose HTTP the component sees: this host's own, or another's, to try what the component
//! does there.

use http::header::{CONNECTION, HeaderName};
use wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS;

/// Most memory that one set of header fields may take in this host, in bytes:
/// more than the server lets in, so that whatever came in can go on.
const OWN_FIELDS_BYTES_MAX: usize = 1024 * 1024;

/// The same in Spin 4.1, `wasmtime serve` and wasmCloud.
const SPIN_FIELDS_BYTES_MAX: usize = 128 * 1024;

/// How the host treats messages.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HttpBehaviour {
    /// A component may close its connections to the origin, and its host tells it what it
    /// cannot see
    #[default]
    Own,
    /// As Spin's: a component may not set `connection`; a connection to the origin is used
    /// for the next request whatever it carried; whatever ends an exchange before the head of
    /// the answer is a protocol error; the fields of a message take at most 128 KiB; and
    /// visitors may send fields that begin with `spin-`
    Spin,
}

impl HttpBehaviour {
    /// Most memory that one set of header fields may take.
    pub(crate) fn fields_bytes_max(self) -> usize {
        match self {
            Self::Own => OWN_FIELDS_BYTES_MAX,
            Self::Spin => SPIN_FIELDS_BYTES_MAX,
        }
    }

    /// Whether components neither see nor set a field.
    pub(crate) fn forbids(self, name: &HeaderName) -> bool {
        let may_set = self == Self::Own && *name == CONNECTION;
        DEFAULT_FORBIDDEN_HEADERS.contains(name) && !may_set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_may_close_a_connection_here_and_not_on_spin() {
        for (behaviour, name, forbidden) in [
            (HttpBehaviour::Own, "connection", false),
            (HttpBehaviour::Spin, "connection", true),
            (HttpBehaviour::Own, "transfer-encoding", true),
            (HttpBehaviour::Own, "cookie", false),
            (HttpBehaviour::Spin, "cookie", false),
        ] {
            let name = HeaderName::from_static(name);
            assert_eq!(behaviour.forbids(&name), forbidden, "{behaviour:?} {name}");
        }
    }
}
