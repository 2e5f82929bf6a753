//! Whether the imports of a component fit this host, the platform whose limits are
//! imposed, and the services that the operator named. What does not fit is refused with
//! the remedy.

use crate::limits::Platform;

/// The flavours that can be told by their imports: the name of each, and how the name of
/// an interface begins that it alone has.
const MARKS: [(&str, &str); 6] = [
    ("spin", "spin:key-value/"),
    ("spin-sqlite", "spin:sqlite/"),
    ("spin-redis", "spin:redis/"),
    ("fermyon-cloud", "fermyon:spin/sqlite@"),
    ("akamai", "fermyon:spin/key-value@"),
    ("wasmcloud", "wasmcloud:keyvalue/"),
];

/// What a component needs that the operator has to name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Services {
    /// Whether there is a SQLite database.
    pub(super) database: bool,
    /// Whether there is a Redis server.
    pub(super) redis: bool,
}

/// The flavour with these imports, if they tell.
fn flavour_of(imports: &[String]) -> Option<&'static str> {
    let has = |mark: &str| imports.iter().any(|import| import.starts_with(mark));
    (MARKS.iter()).find_map(|(flavour, mark)| has(mark).then_some(*flavour))
}

/// The flavours that run on a platform, the usual one first.
fn flavours(platform: Platform) -> &'static [&'static str] {
    match platform {
        Platform::None => &[
            "spin",
            "spin-sqlite",
            "spin-redis",
            "fermyon-cloud",
            "akamai",
            "wasmcloud",
            "wasi",
        ],
        Platform::Spin => &[
            "spin",
            "spin-sqlite",
            "spin-redis",
            "fermyon-cloud",
            "akamai",
            "wasi",
        ],
        Platform::FermyonCloud => &["fermyon-cloud"],
        Platform::Akamai => &["akamai"],
    }
}

/// Whether a platform has an interface that this host offers.
fn offers(platform: Platform, import: &str) -> bool {
    let is_wasi_2 = import.starts_with("wasi:")
        && import.contains("@0.2.")
        && !import.starts_with("wasi:keyvalue/");
    let is_fermyon = import.starts_with("fermyon:spin/");
    match platform {
        Platform::None => true,
        Platform::Spin => !import.starts_with("wasmcloud:"),
        Platform::FermyonCloud => is_wasi_2 || is_fermyon,
        Platform::Akamai => is_wasi_2 || is_fermyon && !import.starts_with("fermyon:spin/sqlite@"),
    }
}

/// What is wrong with the import of an interface that this host lacks.
pub(super) fn unknown(import: &str, imports: &[String], platform: Platform) -> String {
    let remedy = remedy(imports, platform);
    format!("it asks for {import}, which this host does not offer; {remedy}")
}

/// What is wrong with the imports, all of which this host offers.
pub(super) fn refusal(
    imports: &[String],
    platform: Platform,
    services: Services,
) -> Option<String> {
    let mut lacking = imports.iter().filter(|import| !offers(platform, import));
    // An interface of another platform says more than one of a version of WASI.
    if let Some(import) = lacking
        .clone()
        .find(|import| !import.starts_with("wasi:"))
        .or_else(|| lacking.next())
    {
        let remedy = remedy(imports, platform);
        return Some(format!(
            "it asks for {import}, which {platform} does not offer; {remedy}"
        ));
    }
    let has = |mark: &str| imports.iter().any(|import| import.starts_with(mark));
    if !services.database && (has("spin:sqlite/") || has("fermyon:spin/sqlite@")) {
        return Some(
            "it uses a SQLite database, and the store is on a Redis server; write --store \
             sqlite:PATH or --store memory"
                .to_owned(),
        );
    }
    if !services.redis && has("spin:redis/") {
        return Some(
            "it connects to a Redis server by itself, and none is named; write --store \
             redis://HOST:PORT or set SPIN_VARIABLE_REDIS_ADDRESS"
                .to_owned(),
        );
    }
    None
}

