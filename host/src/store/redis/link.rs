//! The one connection to a Redis server, shared by all calls, which is replaced when a new
//! one may cure an error.
//!
//! A new connection looks its server's name up again. So it finds the server that has
//! taken over, while the old one stays up as a replica, or at another address. The name
//! is also looked up from time to time: a server that has left it need not say so.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisConnectionInfo, RedisError,
    RedisFuture, RedisResult,
};
use tokio::time::Instant;

use super::pace::Pace;
use super::problem::{Verdict, failure, verdict, words};
use super::{StoreError, StoreResult};

/// How long a new connection may take, the look-up of the name apart. Shorter than a call
/// of the guest waits, so that the call ends with the cause.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long a look-up of the name may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A call that was given up after this long is a reason for a new connection: the server
/// may be gone without a word.
const SUSPECT_AFTER: Duration = Duration::from_millis(500);

/// How often the name is looked up while the connection works.
const LOOKUP_EVERY: Duration = Duration::from_secs(10);

/// Most addresses of a name that are used.
const ADDRESSES_MAX: usize = 16;

/// What a call fails with while no connection is tried.
const PAUSED: &str = "there is no connection to the server";

/// A connection to one server. Clones share it.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    client: Client,
    resolver: Arc<dyn AsyncDNSResolver>,
    state: Mutex<State>,
    /// One attempt to connect at a time.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<Current>,
    /// Counts the connections.
    generation: u64,
    pace: Pace,
    /// Why there is no connection.
    error: Option<String>,
}

struct Current {
    connection: MultiplexedConnection,
    generation: u64,
    /// What the name stood for when it was made.
    addresses: Vec<SocketAddr>,
    looked_up: Instant,
    /// A new one may do better.
    is_spoilt: bool,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the address: it may have a password.
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// The resolver of the system.
struct System;

impl AsyncDNSResolver for System {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
            Ok(Box::new(found.into_iter()) as Box<dyn Iterator<Item = _> + Send>)
        })
    }
}

/// Answers with addresses that are known already.
struct Known(Vec<SocketAddr>);

impl AsyncDNSResolver for Known {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _: &'b str,
        _: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        let found = self.0.iter().copied();
        Box::pin(async move { Ok(Box::new(found) as Box<dyn Iterator<Item = _> + Send>) })
    }
}

/// A call under way. One that is given up late makes the connection suspect.
struct UnderWay<'a> {
    shared: &'a Shared,
    generation: u64,
    began: Instant,
    is_over: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.is_over && self.began.elapsed() >= SUSPECT_AFTER {
            self.shared.spoil(self.generation);
        }
    }
}

impl Link {
    /// The connection to the server that `client` names. It is made at the first call.
    pub(super) fn new(client: Client) -> Self {
        Self::resolving(client, Arc::new(System))
    }

    /// The same, with names looked up by `resolver`.
    pub(super) fn resolving(client: Client, resolver: Arc<dyn AsyncDNSResolver>) -> Self {
        Self(Arc::new(Shared {
            client,
            resolver,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }))
    }

