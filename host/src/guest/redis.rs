//! `spin:redis` and `fermyon:spin/redis`: connections to the Redis server that the
//! operator named, and to no other.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, Value};
use wasmtime::component::{Accessor, HasData, Resource, ResourceTable};

use super::bindings::{fermyon_redis, spin_redis};
use crate::observe::{Kind, Operation, StoreOutcome};
use crate::store::redis_words;

/// Most connections that an instance may have open, as on Spin.
const OPEN_MAX: usize = 256;

/// How long a new connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of one answer, as on Spin.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The servers that the component may connect to, each a host and a port.
#[derive(Debug, Clone, Default)]
pub(crate) struct RedisServers(Arc<[(String, u16)]>);

impl RedisServers {
    /// The servers at these addresses. What is no address of a Redis server is left
    /// out.
    pub(crate) fn new<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        let clients = addresses.into_iter().map(Client::open);
        Self(
            clients
                .filter_map(|client| endpoint(&client.ok()?))
                .collect(),
        )
    }

    /// Whether there is one.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The server at `address`, if the component may connect to it.
    fn client(&self, address: &str) -> Option<Client> {
        let client = Client::open(address).ok()?;
        self.0.contains(&endpoint(&client)?).then_some(client)
    }
}

/// The host and port of a server; none for a socket of this machine.
fn endpoint(client: &Client) -> Option<(String, u16)> {
    match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some((host.to_ascii_lowercase(), *port))
        }
        _ => None,
    }
}

/// An open connection.
#[allow(
    unreachable_pub,
    reason = "the generated bindings re-export it as public"
)]
pub struct Connection(MultiplexedConnection);

/// What the host keeps for one instance about Redis.
#[derive(Debug)]
pub(super) struct RedisState {
    servers: RedisServers,
    /// Open connections, and those being opened.
    open: usize,
}

impl RedisState {
    pub(super) fn new(servers: RedisServers) -> Self {
        Self { servers, open: 0 }
    }
}

/// [`RedisState`] with the table that its connections are in.
#[derive(Debug)]
pub(crate) struct RedisView<'a> {
    pub(super) state: &'a mut RedisState,
    pub(super) table: &'a mut ResourceTable,
}

/// Names [`RedisView`] to the linker.
#[derive(Debug)]
pub(super) struct Redis;

impl HasData for Redis {
    type Data<'a> = RedisView<'a>;
}

/// Why a call failed, as Spin says it, but for the server's errors: those are in its own
/// words.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    InvalidAddress,
    TooManyConnections,
    Other(String),
}

impl From<redis::RedisError> for Failure {
    fn from(error: redis::RedisError) -> Self {
        Self::Other(redis_words(&error))
    }
}

impl RedisView<'_> {
    /// Takes a place for a connection to `address`.
    fn reserve(&mut self, address: &str) -> Result<Client, Failure> {
        let client = (self.state.servers.client(address)).ok_or(Failure::InvalidAddress)?;
        if self.state.open >= OPEN_MAX {
            return Err(Failure::TooManyConnections);
        }
        self.state.open += 1;
        Ok(client)
    }

    /// Puts the connection into its place, or frees the place.
    fn settle(
        &mut self,
        opened: Result<MultiplexedConnection, Failure>,
    ) -> wasmtime::Result<Result<Resource<Connection>, Failure>> {
        match opened {
            Ok(connection) => Ok(Ok(self.table.push(Connection(connection))?)),
            Err(failure) => {
                self.state.open -= 1;
                Ok(Err(failure))
            }
        }
    }

    fn connection(&self, held: &Resource<Connection>) -> wasmtime::Result<MultiplexedConnection> {
        Ok(self.table.get(held)?.0.clone())
    }

    fn close(&mut self, held: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(held)?;
        self.state.open -= 1;
        Ok(())
    }
}

async fn connect(client: Client) -> Result<MultiplexedConnection, Failure> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT));
    Ok(client
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}

/// An argument of a command.
enum Parameter {
    Int64(i64),
    Binary(Vec<u8>),
}

/// A part of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Nil,
    Status(String),
    Int64(i64),
    Binary(Vec<u8>),
}

/// Sends a command and waits for its answer. The command goes on by itself if the
/// caller does not wait: it may have been written.
async fn execute(
    mut connection: MultiplexedConnection,
    command: String,
    parameters: Vec<Parameter>,
) -> Result<Vec<Part>, Failure> {
    let mut line = redis::cmd(&command);
    for parameter in parameters {
        match parameter {
            Parameter::Int64(number) => line.arg(number),
            Parameter::Binary(bytes) => line.arg(bytes),
        };
    }
    let operation = Operation::begin(Kind::Redis);
    let answer = line.query_async(&mut connection).await;
    operation.end(match answer {
        Ok(_) => StoreOutcome::Ok,
        Err(_) => StoreOutcome::Error,
    });
    let mut parts = Vec::new();
    flatten(answer?, &mut parts)?;
    let bytes: usize = parts.iter().map(Part::bytes).sum();
    if bytes > ANSWER_BYTES_MAX {
        return Err(Failure::Other(format!(
            "query result exceeds limit of {ANSWER_BYTES_MAX} bytes"
        )));
    }
    Ok(parts)
}

