//! The odd requests: each is a plain GET with one mutation.

use leeward_tests::client::RawAsk;

/// What a request may cost the origin besides what the plain visitors cost it.
///
/// Where every visit costs the origin a request (the page is `private` or
/// `no-cache`), a request that would cost less than two may cost one more: it is a
/// visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// Nothing: it asks the plain question, or it is refused by the node.
    Nothing,
    /// One request: it is forwarded.
    Forwarded,
    /// Two requests: it has a question of its own, and may be passed after it.
    Own,
    /// Two requests: it is forwarded, and after the origin's 412 the entry is
    /// validated.
    Validated,
}

impl Cost {
    /// How many requests that is, where every visit costs the origin a request or
    /// where it does not.
    pub(crate) fn requests(self, every_visit: bool) -> usize {
        match self {
            Cost::Nothing => usize::from(every_visit),
            // The question may be asked before the request is passed.
            Cost::Forwarded => 1 + usize::from(every_visit),
            Cost::Own | Cost::Validated => 2,
        }
    }
}

/// How the request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With an answer.
    Answer,
    /// The visitor closes the connection as soon as the request is sent.
    Left,
    /// The visitor keeps the connection open, and never sends the rest of the
    /// request.
    Unfinished,
}

/// A plain GET with one mutation.
#[derive(Clone, Debug)]
pub(crate) struct Attack {
    /// What tables call it.
    pub(crate) name: String,
    /// What it may cost the origin.
    pub(crate) cost: Cost,
    /// How it ends.
    pub(crate) end: End,
    /// The query of the visitors' requests, with its `?`; the mutation is one of it.
    pub(crate) query: &'static str,
    /// Whether its answer may be a 5xx, by the origin or by the node.
    pub(crate) fails: bool,
    /// Whether it rewrites host, path or method: preset `strict` keeps it apart from
    /// the plain request as well.
    pub(crate) rewrites: bool,
    method: &'static str,
    version: &'static str,
    target: fn(&str) -> String,
    fields: Vec<(&'static str, Vec<u8>)>,
    content: Vec<u8>,
}

impl Attack {
    fn new(name: impl Into<String>, cost: Cost) -> Self {
        Attack {
            name: name.into(),
            cost,
            end: End::Answer,
            query: "",
            fails: false,
            rewrites: false,
            method: "GET",
            version: "HTTP/1.1",
            target: |path| path.to_owned(),
            fields: Vec::new(),
            content: Vec::new(),
        }
    }

    fn field(cost: Cost, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        let value = value.into();
        let shown = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
        Self::new(format!("{name}: {shown}"), cost).with(name, value)
    }

    fn target(cost: Cost, name: &str, query: &'static str, target: fn(&str) -> String) -> Self {
        Attack {
            query,
            target,
            ..Self::new(name, cost)
        }
    }

