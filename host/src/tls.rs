//! HTTPS for visitors: the certificate and its key, read at the start and again by a reload.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The name of HTTP/2 in the handshake (RFC 9113 section 3.2).
pub(crate) const HTTP_2: &[u8] = b"h2";

/// The name of HTTP/1.1 in the handshake (RFC 7301 section 6).
const HTTP_1: &[u8] = b"http/1.1";

/// Stands in the label of a key that needs a password.
const ENCRYPTED: &str = "ENCRYPTED";

/// The options about HTTPS for visitors.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TlsOptions {
    /// Serve HTTPS (HTTP/2 and HTTP/1.1) with the certificate in this file, in PEM, followed by those of its
    /// authorities. It is read again by a reload
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The key of the certificate, in PEM, without a password
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// The certificate that is shown to visitors now.
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    acceptor: RwLock<TlsAcceptor>,
}

/// A certificate that was read and checked.
pub(crate) struct Checked(TlsAcceptor);

impl Tls {
    /// Reads the certificate that the options name; none if they name none.
    pub(crate) fn new(options: &TlsOptions) -> anyhow::Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) else {
            return Ok(None);
        };
        let Checked(acceptor) = read(certificate, key)?;
        Ok(Some(Self {
            certificate: certificate.clone(),
            key: key.clone(),
            acceptor: RwLock::new(acceptor),
        }))
    }

    /// What makes the handshake with a visitor that comes now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let acceptor = self.acceptor.read();
        acceptor.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again.
    pub(crate) fn read_again(&self) -> anyhow::Result<Checked> {
        read(&self.certificate, &self.key)
    }

    /// From now on, visitors are shown this one.
    pub(crate) fn show(&self, checked: Checked) {
        let mut acceptor = self.acceptor.write();
        **acceptor.as_mut().unwrap_or_else(|error| error.get_mut()) = checked.0;
    }
}

fn read(certificate: &Path, key: &Path) -> anyhow::Result<Checked> {
    let certificates = certificates(certificate, "--tls-cert")?;
    let private = private_key(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_no_client_auth()
        .with_single_cert(certificates, private);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => anyhow::anyhow!(
            "the key in {} does not belong to the first certificate in {}; write --tls-key with \
             the key that the certificate was made for",
            key.display(),
            certificate.display()
        ),
        error => anyhow::anyhow!(
            "the certificate in {} or its key in {} cannot be used: {error}",
            certificate.display(),
            key.display()
        ),
    })?;
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
    Ok(Checked(TlsAcceptor::from(Arc::new(config))))
}

/// The certificates in a file, at least one. `option` is the one that names the file.
pub(crate) fn certificates(
    path: &Path,
    option: &str,
) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let bytes = bytes(path, option)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.with_context(|| format!("{} is damaged", path.display()))?;
    if found.is_empty() {
        bail!(
            "there is no certificate in {}; write {option} with a PEM file, which has lines \
             with BEGIN CERTIFICATE",
            path.display()
        );
    }
    Ok(found)
}

fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let bytes = bytes(path, "--tls-key")?;
    if let Ok(key) = PrivateKeyDer::from_pem_slice(&bytes) {
        return Ok(key);
    }
    if String::from_utf8_lossy(&bytes).contains(ENCRYPTED) {
        bail!(
            "the key in {} needs a password; write --tls-key with a key without one, as \
             `openssl pkey -in {} -out FILE` makes it",
            path.display(),
            path.display()
        );
    }
    bail!(
        "there is no key in {}; write --tls-key with a PEM file, which has a line with BEGIN \
         PRIVATE KEY",
        path.display()
    )
}

fn bytes(path: &Path, option: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| {
        format!(
            "cannot read {}; write {option} with the name of a PEM file that this user may read",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn given(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/tls")
            .join(name)
    }

    fn options(certificate: &Path, key: &Path) -> TlsOptions {
        TlsOptions {
            tls_cert: Some(certificate.to_owned()),
            tls_key: Some(key.to_owned()),
        }
    }

    #[test]
    fn a_certificate_and_its_key_are_used_and_none_if_none_is_named() {
        let pair = options(&given("server.pem"), &given("server.key"));
        let tls = Tls::new(&pair).unwrap().unwrap();
        tls.show(tls.read_again().unwrap());
        assert!(Tls::new(&TlsOptions::default()).unwrap().is_none());
    }

    #[test]
    fn files_that_cannot_be_used_are_refused_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE \
                         KEY-----\n";
        let damaged = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        let (certificate, key) = (given("server.pem"), given("server.key"));
        let missing = PathBuf::from("/no/such.pem");
        for (certificate, key, text) in [
            (&missing, &key, "cannot read /no/such.pem; write --tls-cert"),
            (
                &certificate,
                &missing,
                "cannot read /no/such.pem; write --tls-key",
            ),
            (&key, &key, "there is no certificate in"),
            (&certificate, &certificate, "there is no key in"),
            (&file("damaged", damaged), &key, "is damaged"),
            (
                &certificate,
                &file("encrypted", encrypted),
                "needs a password",
            ),
            (
                &given("ca.pem"),
                &key,
                "does not belong to the first certificate in",
            ),
        ] {
            let error = Tls::new(&options(certificate, key)).err().unwrap();
            let error = format!("{error:#}");
            assert!(error.contains(text), "{error}");
        }
    }
}
