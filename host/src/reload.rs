//! Settings that change while the node runs: `SIGHUP` and `leeward reload`.
//!
//! A [`Site`] is what answers requests. A reload puts new instances of the component, with
//! the settings as they are now, in place of those with the settings of before. Those
//! finish what they have been given.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;
use wasmtime_wasi_http::handler::ProxyHandler;

use crate::instances::Instances;
use crate::settings::{self, Configuration};
use crate::store::Shares;
use crate::tls::Tls;
use crate::{notify, report, server};

/// What answers requests now.
pub(crate) struct Site {
    serving: RwLock<Arc<Serving>>,
    tls: Option<Tls>,
}

/// Instances of the component with the same settings, and what the host has of those.
pub(crate) struct Serving {
    pub(crate) handler: ProxyHandler<Instances>,
    /// Most bytes of the content of a request.
    pub(crate) request_body: Option<u64>,
}

impl Site {
    /// Requests are answered by `instances`, over TLS if there is a certificate.
    pub(crate) fn new(
        instances: Instances,
        request_body: Option<u64>,
        tls: Option<Tls>,
    ) -> Arc<Self> {
        let serving = Arc::new(Serving::new(instances, request_body));
        Arc::new(Self {
            serving: RwLock::new(serving),
            tls,
        })
    }

    /// What makes the handshake with a visitor that comes now; none without TLS.
    pub(crate) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.tls.as_ref().map(Tls::acceptor)
    }

    /// What answers a request that comes now.
    pub(crate) fn current(&self) -> Arc<Serving> {
        Arc::clone(&self.serving.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on, instances with this configuration answer.
    fn replace(&self, configuration: &Configuration) {
        let old = self.current();
        let instances = old.handler.state().configured(&configuration.text);
        let serving = Arc::new(Serving::new(instances, configuration.request_body));
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = serving;
        old.handler.state().retire();
        self.start(configuration.warms);
    }

    /// Has an instance begin its work before the first visitor comes, if there is any.
    pub(crate) fn start(&self, is_wanted: bool) {
        if !is_wanted {
            return;
        }
        let serving = self.current();
        tokio::spawn(async move {
            let request = server::start_request();
            if let Err(error) = serving.handler.handle(Arc::default(), request).await {
                report::event(
                    "request-failed",
                    format_args!("pages are not fetched at the start: {error:#}"),
                );
            }
        });
    }

    /// Ends every instance as soon as it has nothing to do, and waits until none is left.
    /// That has no bound.
    pub(crate) async fn close(&self) {
        self.current().handler.state().close().await;
    }

    /// From now on, instances that die are not reported: the process ends.
    pub(crate) fn cut(&self) {
        self.current().handler.state().cut();
    }
}

impl Serving {
    fn new(instances: Instances, request_body: Option<u64>) -> Self {
        Self {
            handler: ProxyHandler::new(instances),
            request_body,
        }
    }
}

/// Reads again what can change while the node runs.
pub(crate) struct Reload {
    /// The configuration file, if there is one.
    pub(crate) config: Option<PathBuf>,
    pub(crate) site: Arc<Site>,
    /// What the node takes of the origin's budget while it stands in for its store.
    pub(crate) shares: Shares,
}

impl Reload {
    /// Reloads at each signal, for ever.
    pub(crate) async fn at_each(self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            notify::reloading();
            let outcome = self.once();
            notify::ready();
            match outcome {
                Ok(what) => report::event("reloaded", format_args!("reloaded: {what}")),
                Err(error) => report::event(
                    "not-reloaded",
                    format_args!("not reloaded, the settings of before stay: {error:#}"),
                ),
            }
        }
    }

    /// Reads everything, and then puts it to use, or nothing of it. Returns what was read,
    /// for the log.
    fn once(&self) -> anyhow::Result<String> {
        let configuration = settings::configuration(self.config.as_deref(), |name| {
            settings::environment(name).filter(|text| !text.is_empty())
        })?;
        let tls = self.site.tls.as_ref();
        let certificate = tls.map(|tls| anyhow::Ok((tls, tls.read_again()?)));
        let certificate = certificate.transpose()?;
        configuration.warn();
        self.shares.set(configuration.share);
        self.site.replace(&configuration);
        let mut what = match &self.config {
            Some(path) => format!("new requests have the settings in {}", path.display()),
            None => "there is no --config file, and the environment of a process stays as it is"
                .to_owned(),
        };
        if let Some((tls, certificate)) = certificate {
            tls.show(certificate);
            what.push_str("; new connections get the certificate as it is now");
        }
        Ok(what)
    }
}