    fn method(method: &'static str) -> Self {
        Attack {
            method,
            ..Self::new(method, Cost::Forwarded)
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    fn content(mut self, content: &str) -> Self {
        self.content = content.into();
        self
    }

    fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    fn fails(mut self) -> Self {
        self.fails = true;
        self
    }

    fn rewrites(mut self) -> Self {
        self.rewrites = true;
        self
    }

    /// The request, as bytes.
    pub(crate) fn request(&self, path: &str) -> RawAsk {
        let head = format!(
            "{} {} {}\r\n",
            self.method,
            (self.target)(path),
            self.version
        );
        let mut bytes = head.into_bytes();
        if !self.fields.iter().any(|(name, _)| *name == "Host") {
            bytes.extend_from_slice(b"Host: shop.example\r\n");
        }
        bytes.extend_from_slice(b"Connection: close\r\n");
        for (name, value) in &self.fields {
            bytes.extend_from_slice(format!("{name}: ").as_bytes());
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.content);
        RawAsk::new(bytes)
    }
}

/// The whole table.
pub(crate) fn all() -> Vec<Attack> {
    let mut all = rewriting();
    all.extend(unknown());
    all.extend(dropped());
    all.extend(negotiation());
    all.extend(credentials());
    all.extend(conditions());
    all.extend(content());
    all.extend(targets());
    all.extend(methods());
    all
}

/// Fields by which servers and frameworks rewrite host, path, scheme or method.
fn rewriting() -> Vec<Attack> {
    use Cost::{Forwarded, Nothing, Own};
    let fields = [
        (Own, "X-Forwarded-Host", "evil.example"),
        (Own, "X-Original-URL", "/admin"),
        (Own, "X-Rewrite-URL", "/admin"),
        (Own, "X-Original-URI", "/admin"),
        (Own, "X-Forwarded-Prefix", "/evil"),
        (Own, "X-Forwarded-Path", "/evil"),
        (Own, "X-Forwarded-Server", "evil.example"),
        (Own, "X-Host", "evil.example"),
        (Own, "X-Original-Host", "evil.example"),
        (Forwarded, "X-HTTP-Method-Override", "DELETE"),
        (Forwarded, "X-HTTP-Method", "PUT"),
        (Forwarded, "X-Method-Override", "PATCH"),
    ];
    let proxies = [
        (Own, "X-Forwarded-Proto", "https"),
        (Own, "X-Forwarded-Proto", "HTTPS"),
        (Own, "X-Forwarded-Proto", "https, http"),
        (Nothing, "X-Forwarded-Proto", "http"),
        (Nothing, "X-Forwarded-Proto", "gopher://evil.example/"),
        (Own, "X-Forwarded-Scheme", "https"),
        (Own, "Front-End-Https", "on"),
        (
            Own,
            "Forwarded",
            "for=192.0.2.1;host=evil.example;proto=https",
        ),
        (Nothing, "Forwarded", "host=\"evil.example"),
        (Nothing, "X-Forwarded-For", "192.0.2.1, 198.51.100.7"),
        (Nothing, "X-Real-IP", "192.0.2.1"),
        (Nothing, "True-Client-IP", "192.0.2.1"),
        (Nothing, "X-Forwarded-Port", "444"),
        (Nothing, "Host", "evil.example"),
        (Nothing, "Host", "evil.example:8443"),
    ];
    let fields = fields
        .into_iter()
        .map(|(cost, name, value)| Attack::field(cost, name, value).rewrites());
    let proxies = proxies
        .into_iter()
        .map(|(cost, name, value)| Attack::field(cost, name, value));
    fields.chain(proxies).collect()
}

/// Fields that are in no list. They may shape the answer.
fn unknown() -> Vec<Attack> {
    use Cost::Own;
    let mut all: Vec<_> = [
        ("X-Api-Key", "0123456789abcdef"),
        ("X-Api-Version", "2"),
        ("X-Requested-With", "XMLHttpRequest"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("X-Tenant", "other"),
        ("X-CSRF-Token", "t0k3n"),
        ("Prefer", "respond-async"),
        ("X-Unknown", ""),
        ("X_Unknown", "underscored"),
    ]
    .into_iter()
    .map(|(name, value)| Attack::field(Own, name, value))
    .collect();
    all.push(Attack::field(Own, "X-Odd", "1").fails());
    all.push(Attack::field(
        Own,
        "X-Latin",
        b"caf\xe9 \xfc\xff".as_slice(),
    ));
    let twice = Attack::field(Own, "X-Twice", "1").with("X-Twice", "2");
    all.push(twice.named("X-Twice, two lines"));
    let mut many = Attack::new("60 unknown fields", Own);
    for number in 0..60 {
        let name: &'static str = Box::leak(format!("X-Many-{number}").into_boxed_str());
        many = many.with(name, "1");
    }
    all.push(many);
    let huge = Attack::field(Own, "X-Huge", vec![b'x'; 20_000]);
    all.push(huge.named("X-Huge of 20,000 bytes"));
    all
}

/// Fields that are not part of a question.
fn dropped() -> Vec<Attack> {
    use Cost::{Nothing, Own};
    let mut all: Vec<_> = [
        ("Referer", "https://elsewhere.example/"),
        ("User-Agent", "sqlmap/1.0"),
        (
            "User-Agent",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)",
        ),
        ("DNT", "1"),
        ("Save-Data", "on"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-CH-UA-Mobile", "?1"),
        ("Upgrade-Insecure-Requests", "1"),
        ("Priority", "u=0, i"),
        ("Cache-Control", "no-store"),
        ("Cache-Control", "no-cache"),
        ("Cache-Control", "max-age=0"),
        ("Cache-Control", "max-age=0, no-transform, x=\""),
        ("Pragma", "no-cache"),
        ("Expect", "something-else"),
        ("TE", "trailers, deflate;q=0.5"),
        ("Trailer", "X-Checksum"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Max-Forwards", "0"),
        ("Via", "1.1 elsewhere"),
        ("CDN-Loop", "elsewhere; n=3"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("X-Request-Id", "f47ac10b-58cc-4372-a567-0e02b2c3d479"),
        ("X-Correlation-Id", "<script>"),
        ("Idempotency-Key", "1"),
        ("spin-full-url", "http://evil.example/admin"),
        ("spin-path-info", "/admin"),
        ("spin-client-addr", "192.0.2.1:1"),
        ("spin-content", "chunked"),
        ("spin-client-watch", "1"),
        ("CF-Connecting-IP", "192.0.2.1"),
        ("Early-Data", "1"),
    ]
    .into_iter()
    .map(|(name, value)| Attack::field(Nothing, name, value))
    .collect();
    // RFC 9111: 504 where nothing is stored.
    all.push(Attack::field(Nothing, "Cache-Control", "only-if-cached").fails());
    all.push(Attack::field(Nothing, "Expect", "100-continue"));
    let shield = "leeward; id=0123456789abcdef";
    all.push(Attack::field(Own, "CDN-Loop", shield));
    // A loop may be refused with 508.
    all.push(Attack::field(Nothing, "Via", "1.1 leeward, 1.1 leeward").fails());
    all.push(
        Attack::field(Own, "Connection", "X-Api-Version")
            .with("X-Api-Version", "2")
            .named("Connection: X-Api-Version, and the field"),
    );
    all.push(
        Attack::field(Own, "Connection", "Authorization, Cookie, Host")
            .with("Authorization", "Bearer mallory")
            .named("Connection: Authorization, Cookie, Host"),
    );
    all
}

/// Fields of content negotiation.
fn negotiation() -> Vec<Attack> {
    use Cost::{Nothing, Own};
    let mut all: Vec<_> = [
        (Nothing, "Accept", "*/*"),
        (Own, "Accept", "application/json"),
        (Own, "Accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
        (Own, "Accept", "image/avif,image/webp,*/*"),
        (Own, "Accept", "application/x-made-up"),
        (Own, "Accept", "///;;,q=,\"text"),
        (Own, "Accept", ""),
        (Nothing, "Accept-Language", "xx-odd, *;q=0"),
        (Nothing, "Accept-Language", "de-DE,de;q=0.9"),
        (Nothing, "Accept-Charset", "utf-7"),
        (Nothing, "Accept-Encoding", "made-up"),
        (Nothing, "Accept-Encoding", "identity;q=0, *;q=0"),
        (Nothing, "Accept-Encoding", "gzip;q=0"),
        (Own, "Accept-Encoding", "gzip"),
        (Own, "Accept-Encoding", "gzip, deflate, br, zstd"),
        (Own, "Accept-Encoding", "*"),
        (Own, "Accept-Encoding", "gzip;q=9, \"br"),
    ]
    .into_iter()
    .map(|(cost, name, value)| Attack::field(cost, name, value))
    .collect();
    let long = vec!["application/x-made-up;v=1"; 300].join(", ");
    all.push(Attack::field(Own, "Accept", long).named("Accept with 300 types"));
    all
}

/// Credentials and cookies.
fn credentials() -> Vec<Attack> {
    use Cost::{Forwarded, Nothing};
    let mut all: Vec<_> = [
        (Forwarded, "Authorization", "Basic bWFsbG9yeTpzZWNyZXQ="),
        (Forwarded, "Authorization", "Bearer mallory"),
        (Forwarded, "Authorization", "NTLM TlRMTVNTUAADAAAA"),
        (Forwarded, "Authorization", "Negotiate YIIB"),
        (Forwarded, "Authorization", ""),
        (
            Forwarded,
            "Proxy-Authorization",
            "Basic bWFsbG9yeTpzZWNyZXQ=",
        ),
        (Forwarded, "Cookie", "ASP.NET_SessionId=mallory"),
        (
            Forwarded,
            "Cookie",
            "_ga=GA1.2.3; ASP.NET_SessionId=mallory",
        ),
        (Nothing, "Cookie", "_ga=GA1.2.3; _gid=GA1.2.4; ai_user=abc"),
        (Forwarded, "Cookie", "=; ;;a, b=\"; $Version=1; c"),
        (Nothing, "Cookie", ""),
    ]
    .into_iter()
    .map(|(cost, name, value)| Attack::field(cost, name, value))
    .collect();
    let huge = [b"a=".as_slice(), &[b'x'; 20_000]].concat();
    all.push(Attack::field(Forwarded, "Cookie", huge).named("Cookie of 20,000 bytes"));
    let huge = [b"_ga=".as_slice(), &[b'x'; 20_000]].concat();
    all.push(Attack::field(Nothing, "Cookie", huge).named("Cookie _ga of 20,000 bytes"));
    all.push(Attack::field(
        Forwarded,
        "Cookie",
        b"name=\xfc\xff".as_slice(),
    ));
    all.push(
        Attack::field(Forwarded, "Cookie", "ASP.NET_SessionId=a")
            .with("Cookie", "ASP.NET_SessionId=b")
            .named("Cookie, two lines"),
    );
    all
}

/// Conditions and ranges.
fn conditions() -> Vec<Attack> {
    use Cost::{Forwarded, Nothing, Validated};
    let date = "Wed, 01 Jan 2020 00:00:00 GMT";
    let mut all: Vec<_> = [
        (Nothing, "If-None-Match", "\"v1\""),
        (Nothing, "If-None-Match", "*"),
        (Nothing, "If-None-Match", "W/\"other\", unquoted"),
        (
            Nothing,
            "If-Modified-Since",
            "Fri, 01 Jan 2100 00:00:00 GMT",
        ),
        (Nothing, "If-Modified-Since", "yesterday"),
        (Validated, "If-Match", "\"other\""),
        (Validated, "If-Match", "*"),
        (Validated, "If-Unmodified-Since", date),
        (Nothing, "Range", "bytes=0-3"),
        (Nothing, "Range", "bytes=-1"),
        (Nothing, "Range", "bytes=99999999-"),
        (Nothing, "Range", "bytes=0-0,2-2,4-4,6-6,8-8,1-9,1-9,1-9"),
        (Forwarded, "Range", "items=0-3"),
        (Forwarded, "Range", "bytes=abc"),
    ]
    .into_iter()
    .map(|(cost, name, value)| Attack::field(cost, name, value))
    .collect();
    for value in ["\"v1\"", "\"other\"", date] {
        all.push(
            Attack::field(Nothing, "If-Range", value)
                .with("Range", "bytes=0-3")
                .named(&format!("If-Range: {value}")),
        );
    }
    all
}

/// GET and HEAD with content, or with fields that speak of content.
fn content() -> Vec<Attack> {
    use Cost::{Forwarded, Nothing};
    let chunked = || Attack::field(Forwarded, "Transfer-Encoding", "chunked");
    let five = || Attack::field(Forwarded, "Content-Length", "5");
    vec![
        Attack::field(Nothing, "Content-Type", "application/json"),
        Attack::field(Nothing, "Content-Encoding", "gzip"),
        Attack::field(Nothing, "Content-Length", "0"),
        five().content("hello").named("GET with content"),
        five()
            .with("Content-Type", "application/json")
            .content("{ } !")
            .named("GET with content that has a type"),
        five()
            .with("Cookie", "ASP.NET_SessionId=mallory")
            .content("hello")
            .named("GET with content and a cookie"),
        Attack {
            end: End::Unfinished,
            ..five().named("GET with a length and no content")
        },
        chunked()
            .content("5\r\nhello\r\n0\r\n\r\n")
            .named("GET, chunked"),
        chunked().content("0\r\n\r\n").named("GET, chunked, empty"),
        chunked()
            .content("zz\r\nhello\r\n")
            .fails()
            .named("GET, chunks malformed"),
        chunked()
            .with("Content-Length", "5")
            .content("0\r\n\r\n")
            .named("GET, both lengths"),
        Attack {
            method: "HEAD",
            ..five().content("hello").named("HEAD with content")
        },
        Attack {
            end: End::Left,
            ..Attack::new("GET, and away", Forwarded)
        },
        Attack {
            version: "HTTP/1.0",
            ..Attack::new("HTTP/1.0", Nothing)
        },
    ]
}

/// Targets that a cache and an origin may understand differently.
fn targets() -> Vec<Attack> {
    use Cost::{Nothing, Own};
    let of = Attack::target;
    vec![
        of(Nothing, "?utm_source=x", "", |path| {
            format!("{path}?utm_source=x")
        }),
        of(Nothing, "ignored parameter with a script", "", |path| {
            format!("{path}?utm_campaign=%3Cscript%3E")
        })
        .fails(),
        of(Nothing, "ignored parameter with a raw script", "", |path| {
            format!("{path}?utm_campaign=<script>")
        })
        .fails(),
        of(Nothing, "ignored parameter of 3,000 bytes", "", |path| {
            format!("{path}?fbclid={}", "a".repeat(3_000))
        }),
        of(Own, "?q=%3Cscript%3E", "", |path| {
            format!("{path}?q=%3Cscript%3E")
        })
        .fails(),
        of(Own, "?a=1;utm_source=x", "?a=1", |path| {
            format!("{path}?a=1;utm_source=x")
        }),
        of(Own, "?utm_source=x;a=2&a=1", "?a=1", |path| {
            format!("{path}?utm_source=x;a=2&a=1")
        }),
        of(Own, "?a=1&utm_source=x;a=2", "?a=1", |path| {
            format!("{path}?a=1&utm_source=x;a=2")
        }),
        of(Own, "?a=1&a=2", "?a=1", |path| format!("{path}?a=1&a=2")),
        of(Own, "?a=1%26a=2", "?a=1", |path| {
            format!("{path}?a=1%26a=2")
        }),
        of(Own, "?a=1&%75tm_source=x", "?a=1", |path| {
            format!("{path}?a=1&%75tm_source=x")
        }),
        of(Own, "?A=1", "?a=1", |path| format!("{path}?A=1")),
        of(Nothing, "?b=1&a=2", "?a=2&b=1", |path| {
            format!("{path}?b=1&a=2")
        }),
        of(Own, "?_=1700000000", "", |path| {
            format!("{path}?_=1700000000")
        }),
        of(Own, "?", "", |path| format!("{path}?")),
        of(Own, "?&&", "", |path| format!("{path}?&&")),
        of(Nothing, "percent-encoded letter", "", |path| {
            path.replace("row", "%72ow")
        }),
        of(Own, "path in upper case", "", |path| {
            path.replace("row", "ROW")
        }),
        of(Own, "path with %2F", "", |path| {
            path.replace("/row", "%2Frow")
        }),
        of(Own, "path with a dot segment", "", |path| {
            path.replace("/row", "/./row")
        }),
        of(Own, "path with two dots", "", |path| {
            path.replace("/row", "/x/../row")
        }),
        of(Own, "path with encoded dots", "", |path| {
            path.replace("/row", "/x/%2e%2e/row")
        }),
        of(Own, "path with two slashes", "", |path| {
            path.replace("/row", "//row")
        }),
        of(Own, "path with a slash at the end", "", |path| {
            format!("{path}/")
        }),
        of(Own, "path with a parameter", "", |path| {
            format!("{path};jsessionid=1")
        }),
        of(Own, "path with a backslash", "", |path| {
            path.replace("/row", "\\row")
        }),
        of(Own, "path with %00", "", |path| format!("{path}%00")),
        of(Own, "path with a style sheet's name", "", |path| {
            format!("{path}/x.css")
        }),
        of(Nothing, "fragment", "", |path| format!("{path}#top")),
        of(Nothing, "absolute form", "", |path| {
            format!("http://shop.example{path}")
        }),
        of(Nothing, "absolute form, other host", "", |path| {
            format!("http://evil.example{path}")
        }),
        of(Own, "absolute form, https", "", |path| {
            format!("https://shop.example{path}")
        }),
    ]
}

/// Other methods, which the origin refuses.
fn methods() -> Vec<Attack> {
    let five = |attack: Attack| attack.with("Content-Length", "5").content("hello");
    vec![
        Attack::method("HEAD"),
        five(Attack::method("POST")),
        Attack::method("POST")
            .with("Content-Length", "0")
            .named("POST without content"),
        Attack::method("POST")
            .with("X-HTTP-Method-Override", "GET")
            .with("Content-Length", "0")
            .named("POST that says it is a GET"),
        five(Attack::method("PUT")),
        five(Attack::method("PATCH")),
        Attack::method("DELETE"),
        Attack::method("OPTIONS")
            .with("Origin", "https://evil.example")
            .with("Access-Control-Request-Method", "PUT")
            .named("preflight"),
        Attack::method("OPTIONS"),
        Attack::method("TRACE"),
        Attack::method("TRACE")
            .with("Max-Forwards", "0")
            .named("TRACE, no hops"),
        Attack::method("PURGE"),
        Attack::method("BAN"),
        Attack::method("MADE-UP"),
        Attack::method("get").named("get, in lower case"),
        Attack::method("CONNECT").fails(),
    ]
}
