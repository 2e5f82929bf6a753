//! Asking the origin.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, request};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use leeward::config::{Config, Origin};
use leeward::question::{Outgoing, Question};
use leeward::semantics::LoopId;
use rustls::pki_types::ServerName;

use super::ACCEPT_PAGE;

/// Longest time for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most content of an answer that is compared, in bytes.
const CONTENT_MAX: usize = 16 << 20;

/// Sends requests to an origin.
#[derive(Debug)]
pub(super) struct Asker {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    origin: Origin,
    /// Where it is, if not at its address.
    connect: Option<http::uri::Authority>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    content: Bytes,
    took: Duration,
}

impl Asker {
    pub(super) fn new(origin: &Origin, connect: Option<&str>) -> anyhow::Result<Self> {
        let connect = connect
            .map(|address| {
                address
                    .parse()
                    .with_context(|| format!("--connect {address:?} is not HOST:PORT"))
            })
            .transpose()?;
        let host = origin.authority.host();
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(host).context("the host of --origin is not valid")?;
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let tls = match HttpsConnectorBuilder::new().with_provider_and_native_roots(provider()) {
            Ok(tls) => tls,
            Err(_) => HttpsConnectorBuilder::new()
                .with_provider_and_webpki_roots(provider())
                .context("TLS cannot be used")?,
        };
        let connector = tls
            .https_or_http()
            .with_server_name_resolver(FixedServerNameResolver::new(name))
            .enable_http1()
            .build();
        Ok(Asker {
            client: Client::builder(TokioExecutor::new()).build(connector),
            origin: origin.clone(),
            connect,
        })
    }

    /// Asks a question, as the component does to fill the cache.
    pub(super) async fn fill(&self, question: &Question, config: &Config) -> anyhow::Result<Seen> {
        let outgoing = Outgoing {
            user_agent: &config.origin.user_agent,
            via: config.origin.via.then_some("leeward"),
            loop_id: LoopId::new(&self.origin.to_string(), &config.origin.loop_id),
        };
        self.send(question.fill(None, outgoing).into_parts()).await
    }

    /// Asks for a path as the component forwards a visitor with this field.
    pub(super) async fn forward(
        &self,
        path: &str,
        name: &HeaderName,
        value: &'static str,
    ) -> anyhow::Result<Seen> {
        let uri = Uri::builder()
            .scheme(self.origin.scheme.clone())
            .authority(self.origin.authority.clone())
            .path_and_query(format!("{}{path}", self.origin.prefix))
            .build()?;
        let (parts, ()) = Request::get(uri)
            .header(ACCEPT, ACCEPT_PAGE)
            .header(USER_AGENT, "leeward-explain")
            .header(name, value)
            .body(())?
            .into_parts();
        self.send(parts).await
    }

    async fn send(&self, mut parts: request::Parts) -> anyhow::Result<Seen> {
        let host = HeaderValue::from_str(self.origin.authority.as_str())?;
        parts.headers.entry(HOST).or_insert(host);
        if let Some(connect) = &self.connect {
            let mut uri = parts.uri.into_parts();
            uri.authority = Some(connect.clone());
            parts.uri = Uri::from_parts(uri)?;
        }
        let began = std::time::Instant::now();
        let work = async {
            let request = Request::from_parts(parts, Empty::new());
            let (head, body) = self.client.request(request).await?.into_parts();
            let took = began.elapsed();
            let content = Limited::new(body, CONTENT_MAX).collect().await;
            let content = content
                .map_err(|error| anyhow::anyhow!("the content cannot be read: {error}"))?
                .to_bytes();
            Ok(Seen {
                status: head.status,
                headers: head.headers,
                content,
                took,
            })
        };
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(seen) => seen,
            Err(_) => anyhow::bail!("not within {PATIENCE:?}"),
        }
    }
}

impl Seen {
    /// Status and the fields that decide, on one line.
    pub(super) fn told(&self) -> String {
        let mut told = format!("{} in {} ms", self.status.as_u16(), self.took.as_millis());
        for name in [
            "cache-control",
            "expires",
            "pragma",
            "vary",
            "etag",
            "last-modified",
            "location",
        ] {
            for value in self.headers.get_all(name) {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                let value = value.escape_debug().to_string();
                told.push_str(&format!(", {name}: {value}"));
            }
        }
        for cookie in self.headers.get_all("set-cookie") {
            // The value may be a session.
            let text = String::from_utf8_lossy(cookie.as_bytes()).into_owned();
            let name = text.split('=').next().unwrap_or_default().trim();
            told.push_str(&format!(", set-cookie: {}=…", name.escape_debug()));
        }
        told
    }

    /// Whether another answer has the same status and content.
    pub(super) fn is_like(&self, other: &Seen) -> bool {
        self.status == other.status && self.content == other.content
    }

    /// What differs in another answer.
    pub(super) fn compared_with(&self, other: &Seen) -> String {
        match (self.status == other.status, self.content == other.content) {
            (true, true) => "the same content".to_owned(),
            (true, false) => "other content, so it is not the same for all".to_owned(),
            (false, _) => format!("another status: {}", other.status.as_u16()),
        }
    }
}
