//! What visitors get where nothing stored helps and the origin has no answer.

use super::settings::Reader;
use super::value::{FIELD_VALUE_MAX, integer, type_of};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use toml::Spanned;
use toml::de::DeValue;

/// Most bytes of the content of a fallback.
pub const FALLBACK_BODY_MAX: usize = 64 << 10;

const FALLBACK_KEYS: &[&str] = &["status", "content_type", "body"];

/// What a fallback looks like.
const FALLBACK_EXAMPLE: &str =
    "{ status = 200, content_type = \"application/json\", body = \"{}\" }";

/// What GET and HEAD get where nothing stored helps and the origin has no answer, instead of
/// an error of the shield's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Its status: a successful one, or an error.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: HeaderValue,
    /// The content, at most [`FALLBACK_BODY_MAX`] bytes.
    pub body: Bytes,
}

impl Reader<'_, '_> {
    /// Reads `fallback`: a table, or `false` for none.
    pub(super) fn fallback(&mut self, value: &Spanned<DeValue<'_>>) {
        if value.get_ref().as_bool() == Some(false) {
            self.config.fallback = None;
        } else if let Some(fallback) = self.fallback_table(value) {
            self.config.fallback = Some(fallback);
        }
    }

    fn fallback_table(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Fallback> {
        let at = value.span().start;
        let Some(table) = value.get_ref().as_table() else {
            let message = format!(
                "is a table, not {}; write for instance {FALLBACK_EXAMPLE}",
                type_of(value.get_ref())
            );
            self.problem("fallback", at, message);
            return None;
        };
        let (mut status, mut content_type, mut body) = (None, None, None);
        let mut is_complete = true;
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let read = match name {
                "status" => fallback_status(value.get_ref()).map(|read| status = Some(read)),
                "content_type" => {
                    fallback_content_type(value.get_ref()).map(|read| content_type = Some(read))
                }
                "body" => fallback_body(value.get_ref()).map(|read| body = Some(read)),
                other => {
                    self.unknown_key("fallback", other, key.span().start, FALLBACK_KEYS);
                    is_complete = false;
                    continue;
                }
            };
            if let Err(message) = read {
                self.problem(&format!("fallback.{name}"), value.span().start, message);
                is_complete = false;
            }
        }
        if !is_complete {
            return None;
        }
        let missing = [
            ("status", status.is_none()),
            ("content_type", content_type.is_none()),
            ("body", body.is_none()),
        ];
        if let Some((name, _)) = missing.into_iter().find(|(_, is_missing)| *is_missing) {
            let message = format!("has no {name}; write for instance {FALLBACK_EXAMPLE}");
            self.problem("fallback", at, message);
        }
        Some(Fallback {
            status: status?,
            content_type: content_type?,
            body: body?,
        })
    }
}

/// A status that says all by itself. A redirect needs a target, 401 and 407 a challenge,
/// 204 to 206 and 416 say something about content that there is not.
fn fallback_status(value: &DeValue<'_>) -> Result<StatusCode, String> {
    integer(value)
        .filter(|status| match status {
            204..=206 | 401 | 407 | 416 => false,
            200..=299 | 400..=599 => true,
            _ => false,
        })
        .and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok())
        .ok_or_else(|| {
            "write 200, 203, or an error's status from 400 to 599 but not 401, 407 or 416"
                .to_owned()
        })
}

fn fallback_content_type(value: &DeValue<'_>) -> Result<HeaderValue, String> {
    let wrong = "write a media type, for instance \"application/json\" or \"text/html; \
                 charset=utf-8\"";
    let text = value.as_str().ok_or(wrong)?;
    let is_token = |text: &str| HeaderName::try_from(text).is_ok();
    let media_type = text.split(';').next().unwrap_or_default().trim_end();
    let is_type = media_type
        .split_once('/')
        .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype));
    match HeaderValue::from_str(text) {
        Ok(value) if is_type && text.trim() == text && text.len() <= FIELD_VALUE_MAX => Ok(value),
        Ok(_) | Err(_) => Err(wrong.to_owned()),
    }
}

fn fallback_body(value: &DeValue<'_>) -> Result<Bytes, String> {
    let text = value
        .as_str()
        .ok_or("write the content as a text, for instance \"{}\"")?;
    match text.len() {
        0..=FALLBACK_BODY_MAX => Ok(Bytes::copy_from_slice(text.as_bytes())),
        bytes => Err(format!(
            "has {bytes} bytes; write at most {FALLBACK_BODY_MAX}"
        )),
    }
}