    /// Makes a call on the connection, and notes what its error says of that.
    pub(super) async fn call<T, F>(
        &self,
        work: impl FnOnce(MultiplexedConnection) -> F,
    ) -> StoreResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let (connection, generation) = self.connection().await?;
        let mut under_way = UnderWay {
            shared: &self.0,
            generation,
            began: Instant::now(),
            is_over: false,
        };
        let result = work(connection).await;
        under_way.is_over = true;
        result.map_err(|error| {
            match verdict(&error) {
                Verdict::Keep => {}
                Verdict::Replace => self.0.spoil(generation),
                Verdict::Gone => self.0.lose(generation, &error),
            }
            failure(&error)
        })
    }

    /// A connection of its own, for the caller alone.
    pub(super) async fn separate(&self) -> StoreResult<MultiplexedConnection> {
        let made = self.0.connect().await;
        made.map(|(connection, _)| connection)
            .map_err(StoreError::Down)
    }

    /// The connection, and its number. One that is spoilt is replaced meanwhile; without
    /// one, this waits for a new one.
    async fn connection(&self) -> StoreResult<(MultiplexedConnection, u64)> {
        if let Some(found) = self.current() {
            return Ok(found);
        }
        let _turn = self.0.connecting.lock().await;
        if let Some(found) = self.current() {
            return Ok(found);
        }
        {
            let (mut state, now) = (self.0.state(), Instant::now());
            if !state.pace.allows(now) {
                let error = state.error.clone();
                return Err(StoreError::Down(error.unwrap_or_else(|| PAUSED.to_owned())));
            }
            state.pace.attempt(now);
        }
        match self.0.connect().await {
            Ok((connection, addresses)) => Ok(self.0.install(connection, addresses)),
            Err(error) => {
                self.0.state().error = Some(error.clone());
                Err(StoreError::Down(error))
            }
        }
    }

    /// The connection if there is one. Begins what may replace it.
    fn current(&self) -> Option<(MultiplexedConnection, u64)> {
        let mut state = self.0.state();
        let State { current, pace, .. } = &mut *state;
        let current = current.as_mut()?;
        let (now, generation) = (Instant::now(), current.generation);
        if current.is_spoilt {
            if pace.allows(now) {
                pace.attempt(now);
                tokio::spawn(Arc::clone(&self.0).replace(generation));
            }
        } else if now.duration_since(current.looked_up) >= LOOKUP_EVERY {
            current.looked_up = now;
            tokio::spawn(Arc::clone(&self.0).look_up(generation));
        }
        Some((current.connection.clone(), generation))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No operation leaves the state half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection may do better than this one.
    fn spoil(&self, generation: u64) {
        let mut state = self.state();
        if let Some(current) = &mut state.current
            && current.generation == generation
        {
            current.is_spoilt = true;
        }
    }

    /// This connection is gone.
    fn lose(&self, generation: u64, error: &RedisError) {
        let mut state = self.state();
        if (state.current.as_ref()).is_some_and(|current| current.generation == generation) {
            state.current = None;
            state.error = Some(words(error));
        }
    }

    fn install(
        &self,
        connection: MultiplexedConnection,
        addresses: Vec<SocketAddr>,
    ) -> (MultiplexedConnection, u64) {
        let mut state = self.state();
        state.generation = state.generation.wrapping_add(1);
        let generation = state.generation;
        state.current = Some(Current {
            connection: connection.clone(),
            generation,
            addresses,
            looked_up: Instant::now(),
            is_spoilt: false,
        });
        (connection, generation)
    }

    /// Puts a new connection in the place of this one. Until there is one, this one stays.
    async fn replace(self: Arc<Self>, generation: u64) {
        let _turn = self.connecting.lock().await;
        let is_current =
            (self.state().current.as_ref()).is_some_and(|current| current.generation == generation);
        if !is_current {
            return;
        }
        match self.connect().await {
            Ok((connection, addresses)) => drop(self.install(connection, addresses)),
            Err(error) => self.state().error = Some(error),
        }
    }

    /// Looks whether the name still stands for what it stood for.
    async fn look_up(self: Arc<Self>, generation: u64) {
        // A name that cannot be looked up now is no reason to give up what works.
        let Ok(now) = self.addresses().await else {
            return;
        };
        let mut state = self.state();
        if let Some(current) = &mut state.current
            && current.generation == generation
            && current.addresses.iter().any(|known| !now.contains(known))
        {
            current.is_spoilt = true;
        }
    }

    /// What the name of the server stands for; nothing for a socket of this machine.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let (host, port) = match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                (host, *port)
            }
            _ => return Ok(Vec::new()),
        };
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, self.resolver.resolve(host, port)).await;
        match found {
            Ok(Ok(found)) => Ok(found.take(ADDRESSES_MAX).collect()),
            Ok(Err(error)) => Err(format!("cannot look up {host}: {}", words(&error))),
            Err(_) => Err(format!(
                "cannot look up {host}: no answer within {LOOKUP_TIMEOUT:?}"
            )),
        }
    }

    async fn connect(&self) -> Result<(MultiplexedConnection, Vec<SocketAddr>), String> {
        let addresses = self.addresses().await?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_dns_resolver(Known(addresses.clone()));
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        match made {
            Ok(connection) => Ok((connection, addresses)),
            Err(error) if error.kind() == ErrorKind::AuthenticationFailed => {
                let refusal = self.refusal(&config).await;
                Err(refusal.unwrap_or_else(|| words(&error)))
            }
            Err(error) => Err(words(&error)),
        }
    }

    /// What the server says to the password. The client library keeps that to itself.
    async fn refusal(&self, config: &AsyncConnectionConfig) -> Option<String> {
        let info = self.client.get_connection_info();
        let password = info.redis_settings().password()?;
        let plain = RedisConnectionInfo::default().set_skip_set_lib_name();
        let client = Client::open(info.clone().set_redis_settings(plain)).ok()?;
        let asked = client.get_multiplexed_async_connection_with_config(config);
        let mut connection = asked.await.ok()?;
        let mut auth = redis::cmd("AUTH");
        if let Some(username) = info.redis_settings().username() {
            auth.arg(username);
        }
        let answer = auth.arg(password).exec_async(&mut connection).await;
        answer.err().map(|error| words(&error))
    }
}

#[cfg(test)]
mod tests;
