//! What the host keeps for one instance of the component.

use leeward::platform::spin_fields::EMBEDDED_HOST;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::keyvalue::{KeyValueState, KeyValueView};
use super::log::LogStream;
use super::redis::{RedisState, RedisView};
use super::sqlite::{SqliteState, SqliteView};
use super::{Services, Variables};
use crate::http_behaviour::HttpBehaviour;
use crate::limits::{Limit, Limiter, Platform};
use crate::outbound::Outbound;

/// Bounds the memories of an instance.
#[derive(Debug)]
pub(super) struct MemoryLimiter(Limiter);

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let is_within = desired <= self.0.limits().memory_bytes;
        if !is_within && self.0.platform() != Platform::None {
            self.0.reached(Limit::Memory);
        }
        Ok(is_within && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // The pool has a bound of its own.
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }
}

/// The state of one instance.
pub(crate) struct GuestState {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    key_value: KeyValueState,
    sqlite: SqliteState,
    redis: RedisState,
    variables: Variables,
    limiter: MemoryLimiter,
    /// The instance's place among all that may live, freed with it.
    _slot: OwnedSemaphorePermit,
}

impl GuestState {
    pub(super) fn new(services: Services, slot: OwnedSemaphorePermit) -> Self {
        let Services {
            store,
            database,
            redis,
            variables,
            outbound,
            limiter,
        } = services;
        let behaviour = outbound.behaviour();
        let log = LogStream::default();
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(behaviour.fields_bytes_max());
        let mut wasi = WasiCtx::builder();
        wasi.stdout(log.clone())
            .stderr(log)
            .envs(&variables.environment());
        if behaviour == HttpBehaviour::Own {
            wasi.env(EMBEDDED_HOST, "1");
        }
        Self {
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http,
            outbound,
            key_value: KeyValueState::new(store),
            sqlite: SqliteState::new(database),
            redis: RedisState::new(redis),
            variables,
            limiter: MemoryLimiter(limiter),
            _slot: slot,
        }
    }

    pub(super) fn key_value(&mut self) -> KeyValueView<'_> {
        KeyValueView {
            state: &mut self.key_value,
            table: &mut self.table,
        }
    }

    pub(super) fn sqlite(&mut self) -> SqliteView<'_> {
        SqliteView {
            state: &mut self.sqlite,
            table: &mut self.table,
        }
    }

    pub(super) fn redis(&mut self) -> RedisView<'_> {
        RedisView {
            state: &mut self.redis,
            table: &mut self.table,
        }
    }

    /// What the instance may grow to.
    pub(super) fn limits(&mut self) -> &mut MemoryLimiter {
        &mut self.limiter
    }

    pub(super) fn variables(&mut self) -> &mut Variables {
        &mut self.variables
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outbound,
        }
    }
}
