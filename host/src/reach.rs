//! Whether the origin can be reached when the host starts: a wrong address is
//! better told at once than by every visitor.

use std::time::Duration;

use anyhow::{Context as _, bail};
use leeward::config::Origin;
use tokio::net::{TcpStream, lookup_host};

/// How long the origin may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects to the origin, and says what to check if it cannot be reached.
pub(crate) async fn try_origin(origin: &Origin) -> anyhow::Result<()> {
    let default_port = if origin.scheme == http::uri::Scheme::HTTPS {
        443
    } else {
        80
    };
    let port = origin.authority.port_u16().unwrap_or(default_port);
    let host = origin.authority.host();
    let attempt = tokio::time::timeout(CONNECT_TIMEOUT, connect(host, port)).await;
    let failure = match attempt {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => anyhow::anyhow!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
    };
    bail!(
        "the origin {origin} cannot be reached: {failure:#}. Check that the server runs and \
         answers on port {port}, and write its address as --origin http://HOST:PORT or \
         https://HOST; to start although it is down, add --allow-unreachable-origin"
    )
}

async fn connect(host: &str, port: u16) -> anyhow::Result<()> {
    // An IPv6 address is in brackets in a URL and without them elsewhere.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = lookup_host((host, port))
        .await
        .with_context(|| format!("the name {host} does not resolve"))?;
    let mut failure = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) => Err(error.into()),
        None => bail!("the name {host} has no address"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn an_origin_that_listens_is_reached_and_one_that_stopped_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let origin = Origin::parse(&url).unwrap();
        try_origin(&origin).await.unwrap();
        drop(listener);
        let text = format!("{:#}", try_origin(&origin).await.unwrap_err());
        assert!(text.contains("--allow-unreachable-origin"), "{text}");
        assert!(text.contains(&url), "{text}");
    }
}
