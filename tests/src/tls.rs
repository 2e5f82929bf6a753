//! TLS in tests: visitors that ask over HTTPS, and an HTTPS server in front of an origin.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A file in `tests/tls`.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tls").join(name)
}

fn certificate(path: &Path) -> Result<CertificateDer<'static>> {
    CertificateDer::from_pem_file(path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// A connection over TLS to `address`, which is to show a certificate of `authority`, and
/// speaks this protocol (`h2` or `http/1.1`).
///
/// # Errors
///
/// If it cannot be made, for instance because the certificate is another one.
pub async fn connect(
    address: SocketAddr,
    authority: &Path,
    protocol: &str,
) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await?;
    let chosen = stream.get_ref().1.alpn_protocol();
    anyhow::ensure!(chosen == Some(protocol.as_bytes()), "it speaks {chosen:?}");
    Ok(stream)
}

/// Asks `address` over HTTPS, by `h2` or `http/1.1`. Returns the answer, whole.
///
/// # Errors
///
/// If there is none.
pub async fn ask(
    address: SocketAddr,
    authority: &Path,
    protocol: &str,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>> {
    let stream = TokioIo::new(connect(address, authority, protocol).await?);
    let response = if protocol == "h2" {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = http1::handshake(stream).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("the body breaks off")?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// An HTTPS server that hands on to an HTTP server. Dropped, it is gone.
#[derive(Debug)]
pub struct Front {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Front {
    /// One with this certificate and key, in front of `origin`.
    ///
    /// # Errors
    ///
    /// If it cannot listen, or the certificate cannot be used.
    pub async fn of(origin: SocketAddr, pem: &Path, key: &Path) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| anyhow!("{error}"))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate(pem)?], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let mut to = TcpStream::connect(origin).await?;
                    tokio::io::copy_bidirectional(&mut stream, &mut to).await
                });
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}
