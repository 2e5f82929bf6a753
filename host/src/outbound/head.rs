//! Control characters in the heads of answers.
//!
//! Browsers take a field whose value has one. The HTTP library cannot: it leaves the field
//! out, and an answer that has lost its `Cache-Control` or `Set-Cookie` could be shared with
//! the wrong visitor. So each is replaced by a space, as RFC 9110 section 5.5 allows, before
//! the library reads it. Nothing moves, so nothing has to wait.

/// How heads begin.
const BEGINNING: &[u8] = b"HTTP/1.";

/// Where the first digit of the status is in the first line.
const STATUS_AT: usize = b"HTTP/1.1 ".len();

/// What of an answer comes next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The beginning of a head, of which so many bytes have come.
    Beginning(usize),
    /// The rest of a head.
    Head(Head),
    /// What is no head.
    Body,
}

/// How much of a head has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the current line.
    column: usize,
    /// Whether that is the line with the status.
    is_first: bool,
    /// Whether another head follows this one: its status is 1xx.
    is_interim: bool,
}

impl Default for Part {
    fn default() -> Self {
        Self::Beginning(0)
    }
}

impl Part {
    /// A request is written: what follows a body is the head of its answer. An answer that
    /// comes before its request is written goes on.
    pub(super) fn expect_head(&mut self) {
        if *self == Self::Body {
            *self = Self::default();
        }
    }

    /// Replaces the control characters of a head in what has come.
    pub(super) fn repair(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if *self == Self::Body {
                return;
            }
            *self = self.after(byte);
        }
    }

    fn after(self, byte: &mut u8) -> Self {
        match self {
            Self::Beginning(count) if BEGINNING.get(count) != Some(byte) => Self::Body,
            Self::Beginning(count) if count.saturating_add(1) < BEGINNING.len() => {
                Self::Beginning(count.saturating_add(1))
            }
            Self::Beginning(count) => Self::Head(Head {
                column: count.saturating_add(1),
                is_first: true,
                is_interim: false,
            }),
            Self::Head(head) => head.after(byte),
            Self::Body => Self::Body,
        }
    }
}

impl Head {
    fn after(mut self, byte: &mut u8) -> Part {
        match *byte {
            b'\n' if self.column == 0 && self.is_interim => return Part::default(),
            b'\n' if self.column == 0 => return Part::Body,
            b'\n' => {
                self.column = 0;
                self.is_first = false;
            }
            // The library knows whether it ends a line.
            b'\r' => {}
            _ => {
                self.is_interim |= self.is_first && self.column == STATUS_AT && *byte == b'1';
                // At the beginning of a line a space would continue the line before. NUL is
                // left to the library, which refuses the answer, as browsers do.
                let is_control = byte.is_ascii_control() && !matches!(*byte, b'\t' | b'\0');
                if is_control && self.column > 0 {
                    *byte = b' ';
                }
                self.column = self.column.saturating_add(1);
            }
        }
        Part::Head(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of bytes that come in pieces of this length, and what is next.
    fn repaired(bytes: &str, length: usize) -> (String, Part) {
        let mut part = Part::default();
        let mut bytes = bytes.as_bytes().to_vec();
        for piece in bytes.chunks_mut(length) {
            part.repair(piece);
        }
        (String::from_utf8_lossy(&bytes).into_owned(), part)
    }

    #[test]
    fn control_characters_of_heads_become_spaces_and_bodies_stay() {
        const BODY: &str = "a\u{1}b\r\n\r\nHTTP/1.1 \u{1}";
        for (head, expected) in [
            (
                "HTTP/1.1 200 OK\r\nA: x\u{1}y\u{7f}\r\n\r\n",
                "HTTP/1.1 200 OK\r\nA: x y \r\n\r\n",
            ),
            (
                "HTTP/1.0 200 \u{b}\nA\u{1}: \tx\n\n",
                "HTTP/1.0 200  \nA : \tx\n\n",
            ),
            // The head that counts comes after this one.
            (
                "HTTP/1.1 103 Early\r\nA: \u{1}\r\n\r\nHTTP/1.1 200 OK\r\nA: \u{1}\r\n\r\n",
                "HTTP/1.1 103 Early\r\nA:  \r\n\r\nHTTP/1.1 200 OK\r\nA:  \r\n\r\n",
            ),
            // These are no part of the line before.
            (
                "HTTP/1.1 200 OK\r\nA: x\r\n\u{1}B: y\r\n\r\n",
                "HTTP/1.1 200 OK\r\nA: x\r\n\u{1}B: y\r\n\r\n",
            ),
            // The library refuses this one.
            (
                "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
                "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
            ),
        ] {
            let bytes = format!("{head}{BODY}");
            for length in 1..=bytes.len() {
                let (repaired, part) = repaired(&bytes, length);
                assert_eq!(repaired, format!("{expected}{BODY}"), "{length}");
                assert_eq!(part, Part::Body);
            }
        }
    }

    #[test]
    fn what_is_no_head_stays() {
        for bytes in ["SSH-2.0\u{1}", "HTTP\u{1}", "\u{1}", "HTTP/2 200 \u{1}"] {
            assert_eq!(repaired(bytes, 1), (bytes.to_owned(), Part::Body));
        }
    }

    #[test]
    fn a_head_follows_a_request_that_follows_a_body() {
        let mut part = repaired("HTTP/1.1 200 OK\r\n\r\n", 100).1;
        part.expect_head();
        assert_eq!(part, Part::default());
        // The origin has answered before it has the whole request.
        let mut part = repaired("HTTP/1.1 200 OK\r\nA: ", 100).1;
        part.expect_head();
        assert!(matches!(part, Part::Head(_)));
    }
}
