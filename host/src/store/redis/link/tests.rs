#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(30);

const VALUE: &str = "$1\r\nv\r\n";

const READONLY: &str = "READONLY You can't write against a read only replica.";

/// What a server answers to a command, by the number of the connection.
type Script = fn(usize, &str) -> String;

/// A server that answers as it is told.
struct Scripted {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(stream, number, script));
            }
        });
        Self {
            address,
            connections,
        }
    }

    fn client(&self) -> Client {
        Client::open(format!("redis://user:secret@{}", self.address)).unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn answer(stream: TcpStream, number: usize, script: Script) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let words = line(&mut stream).await?;
        let count: usize = words.strip_prefix('*')?.parse().ok()?;
        let mut name = String::new();
        for place in 0..count {
            let length: usize = line(&mut stream).await?.strip_prefix('$')?.parse().ok()?;
            let mut word = vec![0; length + 2];
            stream.read_exact(&mut word).await.ok()?;
            if place == 0 {
                name = String::from_utf8_lossy(&word[..length]).to_ascii_uppercase();
            }
        }
        let reply = match name.as_str() {
            "CLIENT" => "+OK\r\n".to_owned(),
            name => script(number, name),
        };
        stream.write_all(reply.as_bytes()).await.ok()?;
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    Some(line.trim_end().to_owned()).filter(|line| !line.is_empty())
}

async fn get(link: &Link) -> StoreResult<Option<Vec<u8>>> {
    link.call(|mut connection| async move {
        redis::cmd("GET")
            .arg("k")
            .query_async(&mut connection)
            .await
    })
    .await
}

/// Asks until there is a value; the last error if there is none in time.
async fn value_comes(link: &Link) -> StoreResult<Option<Vec<u8>>> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match get(link).await {
            Err(_) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            outcome => return outcome,
        }
    }
}

/// The address leads to the server in charge, as after a failover. The first connection is
/// to one that is not in charge any more.
#[tokio::test]
async fn an_error_that_only_a_new_connection_cures_brings_one() {
    let scripts: [(&str, Script); 5] = [
        (READONLY, |number, name| match (number, name) {
            (_, "AUTH") => "+OK\r\n".to_owned(),
            (0, _) => format!("-{READONLY}\r\n"),
            _ => VALUE.to_owned(),
        }),
        ("NOAUTH Authentication required.", |number, name| {
            match (number, name) {
                (_, "AUTH") => "+OK\r\n".to_owned(),
                (0, _) => "-NOAUTH Authentication required.\r\n".to_owned(),
                _ => VALUE.to_owned(),
            }
        }),
        // The second one asks why.
        (
            "WRONGPASS invalid username-password pair",
            |number, name| match (number, name) {
                (0 | 1, "AUTH") => "-WRONGPASS invalid username-password pair\r\n".to_owned(),
                (_, "AUTH") => "+OK\r\n".to_owned(),
                _ => VALUE.to_owned(),
            },
        ),
        ("LOADING Redis is loading", |number, name| {
            match (number, name) {
                (_, "AUTH") => "+OK\r\n".to_owned(),
                (0, _) => "-LOADING Redis is loading\r\n".to_owned(),
                _ => VALUE.to_owned(),
            }
        }),
        ("MOVED 3999 10.0.0.1:6381", |number, name| {
            match (number, name) {
                (_, "AUTH") => "+OK\r\n".to_owned(),
                (0, _) => "-MOVED 3999 10.0.0.1:6381\r\n".to_owned(),
                _ => VALUE.to_owned(),
            }
        }),
    ];
    for (words, script) in scripts {
        let server = Scripted::start(script).await;
        let link = Link::new(server.client());
        let first = get(&link).await;
        assert_eq!(first, Err(StoreError::Down(words.to_owned())));
        let value = value_comes(&link).await;
        assert_eq!(value, Ok(Some(b"v".to_vec())), "{words}");
    }
}

#[tokio::test]
async fn a_server_that_goes_on_failing_is_not_flooded_with_connections() {
    let server = Scripted::start(|_, name| match name {
        "AUTH" => "+OK\r\n".to_owned(),
        _ => format!("-{READONLY}\r\n"),
    })
    .await;
    let link = Link::new(server.client());
    let began = Instant::now();
    for _ in 0..1_000 {
        assert!(get(&link).await.is_err());
    }
    let most = 2 + began.elapsed().as_millis() / 250;
    assert!(server.connections() as u128 <= most + 1, "more than {most}");
}

/// Leads to the last address that it was given.
struct Moving(Arc<Mutex<SocketAddr>>);

impl AsyncDNSResolver for Moving {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _: &'b str,
        _: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        let address = *self.0.lock().unwrap();
        Box::pin(async move {
            Ok(Box::new(std::iter::once(address)) as Box<dyn Iterator<Item = _> + Send>)
        })
    }
}

/// The old server goes on answering.
#[tokio::test]
async fn a_name_that_stands_for_another_address_is_followed() {
    let old = Scripted::start(|_, name| match name {
        "AUTH" => "+OK\r\n".to_owned(),
        _ => "$3\r\nold\r\n".to_owned(),
    })
    .await;
    let new = Scripted::start(|_, name| match name {
        "AUTH" => "+OK\r\n".to_owned(),
        _ => VALUE.to_owned(),
    })
    .await;
    let address = Arc::new(Mutex::new(old.address));
    let resolver = Arc::new(Moving(Arc::clone(&address)));
    let link = Link::resolving(old.client(), resolver);
    assert_eq!(get(&link).await, Ok(Some(b"old".to_vec())));
    let is_due = |link: &Link| {
        let mut state = link.0.state();
        let current = state.current.as_mut().unwrap();
        current.looked_up = Instant::now() - LOOKUP_EVERY;
    };
    // It stands for the same: the connection stays.
    is_due(&link);
    assert_eq!(get(&link).await, Ok(Some(b"old".to_vec())));
    *address.lock().unwrap() = new.address;
    is_due(&link);
    let deadline = Instant::now() + DEADLINE;
    while get(&link).await != Ok(Some(b"v".to_vec())) {
        assert!(Instant::now() < deadline, "the old server is still used");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(old.connections(), 1);
}

/// The machine of the server is gone, and nobody ends its connections.
#[tokio::test]
async fn a_call_that_was_given_up_late_brings_a_new_connection() {
    let server = Scripted::start(|_, name| match name {
        "AUTH" => "+OK\r\n".to_owned(),
        _ => VALUE.to_owned(),
    })
    .await;
    let link = Link::new(server.client());
    assert_eq!(get(&link).await, Ok(Some(b"v".to_vec())));
    for (ago, is_spoilt) in [(Duration::ZERO, false), (SUSPECT_AFTER, true)] {
        drop(UnderWay {
            shared: &link.0,
            generation: 1,
            began: Instant::now() - ago,
            is_over: false,
        });
        let state = link.0.state();
        assert_eq!(state.current.as_ref().unwrap().is_spoilt, is_spoilt);
    }
    let deadline = Instant::now() + DEADLINE;
    while server.connections() < 2 {
        assert!(Instant::now() < deadline, "there is no new connection");
        assert!(get(&link).await.is_ok());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
