//! Why a response is not stored.

use std::fmt;

/// Why a response is not stored. `Display` gives a token for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The method's answers are not stored.
    Method,
    /// 1xx: the final response is yet to come.
    NotFinal,
    /// Part of a representation (206), or about one (416).
    Partial,
    /// 304, which updates an entry and is not one itself.
    NotModified,
    /// The request said `no-store`.
    RequestNoStore,
    /// The response said `no-store`.
    NoStore,
    /// The response said `private`.
    Private,
    /// Answer to a request with `Authorization` that does not say that it may be
    /// shared.
    Authorization,
    /// Sets a cookie, and does not say that it may be shared.
    SetCookie,
    /// Answer to a request with `Cookie` that does not speak about shared caches.
    Cookie,
    /// `Vary: *`, or a `Vary` that cannot be read.
    VaryStar,
    /// `must-understand`, and the status is not understood.
    NotUnderstood,
    /// Says nothing that would allow it, and its status is not cacheable by default.
    NoFreshness,
    /// Its status says that the origin fails or is overloaded.
    Failure,
    /// A redirect that leads to the question that it answers.
    SelfRedirect,
    /// Fresh for no time, not to be used stale, and nothing to validate it with.
    Useless,
}

impl Reason {
    /// Every reason, for counters and tests.
    pub const ALL: [Reason; 16] = [
        Reason::Method,
        Reason::NotFinal,
        Reason::Partial,
        Reason::NotModified,
        Reason::RequestNoStore,
        Reason::NoStore,
        Reason::Private,
        Reason::Authorization,
        Reason::SetCookie,
        Reason::Cookie,
        Reason::VaryStar,
        Reason::NotUnderstood,
        Reason::NoFreshness,
        Reason::Failure,
        Reason::SelfRedirect,
        Reason::Useless,
    ];

    /// Whether the next request for the key probably meets the same reason, so
    /// that a pass mark is due: requests then do not queue for nothing. A later
    /// answer that may be stored, to a request without credentials for instance,
    /// should take the mark away.
    pub fn marks_pass(self) -> bool {
        match self {
            Reason::NoStore
            | Reason::Private
            | Reason::Authorization
            | Reason::SetCookie
            | Reason::Cookie
            | Reason::VaryStar
            | Reason::NotUnderstood
            | Reason::NoFreshness
            | Reason::SelfRedirect
            | Reason::Partial
            | Reason::Useless => true,
            Reason::Failure
            | Reason::Method
            | Reason::NotFinal
            | Reason::NotModified
            | Reason::RequestNoStore => false,
        }
    }

    /// A short name, fit for logs, counters and `Cache-Status` details.
    pub fn token(self) -> &'static str {
        match self {
            Reason::Method => "method",
            Reason::NotFinal => "not-final",
            Reason::Partial => "partial",
            Reason::NotModified => "not-modified",
            Reason::RequestNoStore => "request-no-store",
            Reason::NoStore => "no-store",
            Reason::Private => "private",
            Reason::Authorization => "authorization",
            Reason::SetCookie => "set-cookie",
            Reason::Cookie => "cookie",
            Reason::VaryStar => "vary-star",
            Reason::NotUnderstood => "not-understood",
            Reason::NoFreshness => "no-freshness",
            Reason::Failure => "failure",
            Reason::SelfRedirect => "self-redirect",
            Reason::Useless => "useless",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}
