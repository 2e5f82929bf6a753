//! The component in its sandbox: the engine that compiles it, the interfaces
//! that it is given, and the state of each instance.
//!
//! It is given WASI 0.2 and 0.3 without files, sockets or arguments, `wasi:http` through
//! [`crate::outbound`], and what the platforms of all flavours give: one key-value
//! store, one SQLite database, one Redis server, and a few variables, which are in the
//! environment too.

mod bindings;
mod component;
mod engine;
mod flavour;
mod keyvalue;
mod log;
mod redis;
mod sqlite;
mod state;
mod variables;
mod wasmcloud;

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::error::Context as _;
use wasmtime::{Result, bail};
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};
use wasmtime_wasi_http::{p2, p3};

pub(crate) use self::component::Component;
pub(crate) use self::engine::INSTANCES_MAX;
use self::keyvalue::KeyValue;
pub(crate) use self::redis::RedisServers;
pub(crate) use self::state::GuestState;
pub(crate) use self::variables::Variables;
use crate::limits::Limiter;
use crate::outbound::Outbound;
use crate::store::{Database, Store};

/// Turns after which a guest lets others go on.
const TURNS_AT_ONCE: u64 = 1;

/// A component that is compiled and linked, ready to be instantiated.
pub(crate) struct Guest {
    engine: wasmtime::Engine,
    pre: Arc<ProxyPre<GuestState>>,
    services: Services,
}

/// What all instances share.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) store: Store,
    /// None if the store is on a Redis server.
    pub(crate) database: Option<Database>,
    pub(crate) redis: RedisServers,
    pub(crate) variables: Variables,
    pub(crate) outbound: Outbound,
    pub(crate) limiter: Limiter,
}

impl Guest {
    /// Compiles and links `source`.
    pub(crate) fn load(source: &Component, services: Services) -> Result<Self> {
        let engine = engine::engine(source.compiled())?;
        let component = source.compile(&engine)?;
        let component_type = component.component_type();
        let imports = component_type.imports(&engine);
        let imports: Vec<_> = imports.map(|(name, _)| name.to_owned()).collect();
        let platform = services.limiter.platform();
        let pre = match link(&engine)?.instantiate_pre(&component) {
            Ok(pre) => pre,
            Err(error) => {
                let text = format!("{error:#}");
                let is_named = |import: &&String| text.contains(&format!("`{import}`"));
                let named = imports.iter().find(is_named);
                let named = named.map_or("an interface", String::as_str);
                let reason = flavour::unknown(named, &imports, platform);
                return Err(error.context(format!("{source} cannot run: {reason}")));
            }
        };
        let named = flavour::Services {
            database: services.database.is_some(),
            redis: !services.redis.is_empty(),
        };
        if let Some(reason) = flavour::refusal(&imports, platform, named) {
            bail!("{source} cannot run: {reason}");
        }
        let pre = match p3::bindings::ServicePre::new(pre.clone()) {
            Ok(pre) => ProxyPre::P3(pre),
            Err(_) => ProxyPre::P2(p2::bindings::ProxyPre::new(pre).with_context(|| {
                format!(
                    "{source} answers no HTTP requests: it exports neither wasi:http/handler@0.3 \
                     nor wasi:http/incoming-handler@0.2"
                )
            })?),
        };
        Ok(Self {
            engine,
            pre: Arc::new(pre),
            services,
        })
    }

    /// The same component with another configuration.
    pub(crate) fn configured(&self, config: &str) -> Self {
        Self {
            engine: self.engine.clone(),
            pre: Arc::clone(&self.pre),
            services: Services {
                variables: self.services.variables.configured(config),
                ..self.services.clone()
            },
        }
    }

    /// Whether an instance can be handed several requests at once.
    pub(crate) fn is_concurrent(&self) -> bool {
        matches!(*self.pre, ProxyPre::P3(_))
    }

    /// A new instance, which holds `slot` as long as it lives.
    pub(crate) async fn instantiate(
        &self,
        slot: OwnedSemaphorePermit,
    ) -> Result<(wasmtime::Store<GuestState>, Proxy)> {
        let state = GuestState::new(self.services.clone(), slot);
        let mut store = wasmtime::Store::new(&self.engine, state);
        store.limiter(|state| state.limits());
        store.set_epoch_deadline(TURNS_AT_ONCE);
        store.epoch_deadline_async_yield_and_update(TURNS_AT_ONCE);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok((store, proxy))
    }
}

fn link(engine: &wasmtime::Engine) -> Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    p2::add_only_http_to_linker_async(&mut linker)?;
    p3::add_to_linker(&mut linker)?;
    let l = &mut linker;
    bindings::spin_key_value::add_to_linker::<_, KeyValue>(l, GuestState::key_value)?;
    bindings::fermyon_key_value::add_to_linker::<_, KeyValue>(l, GuestState::key_value)?;
    bindings::wasi_store::add_to_linker::<_, KeyValue>(l, GuestState::key_value)?;
    bindings::atomics::add_to_linker::<_, KeyValue>(l, GuestState::key_value)?;
    bindings::wasmcloud::types::add_to_linker::<_, KeyValue>(l, GuestState::key_value)?;
    bindings::wasmcloud::store::add_to_linker::<_, KeyValue>(l, GuestState::key_value)?;
    bindings::wasmcloud::cas::add_to_linker::<_, KeyValue>(l, GuestState::key_value)?;
    bindings::spin_sqlite::add_to_linker::<_, sqlite::Sqlite>(l, GuestState::sqlite)?;
    bindings::fermyon_sqlite::add_to_linker::<_, sqlite::Sqlite>(l, GuestState::sqlite)?;
    bindings::spin_redis::add_to_linker::<_, redis::Redis>(l, GuestState::redis)?;
    bindings::fermyon_redis::add_to_linker::<_, redis::Redis>(l, GuestState::redis)?;
    bindings::spin_variables::add_to_linker::<_, HasSelf<Variables>>(l, GuestState::variables)?;
    bindings::fermyon_variables::add_to_linker::<_, HasSelf<Variables>>(l, GuestState::variables)?;
    Ok(linker)
}