impl Part {
    fn bytes(&self) -> usize {
        size_of::<Self>().saturating_add(match self {
            Self::Nil | Self::Int64(_) => 0,
            Self::Status(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        })
    }
}

/// Adds what `value` consists of to `parts`. Arrays within arrays become one list, as
/// on Spin.
fn flatten(value: Value, parts: &mut Vec<Part>) -> Result<(), Failure> {
    let unsupported = |kind: &str| {
        Failure::Other(format!(
            "Could not convert Redis response: Redis {kind} is not supported"
        ))
    };
    match value {
        Value::Nil => parts.push(Part::Nil),
        Value::Int(number) => parts.push(Part::Int64(number)),
        Value::BulkString(bytes) => parts.push(Part::Binary(bytes)),
        Value::SimpleString(text) => parts.push(Part::Status(text)),
        Value::Okay => parts.push(Part::Status("OK".to_owned())),
        Value::Array(values) | Value::Set(values) => {
            for value in values {
                flatten(value, parts)?;
            }
        }
        Value::Double(number) => parts.push(Part::Binary(number.to_string().into_bytes())),
        Value::Boolean(yes) => parts.push(Part::Int64(i64::from(yes))),
        Value::BigNumber(digits) => parts.push(Part::Binary(digits)),
        Value::ServerError(error) => {
            return Err(Failure::Other(format!("Server error: {error:?}")));
        }
        Value::Map(_) => return Err(unsupported("Map type")),
        Value::Attribute { .. } => return Err(unsupported("Attribute type")),
        Value::VerbatimString { .. } => return Err(unsupported("string with format attribute")),
        // Pub/sub, and what later versions of the client know.
        _ => return Err(unsupported("value of this type")),
    }
    Ok(())
}

/// The types of one interface. Both have the same.
macro_rules! convert {
    ($interface:ident) => {
        impl From<Failure> for $interface::Error {
            fn from(failure: Failure) -> Self {
                match failure {
                    Failure::InvalidAddress => Self::InvalidAddress,
                    Failure::TooManyConnections => Self::TooManyConnections,
                    Failure::Other(text) => Self::Other(text),
                }
            }
        }

        impl From<$interface::RedisParameter> for Parameter {
            fn from(parameter: $interface::RedisParameter) -> Self {
                match parameter {
                    $interface::RedisParameter::Int64(number) => Self::Int64(number),
                    $interface::RedisParameter::Binary(bytes) => Self::Binary(bytes),
                }
            }
        }

        impl From<Part> for $interface::RedisResult {
            fn from(part: Part) -> Self {
                match part {
                    Part::Nil => Self::Nil,
                    Part::Status(text) => Self::Status(text),
                    Part::Int64(number) => Self::Int64(number),
                    Part::Binary(bytes) => Self::Binary(bytes),
                }
            }
        }
    };
}

convert!(spin_redis);
convert!(fermyon_redis);

impl spin_redis::Host for RedisView<'_> {}

impl spin_redis::HostConnection for RedisView<'_> {
    fn drop(&mut self, held: Resource<Connection>) -> wasmtime::Result<()> {
        self.close(held)
    }
}

impl<T> spin_redis::HostConnectionWithStore<T> for Redis {
    async fn open(
        accessor: &Accessor<T, Self>,
        address: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, spin_redis::Error>> {
        let client = match accessor.with(|mut access| access.get().reserve(&address)) {
            Ok(client) => client,
            Err(failure) => return Ok(Err(failure.into())),
        };
        let opened = connect(client).await;
        let settled = accessor.with(|mut access| access.get().settle(opened))?;
        Ok(settled.map_err(Into::into))
    }

    async fn execute(
        accessor: &Accessor<T, Self>,
        held: Resource<Connection>,
        command: String,
        arguments: Vec<spin_redis::RedisParameter>,
    ) -> wasmtime::Result<Result<Vec<spin_redis::RedisResult>, spin_redis::Error>> {
        let connection = accessor.with(|mut access| access.get().connection(&held))?;
        let arguments = arguments.into_iter().map(Into::into).collect();
        Ok(match execute(connection, command, arguments).await {
            Ok(parts) => Ok(parts.into_iter().map(Into::into).collect()),
            Err(failure) => Err(failure.into()),
        })
    }
}

impl fermyon_redis::Host for RedisView<'_> {}

impl fermyon_redis::HostConnection for RedisView<'_> {
    async fn open(
        &mut self,
        address: String,
    ) -> wasmtime::Result<Result<Resource<Connection>, fermyon_redis::Error>> {
        let client = match self.reserve(&address) {
            Ok(client) => client,
            Err(failure) => return Ok(Err(failure.into())),
        };
        let opened = connect(client).await;
        Ok(self.settle(opened)?.map_err(Into::into))
    }