fn remedy(imports: &[String], platform: Platform) -> String {
    let fitting = flavours(platform);
    let usual = fitting.first().unwrap_or(&"spin");
    let found = match flavour_of(imports) {
        Some(flavour) => format!("it is of flavour {flavour}, and "),
        None => String::new(),
    };
    format!(
        "{found}these flavours run here: {}. Build one with `cargo build --release --target \
         wasm32-wasip2 --no-default-features --features {usual}`",
        fitting.join(", ")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const ALL: Services = Services {
        database: true,
        redis: true,
    };

    fn imports(own: &[&str]) -> Vec<String> {
        let common = ["wasi:clocks/wall-clock@0.2.6", "wasi:io/streams@0.2.6"];
        let all = common.iter().chain(own);
        all.map(|&import| import.to_owned()).collect()
    }

    /// The flavours with what each imports.
    fn table() -> [(&'static str, Vec<String>); 6] {
        [
            (
                "spin",
                imports(&[
                    "wasi:http/types@0.3.0",
                    "spin:key-value/key-value@3.0.0",
                    "spin:variables/variables@3.0.0",
                    "wasi:keyvalue/atomics@0.2.0-draft2",
                ]),
            ),
            (
                "spin-sqlite",
                imports(&["wasi:http/types@0.3.0", "spin:sqlite/sqlite@3.1.0"]),
            ),
            (
                "spin-redis",
                imports(&["wasi:http/types@0.3.0", "spin:redis/redis@3.0.0"]),
            ),
            (
                "fermyon-cloud",
                imports(&["wasi:http/types@0.2.0", "fermyon:spin/sqlite@2.0.0"]),
            ),
            (
                "akamai",
                imports(&[
                    "wasi:http/types@0.2.0",
                    "fermyon:spin/key-value@2.0.0",
                    "fermyon:spin/redis@2.0.0",
                ]),
            ),
            (
                "wasmcloud",
                imports(&["wasi:http/types@0.3.0", "wasmcloud:keyvalue/cas@0.2.0"]),
            ),
        ]
    }

    #[test]
    fn a_flavour_is_told_by_its_imports() {
        for (flavour, imports) in table() {
            assert_eq!(flavour_of(&imports), Some(flavour));
        }
        assert_eq!(flavour_of(&imports(&["wasi:http/types@0.3.0"])), None);
    }

    #[test]
    fn a_platform_runs_its_flavours_and_refuses_others_with_the_right_one() {
        for platform in [
            Platform::None,
            Platform::Spin,
            Platform::FermyonCloud,
            Platform::Akamai,
        ] {
            for (flavour, imports) in table() {
                let refused = refusal(&imports, platform, ALL);
                // Fermyon Cloud has the key-value store of flavour akamai too, with few keys.
                let fits = flavours(platform).contains(&flavour)
                    || (platform, flavour) == (Platform::FermyonCloud, "akamai");
                assert_eq!(refused.is_none(), fits, "{flavour}: {refused:?}");
                if let Some(text) = refused {
                    let right = format!("--features {}`", flavours(platform)[0]);
                    assert!(text.contains(&right), "{text}");
                    assert!(text.contains(&format!("of flavour {flavour},")), "{text}");
                    assert!(text.contains(&platform.to_string()), "{text}");
                    assert!(!text.contains("asks for wasi:"), "{text}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_interface_is_named() {
        let imports = imports(&["wasi:config/store@0.2.0", "spin:key-value/key-value@3.0.0"]);
        let text = unknown("wasi:config/store@0.2.0", &imports, Platform::None);
        assert!(text.contains("wasi:config/store@0.2.0"), "{text}");
        assert!(text.contains("of flavour spin,"), "{text}");
    }

    #[test]
    fn a_service_that_nobody_named_is_asked_for() {
        let none = Services {
            database: false,
            redis: false,
        };
        for (flavour, remedy) in [
            ("spin", None),
            ("spin-sqlite", Some("--store sqlite:PATH")),
            ("spin-redis", Some("--store redis://HOST:PORT")),
            ("fermyon-cloud", Some("--store sqlite:PATH")),
            // It has the key-value store too.
            ("akamai", None),
            ("wasmcloud", None),
        ] {
            let (_, imports) = (table().into_iter())
                .find(|(name, _)| *name == flavour)
                .unwrap();
            let refused = refusal(&imports, Platform::None, none);
            assert_eq!(refused.is_some(), remedy.is_some(), "{flavour}");
            if let (Some(text), Some(remedy)) = (refused, remedy) {
                assert!(text.contains(remedy), "{text}");
            }
        }
    }
}
