//! Reading a fuzzer's bytes as numbers and messages, whatever they are.

use http::{HeaderMap, HeaderName, HeaderValue};

/// An input, cut at empty lines. Once it is used up, every section is empty.
pub(crate) struct Sections<'a>(&'a [u8]);

impl<'a> Sections<'a> {
    pub(crate) fn of(input: &'a [u8]) -> Self {
        Sections(input)
    }

    /// The next section as it is.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let end = self.0.windows(2).position(|pair| pair == b"\n\n");
        let (section, rest) = match end.and_then(|end| self.0.split_at_checked(end)) {
            Some((section, rest)) => (section, rest.get(2..).unwrap_or_default()),
            None => (self.0, &b""[..]),
        };
        self.0 = rest;
        section
    }

    /// The next section as text, each byte that is none replaced.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The next section as numbers, as many as are asked for; what is missing
    /// or no number is zero, what is too large the largest.
    pub(crate) fn numbers<const N: usize>(&mut self) -> [u64; N] {
        let mut words = self
            .bytes()
            .split(|byte| byte.is_ascii_whitespace())
            .filter(|word| !word.is_empty());
        std::array::from_fn(|_| words.next().map_or(0, number))
    }

    /// The next section as header fields, one a line; what is none is skipped.
    pub(crate) fn fields(&mut self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in self.bytes().split(|&byte| byte == b'\n') {
            let mut parts = line.splitn(2, |&byte| byte == b':');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
                continue;
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                fields.append(name, value);
            }
        }
        fields
    }
}

fn number(word: &[u8]) -> u64 {
    if word.iter().all(u8::is_ascii_digit) {
        word.iter().fold(0u64, |value, digit| {
            value
                .saturating_mul(10)
                .saturating_add(u64::from(digit.saturating_sub(b'0')))
        })
    } else {
        0
    }
}

/// All lines of a field, in order.
pub(crate) fn lines<'a>(fields: &'a HeaderMap, name: &str) -> Vec<&'a HeaderValue> {
    fields.get_all(name).iter().collect()
}

/// Whether a word stands anywhere in a field's lines, whatever its case.
pub(crate) fn mentions(fields: &HeaderMap, name: &str, word: &str) -> bool {
    lines(fields, name).iter().any(|line| {
        line.as_bytes()
            .windows(word.len())
            .any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
    })
}

/// The same fields with every value changed; values that would be none stay.
pub(crate) fn changed(fields: &HeaderMap, change: impl Fn(&[u8]) -> Vec<u8>) -> HeaderMap {
    let mut new = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_bytes(&change(value.as_bytes())).unwrap_or(value.clone());
        new.append(name.clone(), value);
    }
    new
}
