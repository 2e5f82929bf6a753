//! What an operator asks of a node: that everything is purged.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};

use super::load;

/// Longest time that a purge may take.
const PURGE_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Purges everything, softly, through the admin interface of this node.
///
/// # Errors
///
/// If the node does not answer 200 in time, which says that the store has the purge.
pub(super) async fn purge_all(node: SocketAddr, token: &str) -> anyhow::Result<()> {
    tokio::time::timeout(PURGE_TIME_MAX, post_purge(node, token))
        .await
        .with_context(|| format!("no answer within {PURGE_TIME_MAX:?}"))?
}

async fn post_purge(node: SocketAddr, token: &str) -> anyhow::Result<()> {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/.leeward/purge")
        .header(HOST, node.to_string())
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Full::from(Bytes::from_static(br#"{"all":true}"#)))?;
    let mut connection = load::connect(node).await?;
    let (head, body) = connection
        .requests
        .send_request(request)
        .await?
        .into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
    if head.status != StatusCode::OK {
        bail!(
            "answered {}: {}",
            head.status,
            String::from_utf8_lossy(&body).trim()
        );
    }
    Ok(())
}
