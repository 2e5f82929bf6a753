//! Whether the origin can be reached when the host starts. A wrong address is
//! reported once at the start, besides the failure of each request.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::uri::Scheme;
use leeward::config::Origin;
use rustls::ClientConfig;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::address::Address;

/// How long the origin may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects to the origin: to `connect` if it is given, else to the address in
/// the URL. The error says what to check.
///
/// TLS is tried as `tls` says. What that does not trust it reports by itself.
pub(crate) async fn try_origin(
    origin: &Origin,
    connect: Option<&Address>,
    tls: ClientConfig,
) -> anyhow::Result<()> {
    let implied = Address::of_origin(origin);
    let address = connect.unwrap_or(&implied);
    let attempt = tokio::time::timeout(CONNECT_TIMEOUT, try_connect(address)).await;
    let failure = match attempt {
        Ok(Ok(stream)) => {
            if origin.scheme == Scheme::HTTPS {
                let name = implied.host().to_owned();
                let trying = try_tls(stream, name, tls);
                drop(tokio::time::timeout(CONNECT_TIMEOUT, trying).await);
            }
            return Ok(());
        }
        Ok(Err(error)) => error,
        Err(_) => anyhow::anyhow!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
    };
    let (at, option) = match connect {
        Some(address) => (format!(" at {address}"), "--connect HOST:PORT"),
        None => (String::new(), "--origin http://HOST:PORT or https://HOST"),
    };
    bail!(
        "the origin {origin} cannot be reached{at}: {failure:#}. Check that the server runs and \
         answers on port {}, and that its address is written as {option}",
        address.port()
    )
}

async fn try_tls(stream: TcpStream, name: String, tls: ClientConfig) -> anyhow::Result<()> {
    let name = name.trim_matches(['[', ']']).to_owned();
    let connector = TlsConnector::from(Arc::new(tls));
    connector.connect(name.try_into()?, stream).await?;
    Ok(())
}

async fn try_connect(address: &Address) -> anyhow::Result<TcpStream> {
    let host = address.host();
    let candidates = lookup_host((host, address.port()))
        .await
        .with_context(|| format!("the name {host} does not resolve"))?;
    let mut failure = None;
    for candidate in candidates {
        match TcpStream::connect(candidate).await {
            Ok(stream) => return Ok(stream),
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

    use tokio::net::TcpListener;

    use super::*;

    fn tls() -> ClientConfig {
        crate::outbound::client_config(Vec::new()).unwrap()
    }

    #[tokio::test]
    async fn an_origin_that_listens_is_reached_and_one_that_stopped_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let origin = Origin::parse(&url).unwrap();
        try_origin(&origin, None, tls()).await.unwrap();
        drop(listener);
        let text = format!("{:#}", try_origin(&origin, None, tls()).await.unwrap_err());
        assert!(text.contains(&url), "{text}");
        assert!(text.contains("--origin http://HOST:PORT"), "{text}");
    }

    #[tokio::test]
    async fn the_connect_address_is_tried_instead_of_the_origins_own() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let origin = Origin::parse("http://legacy.invalid").unwrap();
        try_origin(&origin, Some(&address), tls()).await.unwrap();
        drop(listener);
        let error = try_origin(&origin, Some(&address), tls())
            .await
            .unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains(&format!("at {address}")), "{text}");
        assert!(text.contains("--connect HOST:PORT"), "{text}");
    }
}