    async fn execute(
        &mut self,
        held: Resource<Connection>,
        command: String,
        arguments: Vec<fermyon_redis::RedisParameter>,
    ) -> wasmtime::Result<Result<Vec<fermyon_redis::RedisResult>, fermyon_redis::Error>> {
        let connection = self.connection(&held)?;
        let arguments = arguments.into_iter().map(Into::into).collect();
        Ok(match execute(connection, command, arguments).await {
            Ok(parts) => Ok(parts.into_iter().map(Into::into).collect()),
            Err(failure) => Err(failure.into()),
        })
    }

    async fn drop(&mut self, held: Resource<Connection>) -> wasmtime::Result<()> {
        self.close(held)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::store::tests::RedisServer;

    #[tokio::test]
    async fn a_command_is_executed_as_it_is() {
        let Some(server) = RedisServer::start() else {
            eprintln!("skipped: there is no redis-server on this machine");
            return;
        };
        let servers = RedisServers::new([server.url.as_str()]);
        let connection = connect(servers.client(&server.url).unwrap()).await.unwrap();
        let run = |command: &str, parameters: Vec<Parameter>| {
            execute(connection.clone(), command.to_owned(), parameters)
        };
        let bytes = |text: &str| Parameter::Binary(text.as_bytes().to_vec());
        let set = run("SET", vec![bytes("k"), Parameter::Int64(7)]).await;
        assert_eq!(set, Ok(vec![Part::Status("OK".to_owned())]));
        let script = "return {redis.call('GET', KEYS[1]), {1, false}}";
        let eval = vec![bytes(script), Parameter::Int64(1), bytes("k")];
        let expected = vec![Part::Binary(b"7".to_vec()), Part::Int64(1), Part::Nil];
        assert_eq!(run("EVAL", eval).await, Ok(expected));
        let wrong = run("NO-SUCH-COMMAND", vec![]).await;
        assert!(matches!(wrong, Err(Failure::Other(_))), "{wrong:?}");
        drop(server);
        let gone = run("PING", vec![]).await;
        assert!(matches!(gone, Err(Failure::Other(_))), "{gone:?}");
    }

    #[test]
    fn only_servers_that_the_operator_named_are_allowed() {
        let servers = RedisServers::new(["redis://:secret@Cache:7000/3", "no address"]);
        for (address, allowed) in [
            ("redis://cache:7000", true),
            ("redis://other:user@cache:7000/1", true),
            ("rediss://cache:7000", true),
            ("redis://cache", false),
            ("redis://cache:7001", false),
            ("redis://localhost:7000", false),
            ("redis+unix:///tmp/redis.sock", false),
            ("unix:///tmp/redis.sock", false),
            ("http://cache:7000", false),
            ("", false),
        ] {
            assert_eq!(servers.client(address).is_some(), allowed, "{address}");
        }
        assert!(
            RedisServers::default()
                .client("redis://cache:7000")
                .is_none()
        );
    }

    #[test]
    fn answers_become_one_list() {
        let value = Value::Array(vec![
            Value::Int(1),
            Value::Array(vec![Value::Nil, Value::Okay, Value::Array(vec![])]),
            Value::SimpleString("PONG".to_owned()),
            Value::BulkString(vec![0, 255]),
            Value::Boolean(true),
            Value::Double(0.5),
        ]);
        let mut parts = Vec::new();
        assert_eq!(flatten(value, &mut parts), Ok(()));
        let expected = [
            Part::Int64(1),
            Part::Nil,
            Part::Status("OK".to_owned()),
            Part::Status("PONG".to_owned()),
            Part::Binary(vec![0, 255]),
            Part::Int64(1),
            Part::Binary(b"0.5".to_vec()),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn what_spin_cannot_convert_is_an_error_here_too() {
        for value in [
            Value::Map(vec![]),
            Value::Array(vec![Value::Map(vec![])]),
            Value::Attribute {
                data: Box::new(Value::Nil),
                attributes: vec![],
            },
        ] {
            let outcome = flatten(value, &mut Vec::new());
            assert!(matches!(outcome, Err(Failure::Other(_))), "{outcome:?}");
        }
    }
}
