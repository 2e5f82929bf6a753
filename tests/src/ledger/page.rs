//! Requests, and what an origin answers to them, as values: a page is a function of the
//! request alone, so that what a visitor gets without a shield is known.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::client::Ask;
use crate::origin::{Answer, Seen};

/// A request, as a visitor sends it or as the origin gets it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Its header lines.
    pub fields: HeaderMap,
    /// Its content.
    pub content: Bytes,
}

impl Sent {
    /// A GET of a browser: visitors differ in fields that change no page.
    pub fn by(visitor: usize, target: String) -> Self {
        let language = ["de-DE,de;q=0.9", "en-GB,en;q=0.8", "fr"][visitor % 3];
        let sent = Sent {
            method: Method::GET,
            target,
            fields: HeaderMap::new(),
            content: Bytes::new(),
        };
        sent.with("user-agent", &format!("Browser/{visitor}.0"))
            .with("accept-language", language)
            .with("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
            .with("accept-encoding", "gzip, deflate, br")
    }

    /// With this line in the place of those of the same name.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.fields.insert(HeaderName::from_static(name), value);
        self
    }

    /// With the visitor's session.
    #[must_use]
    pub fn in_session_of(self, visitor: usize) -> Self {
        self.with("cookie", &format!("ASP.NET_SessionId=of-{visitor}"))
    }

    /// With this method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// As a POST of a form.
    #[must_use]
    pub fn posting(mut self, form: String) -> Self {
        self.method = Method::POST;
        self.content = form.into();
        self.with("content-type", "application/x-www-form-urlencoded")
    }

    /// A field's value; empty if there is none.
    pub fn field(&self, name: &str) -> &str {
        let value = self.fields.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Whether it has a session.
    pub fn has_session(&self) -> bool {
        self.fields.contains_key("cookie")
    }

    /// Whether it names this entity tag as known.
    pub fn knows(&self, tag: &str) -> bool {
        let known = self.field("if-none-match").trim_start_matches("W/");
        !known.is_empty() && known == tag.trim_start_matches("W/")
    }

    /// As a client sends it.
    pub fn ask(&self) -> Ask {
        Ask::made(&self.method, &self.target, &self.fields, &self.content)
    }
}

impl From<&Seen> for Sent {
    fn from(seen: &Seen) -> Self {
        Sent {
            method: seen.method.clone(),
            target: seen.target.clone(),
            fields: seen.headers.clone(),
            content: seen.content.clone(),
        }
    }
}

/// For whom the origin means a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// For all who get the same content: a perfect cache fetches it once.
    All,
    /// For the one request: a perfect cache asks the origin each time.
    One,
    /// For the one request, and no other has the same content: the origin adds a number.
    OneWithToken,
}

/// What the origin answers to a request.
#[derive(Clone, Debug)]
pub struct Page {
    /// Its status.
    pub status: StatusCode,
    /// Its header lines.
    pub fields: Vec<(&'static str, String)>,
    /// Its content.
    pub body: String,
    /// For whom it is.
    pub whose: For,
    /// How long the origin works for it.
    pub takes: Duration,
    /// Its entity tag on a 200, and on a 304.
    pub tags: Option<(&'static str, &'static str)>,
}

impl Page {
    /// An HTML page.
    pub fn new(whose: For, control: &str, body: String) -> Self {
        let page = Page {
            status: StatusCode::OK,
            fields: Vec::new(),
            body,
            whose,
            takes: Duration::ZERO,
            tags: None,
        };
        let page = page.with("content-type", "text/html; charset=utf-8");
        match control {
            "" => page,
            control => page.with("cache-control", control),
        }
    }

    /// With this status.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// With one more line, in the place of those of the same name.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.retain(|(known, _)| *known != name);
        self.fields.push((name, value.to_owned()));
        self
    }

    /// After so long.
    #[must_use]
    pub fn after(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    /// With an entity tag: as a 200 has it, and as a 304 has it.
    #[must_use]
    pub fn tagged(mut self, whole: &'static str, confirmed: &'static str) -> Self {
        self.tags = Some((whole, confirmed));
        self.with("etag", whole)
    }

    /// A line's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// What the request gets: the page, or that what it knows still holds.
    #[must_use]
    pub fn to(mut self, sent: &Sent) -> Self {
        if let Some((_, tag)) = self.tags.filter(|(tag, _)| sent.knows(tag)) {
            self.body.clear();
            self.fields.retain(|(name, _)| *name != "content-type");
            return self.status(StatusCode::NOT_MODIFIED).with("etag", tag);
        }
        self
    }

    /// As the scripted origin gives it, as the answer number `number` of its path.
    pub(super) fn answer(self, number: usize) -> Answer {
        let body = match self.whose {
            For::OneWithToken => format!("{}{number}", self.body),
            For::All | For::One => self.body,
        };
        let answer = Answer::fixed(body).status(self.status).takes(self.takes);
        let answer = match self.status {
            StatusCode::NOT_MODIFIED => answer.without_length(),
            _ => answer,
        };
        let fields = self.fields.iter();
        fields.fold(answer, |answer, (name, value)| answer.header(name, value))
    }
}
