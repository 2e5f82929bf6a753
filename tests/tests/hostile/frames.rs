//! A client of HTTP/2 that writes any frames (RFC 9113 section 4), valid or not.

use std::time::Duration;

use leeward_tests::tls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The longest that a frame may take to come, on a machine that is busy.
const WITHIN: Duration = Duration::from_secs(30);

/// What a client writes first (RFC 9113 section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Largest payload of a frame unless the receiver says otherwise (RFC 9113 section 6.5.2).
pub(super) const FRAME_MAX: usize = 16_384;

/// Types of frames (RFC 9113 section 6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113 section 7).
pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// Settings (RFC 9113 section 6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.to_vec(),
        }
    }

    /// A whole request without content.
    pub(super) fn request(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self::new(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
    }

    /// The stream is taken back.
    pub(super) fn reset(stream: u32) -> Self {
        const CANCEL: u32 = 8;
        Self::new(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
    }

    /// Settings: identifiers and values.
    pub(super) fn settings(settings: &[(u16, u32)]) -> Self {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        Self::new(SETTINGS, 0, 0, &payload)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The number at this offset of the payload.
    fn number(&self, offset: usize) -> u32 {
        u32::from_be_bytes(self.payload[offset..offset + 4].try_into().unwrap())
    }
}

/// Fields as literals without Huffman's code and without an index (RFC 7541 section 6.2.2).
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A length in seven bits and more (RFC 7541 section 5.1), and the text.
fn text(block: &mut Vec<u8>, text: &str) {
    const PREFIX_MAX: usize = 127;
    let mut left = text.len();
    if left < PREFIX_MAX {
        block.push(u8::try_from(left).unwrap());
    } else {
        block.push(127);
        left -= PREFIX_MAX;
        while left >= 128 {
            block.push(u8::try_from(left % 128).unwrap() | 128);
            left /= 128;
        }
        block.push(u8::try_from(left).unwrap());
    }
    block.extend(text.as_bytes());
}

/// The status that a block of fields begins with. There is no dynamic table: the client says
/// that it has no room for one.
fn status(block: &[u8]) -> u16 {
    // The size of the table may change first (RFC 7541 section 6.3).
    let start = block.iter().position(|byte| byte >> 5 != 1).unwrap();
    match block[start] {
        // The static table (RFC 7541, appendix A).
        0x88 => 200,
        0x89 => 204,
        0x8a => 206,
        0x8b => 304,
        0x8c => 400,
        0x8d => 404,
        0x8e => 500,
        // A literal with the name of entry 8; its length, and whether it is Huffman's code.
        _ => {
            let coded = block[start + 1] & 128 != 0;
            let length = usize::from(block[start + 1] & 127);
            let text = &block[start + 2..start + 2 + length];
            match coded {
                true => digits(text),
                false => String::from_utf8_lossy(text).parse().unwrap(),
            }
        }
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): 0, 1 and 2 have five bits, the
/// others six.
fn digits(bytes: &[u8]) -> u16 {
    let bits = bytes
        .iter()
        .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    let mut left = bytes.len() * 8;
    let mut number = 0;
    for _ in 0..3 {
        let five = bits >> (left - 5) & 31;
        let (digit, length) = match five {
            0..=2 => (five, 5),
            _ => ((bits >> (left - 6) & 63) - 0b011001 + 3, 6),
        };
        left -= length;
        number = number * 10 + u16::try_from(digit).unwrap();
    }
    number
}

/// What the server said last of a stream, or of the whole connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was answered, with this status.
    Status(u16),
    /// The stream was reset, with this error code.
    Reset(u32),
    /// The connection ends, with this error code.
    GoAway(u32),
    /// The connection was closed without a word.
    Closed,
}

/// A connection of HTTP/2 over TLS.
pub(super) struct Client {
    stream: TlsStream<TcpStream>,
    /// Streams that the server has refused to look at.
    pub(super) refused: usize,
}

impl Client {
    /// A connection that has sent nothing.
    pub(super) async fn silent(address: std::net::SocketAddr) -> Self {
        let stream = tls::connect(address, &tls::file("ca.pem"), "h2").await;
        Self {
            stream: stream.unwrap(),
            refused: 0,
        }
    }

    /// A connection that has sent its preface, and settings: these, and no dynamic table.
    pub(super) async fn with(address: std::net::SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::silent(address).await;
        let settings = [&[(HEADER_TABLE_SIZE, 0)], settings].concat();
        client.write(PREFACE).await;
        client.send(&[Frame::settings(&settings)]).await;
        client
    }

    pub(super) async fn open(address: std::net::SocketAddr) -> Self {
        Self::with(address, &[]).await
    }

    /// Writes bytes. Fails no test: the server may have closed the connection.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> bool {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let written = tokio::time::timeout(WITHIN, write).await;
        written
            .expect("the server takes bytes, or closes the connection")
            .is_ok()
    }

    /// Sends frames, in one write.
    pub(super) async fn send(&mut self, frames: &[Frame]) -> bool {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.write(&bytes).await
    }

    /// The next frame of the server; none at the end of the connection.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(Frame {
                kind: head[3],
                flags: head[4],
                stream: stream & (u32::MAX >> 1),
                payload,
            })
        };
        let frame = tokio::time::timeout(WITHIN, read).await;
        let frame = frame.expect("the server says something, or closes the connection");
        if let Some(reset) = frame.as_ref().filter(|frame| frame.kind == RST_STREAM)
            && reset.number(0) == REFUSED_STREAM
        {
            self.refused += 1;
        }
        if let Some(ping) = frame.as_ref().filter(|frame| frame.kind == PING)
            && ping.flags & ACK == 0
        {
            self.send(&[Frame::new(PING, ACK, 0, &ping.payload)]).await;
        }
        frame
    }

    /// What becomes of a stream, or of the connection. Frames of others are passed over.
    pub(super) async fn end(&mut self, stream: u32) -> End {
        loop {
            let Some(frame) = self.next().await else {
                return End::Closed;
            };
            match frame.kind {
                HEADERS if frame.stream == stream => return End::Status(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return End::Reset(frame.number(0)),
                GOAWAY => return End::GoAway(frame.number(4)),
                _ => {}
            }
        }
    }

    /// The error code of the connection's end; none if it is closed without one.
    pub(super) async fn going(&mut self) -> Option<u32> {
        match self.end(0).await {
            End::GoAway(code) => Some(code),
            _ => None,
        }
    }

    /// Waits until the connection is closed.
    pub(super) async fn until_closed(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Waits until the server has read everything that was sent. False if it ends the
    /// connection instead.
    pub(super) async fn is_read(&mut self) -> bool {
        let ping = Frame::new(PING, 0, 0, b"have-all");
        self.send(std::slice::from_ref(&ping)).await;
        loop {
            match self.next().await {
                Some(frame) if frame.kind == PING && frame.flags & ACK != 0 => return true,
                Some(frame) if frame.kind != GOAWAY => {}
                _ => return false,
            }
        }
    }
}
