//! The component that is run: the one that this program holds, or a file.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use wasmtime::error::Context as _;
use wasmtime::{Engine, Result, component};

/// Where compiled components are kept, beside the file that holds the component: whoever can
/// write there could as well replace it.
const COMPILED: &str = ".leeward-compiled";

/// The variable with the folder that systemd makes for a service with `CacheDirectory=`. It
/// belongs to the service alone.
const CACHE_DIRECTORY: &str = "CACHE_DIRECTORY";

/// The component in this program, if it was built with one.
#[cfg(embedded)]
const EMBEDDED: Option<&[u8]> = Some(include_bytes!(env!("LEEWARD_EMBEDDED")));
#[cfg(not(embedded))]
const EMBEDDED: Option<&[u8]> = None;

/// Which component is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Component {
    /// The one in this program.
    Embedded(&'static [u8]),
    /// The one in this file.
    File(PathBuf),
}

impl Component {
    /// The one in this program, if there is one.
    pub(crate) fn embedded() -> Option<Self> {
        EMBEDDED.map(Self::Embedded)
    }

    pub(super) fn compile(&self, engine: &Engine) -> Result<component::Component> {
        match self {
            Self::Embedded(bytes) => component::Component::from_binary(engine, bytes),
            Self::File(path) => component::Component::from_file(engine, path),
        }
        .with_context(|| {
            format!(
                "{self} is no WebAssembly component; build one with \
                 `cargo build --release --target wasm32-wasip2`"
            )
        })
    }

    /// Where it is kept when it is compiled; none where that is not known.
    pub(super) fn compiled(&self) -> Option<PathBuf> {
        let holder = match self {
            Self::File(path) => path.clone(),
            Self::Embedded(_) => {
                if let Some(folders) = std::env::var_os(CACHE_DIRECTORY) {
                    return std::env::split_paths(&folders).next();
                }
                std::env::current_exe().ok()?
            }
        };
        let folder = holder.canonicalize().ok()?;
        folder.parent().map(|folder: &Path| folder.join(COMPILED))
    }
}

impl Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(_) => f.write_str("the component in this program"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}
