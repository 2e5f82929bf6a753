//! Which certificates of the origin are trusted, and what the log says of those that are not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::time::Instant;

use crate::report;

/// Pause between two lines in the log about the same cause.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// How TLS to the origin is done. The authorities of this machine are trusted, or Mozilla's
/// list if the machine has none, and `named`, which `--origin-ca` names.
pub(crate) fn client_config(named: Vec<CertificateDer<'static>>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in &named {
        roots
            .add(certificate.clone())
            .context("a certificate that --origin-ca names cannot be used")?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .context("cannot set up TLS")?;
    let verifier = Verifier {
        inner,
        named,
        reported: Mutex::default(),
    };
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Checks certificates as rustls does. A certificate that the operator has named is trusted
/// for the names in it, also if it says that it is an authority, as those do that
/// `openssl req -x509` makes.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
    /// The cause in the last line in the log, and when that was written.
    reported: Mutex<Option<(String, Instant)>>,
}

impl Verifier {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // Whether it has expired was looked at before.
            Err(error) if is_authority(&error) && self.named.contains(end_entity) => {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                verify_server_name(&parsed, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn report(&self, text: String) {
        let now = Instant::now();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = reported.as_ref().is_some_and(|(known, at)| {
            *known == text && now.saturating_duration_since(*at) < REPORT_EVERY
        });
        if !is_known {
            report::event("origin-certificate", &text);
            *reported = Some((text, now));
        }
    }
}

/// Whether a certificate was refused because it is that of an authority.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    matches!(
        other.0.downcast_ref(),
        Some(webpki::Error::CaUsedAsEndEntity)
    )
}

/// What the log says of a certificate that is refused: the cause, and what to do.
fn refusal(name: &str, error: &Error) -> String {
    let Error::InvalidCertificate(cause) = error else {
        return format!("the certificate of the origin {name} cannot be used: {error}");
    };
    let (cause, remedy) = match cause {
        CertificateError::UnknownIssuer => (
            "its authority is not known here".to_owned(),
            "name the authority's certificate, or a self-signed one itself, with --origin-ca FILE",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "it has expired".to_owned(),
            "renew it at the origin, and check the clock of this machine",
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            "it is not valid yet".to_owned(),
            "check the clocks of the origin and of this machine",
        ),
        CertificateError::NotValidForName => (
            "it is for another name".to_owned(),
            "write --origin with a name in it, and --connect with the address of the server",
        ),
        CertificateError::NotValidForNameContext { presented, .. } => (
            format!("it is for other names: {}", presented.join(", ")),
            "write --origin with a name in it, and --connect with the address of the server",
        ),
        _ if is_authority(error) => (
            "it is that of an authority (CA:TRUE)".to_owned(),
            "name it with --origin-ca FILE if it is self-signed and yours",
        ),
        other => (format!("{other}"), "replace it at the origin"),
    };
    format!("the certificate of the origin {name} is not trusted: {cause}; {remedy}")
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verify(end_entity, intermediates, server_name, ocsp_response, now);
        if let Err(error) = &verified {
            self.report(refusal(&server_name.to_str(), error));
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_log_says_why_a_certificate_is_refused_and_what_to_do() {
        let other = rustls::OtherError(Arc::new(webpki::Error::CaUsedAsEndEntity));
        for (cause, text) in [
            (CertificateError::UnknownIssuer, "--origin-ca FILE"),
            (CertificateError::Expired, "it has expired; renew it"),
            (CertificateError::NotValidYet, "check the clocks"),
            (CertificateError::NotValidForName, "--connect"),
            (CertificateError::Other(other), "--origin-ca FILE"),
        ] {
            let text_of_all = refusal("shop.example", &Error::InvalidCertificate(cause));
            assert!(text_of_all.contains("origin shop.example"), "{text_of_all}");
            assert!(text_of_all.contains(text), "{text_of_all}");
        }
    }
}
