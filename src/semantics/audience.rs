//! Whom a shared answer is for.

use super::text::field_members;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};

/// Whom an answer is for that was fetched without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// Every visitor: the origin said so, or it is a static file.
    Everyone,
    /// Visitors without credentials. A visitor with credentials may get another
    /// answer from the origin.
    Anonymous,
}

/// Extensions of static files, and the content types that agree with them. A type
/// that ends in `/` stands for all of its subtypes.
const STATIC_FILES: &[(&[&str], &[&str])] = &[
    (&["css"], &["text/css"]),
    (
        &["js", "mjs"],
        &[
            "application/ecmascript",
            "application/javascript",
            "application/x-javascript",
            "text/ecmascript",
            "text/javascript",
        ],
    ),
    (
        &[
            "avif", "bmp", "gif", "ico", "jpeg", "jpg", "png", "svg", "webp",
        ],
        &["image/"],
    ),
    (
        &["eot", "otf", "ttf", "woff", "woff2"],
        &[
            "application/font-woff",
            "application/octet-stream",
            "application/vnd.ms-fontobject",
            "application/x-font-",
            "font/",
        ],
    ),
    (&["m4v", "mp4", "ogv", "webm"], &["video/"]),
    (&["m4a", "mp3", "oga", "ogg", "wav"], &["audio/"]),
    (&["wasm"], &["application/wasm"]),
];

/// Whether an answer is a static file: the extension of its path and its content
/// type agree. Both are needed: an origin that answers `/account/x.css` with a
/// visitor's page sends it as HTML.
pub fn is_static_file(path: &str, response_headers: &HeaderMap) -> bool {
    let Some(types) = static_types(path) else {
        return false;
    };
    is_of_type(response_headers, types)
}

/// Whether a path has the extension of a static file.
pub fn has_static_extension(path: &str) -> bool {
    static_types(path).is_some()
}

/// The content types that agree with the extension of a path; none if it is not that of a
/// static file.
fn static_types(path: &str) -> Option<&'static [&'static str]> {
    let segment = path.rsplit_once('/').map_or(path, |(_, segment)| segment);
    let (stem, extension) = segment.rsplit_once('.')?;
    let extension = extension.to_ascii_lowercase();
    let of_extension = |(extensions, _): &&(&[&str], _)| extensions.contains(&extension.as_str());
    let (_, types) = STATIC_FILES.iter().find(of_extension)?;
    (!stem.is_empty()).then_some(types)
}

/// Whether an answer has one content type, and it is one of `types`.
fn is_of_type(response_headers: &HeaderMap, types: &[&str]) -> bool {
    let mut said = field_members(response_headers, &CONTENT_TYPE);
    let (Some(content_type), None) = (said.next(), said.next()) else {
        return false;
    };
    let Ok(content_type) = std::str::from_utf8(content_type) else {
        return false;
    };
    let content_type = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    types.iter().any(|known| {
        content_type == *known || (known.ends_with(['/', '-']) && content_type.starts_with(known))
    })
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::map;
    use super::*;

    #[test]
    fn extension_and_content_type_have_to_agree() {
        for (path, content_type, expected) in [
            ("/site.css", "text/css", true),
            ("/site.CSS", "Text/CSS; charset=utf-8", true),
            ("/a/b.min.js", "text/javascript", true),
            ("/logo.png", "image/webp", true),
            ("/f.woff2", "font/woff2", true),
            ("/f.woff", "application/x-font-woff", true),
            ("/account/x.css", "text/html", false),
            ("/account/x.css", "", false),
            ("/photo.png", "text/html", false),
            ("/data.json", "application/json", false),
            ("/invoice.pdf", "application/pdf", false),
            ("/css", "text/css", false),
            ("/.css", "text/css", false),
            ("/a.css/", "text/css", false),
            ("/a.css/b", "text/css", false),
        ] {
            let headers = map(&[("content-type", content_type)]);
            assert_eq!(
                is_static_file(path, &headers),
                expected,
                "{path} {content_type}"
            );
        }
        let two = map(&[("content-type", "text/css"), ("content-type", "text/html")]);
        assert!(!is_static_file("/a.css", &two));
        assert!(!is_static_file("/a.css", &HeaderMap::new()));
    }
}
