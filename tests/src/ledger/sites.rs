//! The sites of the ledger. No two of them have a path in common.
//!
//! | site | its visitors |
//! | --- | --- |
//! | all private | have sessions, and every page is `private` |
//! | public with sessions | have sessions, and every page is for everyone |
//! | missing pages | ask for what is not there, with sessions and without |
//! | redirects to a login | are sent to a login where they have no session |
//! | tokens | get a token of their own with each `no-cache` page, at once |
//! | slow pages | ask, some of them, for what takes the origin longer than others wait |
//! | long polls | wait for news, at once, and read pages |
//! | static files | bring their session to style sheets, and know what they have seen |
//! | nginx with gzip | accept a coding or none; a 200 has a weak tag, its 304 a strong one |
//! | an API | have keys that name them, tokens, or neither |
//! | postbacks | have sessions, and post pages to themselves |
//! | a crawler | are five crawlers without cookies |
//! | failing pages | have sessions; one page in ten is a 500 |
//! | pages in languages | have no sessions; each page is for one visitor, and its `Vary` names the language |
//! | mixed | are three with sessions and two without, on a shop |

use std::time::Duration;

use fastrand::Rng;
use http::{Method, StatusCode};

use super::page::{For, Page, Sent};

/// What the origin may get for a browse. But for a known fault, it is never more than the
/// visitors sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// What a perfect cache sends, and no more.
    Perfect,
    /// At most a tenth more than a perfect cache.
    Tenth,
    /// So many percent of what a perfect cache sends.
    Percent(usize),
    /// A known fault: so many percent of what the visitors sent.
    Fault(usize),
}

/// How visitors come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Come {
    /// One request after the other.
    InTurn,
    /// All at once, each with one request after the other.
    AtOnce,
}

/// A site and its visitors.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// What it is called.
    pub name: &'static str,
    /// What the origin answers.
    pub page: fn(&Sent) -> Page,
    /// What a visitor, by number, asks in a step.
    pub asks: fn(&mut Rng, usize, usize) -> Sent,
    /// How the visitors come.
    pub come: Come,
    /// What the origin may get.
    pub bound: Bound,
}

/// How long a slow page takes. What becomes of one that is slower than the timeout for its
/// head is for other tests: here a machine that stands still would decide it.
const SLOWLY: Duration = Duration::from_millis(1_500);

/// How long the origin works for what others ask for meanwhile.
const QUICKLY: Duration = Duration::from_millis(40);

/// How long the origin holds a long poll.
const POLL: Duration = Duration::from_millis(30);

/// What is for everyone.
const PUBLIC: &str = "public, max-age=600";

/// All sites.
pub const SITES: [Site; 15] = [
    Site {
        name: "all private",
        page: |sent| private(sent, ""),
        asks: |rng, visitor, _| own(visitor, format!("/account/{}", rng.u8(..40))),
        come: Come::AtOnce,
        bound: Bound::Perfect,
    },
    Site {
        name: "public with sessions",
        page: |sent| Page::new(For::All, PUBLIC, format!("page {}", sent.target)),
        asks: |rng, visitor, _| {
            let area = ["/shop/", "/brand/", "/about-"][rng.usize(..3)];
            own(visitor, format!("{area}{}", rng.u8(..15)))
        },
        come: Come::InTurn,
        bound: Bound::Percent(220),
    },
    Site {
        name: "missing pages",
        page: |sent| {
            let page = Page::new(For::One, "", format!("no {}", sent.target));
            page.status(StatusCode::NOT_FOUND)
        },
        asks: |rng, visitor, _| some_own(visitor, 3, format!("/missing/{}", rng.u8(..60))),
        come: Come::AtOnce,
        bound: Bound::Perfect,
    },
    Site {
        name: "redirects to a login",
        page: |sent| match sent.has_session() {
            true => private(sent, "private"),
            false => Page::new(For::One, "", "log in".to_owned())
                .status(StatusCode::FOUND)
                .with("location", &format!("/login?return={}", sent.target)),
        },
        asks: |rng, visitor, _| some_own(visitor, 3, format!("/members/{}", rng.u8(..40))),
        come: Come::AtOnce,
        bound: Bound::Perfect,
    },
    Site {
        name: "tokens",
        page: |sent| match sent.target.starts_with("/token/") {
            true => {
                let whose = sent.field("cookie");
                Page::new(For::OneWithToken, "no-cache", format!("token {whose} "))
            }
            false => Page::new(For::One, "no-cache", format!("form {}", sent.target))
                .tagged("\"form\"", "\"form\""),
        },
        asks: |rng, visitor, _| {
            let area = ["/token/", "/checked/"][rng.usize(..2)];
            some_own(visitor, 2, format!("{area}{}", rng.u8(..5)))
        },
        come: Come::AtOnce,
        bound: Bound::Perfect,
    },
    Site {
        name: "slow pages",
        page: slow,
        asks: |rng, visitor, step| match (visitor, step) {
            (0, 3) => own(visitor, "/slow/own".to_owned()),
            (1 | 2, 3) => Sent::by(visitor, "/slow/all".to_owned()),
            (0..3, _) => own(visitor, format!("/brief/{}", rng.u8(..20))),
            _ => own(visitor, format!("/quick/{}", rng.u8(..20))),
        },
        come: Come::AtOnce,
        bound: Bound::Perfect,
    },
    Site {
        name: "long polls",
        page: |sent| match sent.target.starts_with("/signalr/") {
            true => private(sent, "no-cache").after(POLL),
            false => Page::new(For::All, PUBLIC, "news".to_owned()),
        },
        asks: |rng, visitor, step| match step % 4 {
            0 => {
                let query = "transport=longPolling&connectionToken";
                own(visitor, format!("/signalr/poll?{query}={visitor}"))
            }
            _ => some_own(visitor, 2, format!("/feed/{}", rng.u8(..10))),
        },
        come: Come::AtOnce,
        bound: Bound::Percent(120),
    },
    Site {
        name: "static files",
        page: style_sheet,
        asks: |rng, visitor, step| {
            let area = ["/css/", "/silent/"][rng.usize(..2)];
            let sent = some_own(visitor, 4, format!("{area}{}.css", rng.u8(..15)));
            match step % 3 {
                2 => sent.with("if-none-match", "\"css\""),
                _ => sent,
            }
        },
        come: Come::AtOnce,
        bound: Bound::Perfect,
    },
    Site {
        name: "nginx with gzip",
        page: compressed,
        asks: |rng, visitor, step| {
            let area = ["/zip/", "/zipped/"][usize::from(step % 4 == 0)];
            let sent = Sent::by(visitor, format!("{area}{}", rng.u8(..12)));
            match visitor {
                4 => sent.with("accept-encoding", "identity"),
                _ => sent,
            }
        },
        come: Come::InTurn,
        bound: Bound::Perfect,
    },
    Site {
        name: "an API",
        page: api,
        asks: |rng, visitor, _| {
            let area = ["/api/items?page=", "/api/me?view="][rng.usize(..2)];
            let sent = Sent::by(visitor, format!("{area}{}", rng.u8(..6)));
            let sent = sent.with("accept", "application/json");
            match visitor {
                0 => sent,
                1 | 2 => sent.with("authorization", &format!("Bearer of-{visitor}")),
                _ => sent.with("x-api-key", &format!("of-{visitor}")),
            }
        },
        come: Come::AtOnce,
        bound: Bound::Tenth,
    },
    Site {
        name: "postbacks",
        page: |sent| {
            let (whose, target) = (sent.field("cookie"), &sent.target);
            let state = String::from_utf8_lossy(&sent.content);
            let page = format!("{} {target} of {whose}: {state}", sent.method);
            let page = Page::new(For::One, "private", page);
            match (sent.has_session(), sent.method == Method::POST) {
                (false, _) => page.with("set-cookie", "ASP.NET_SessionId=new; path=/"),
                (true, true) if state.ends_with('3') => {
                    page.status(StatusCode::FOUND).with("location", target)
                }
                (true, _) => page,
            }
        },
        asks: |rng, visitor, step| {
            let sent = some_own(visitor, 4, format!("/form/{}.aspx", rng.u8(..8)));
            match rng.u8(..3) {
                0 => sent.posting(format!("__VIEWSTATE={step}")),
                _ => sent,
            }
        },
        come: Come::AtOnce,
        bound: Bound::Perfect,
    },
    Site {
        name: "a crawler",
        page: |sent| Page::new(For::All, "", format!("article {}", sent.target)),
        asks: |rng, visitor, step| {
            let sent = Sent::by(visitor, format!("/article/{}", rng.u8(..90)));
            match step % 8 {
                7 => sent.method(Method::HEAD),
                _ => sent,
            }
        },
        come: Come::AtOnce,
        bound: Bound::Perfect,
    },
    Site {
        name: "failing pages",
        page: |sent| match sent.target.ends_with('7') {
            true => private(sent, "").status(StatusCode::INTERNAL_SERVER_ERROR),
            false => private(sent, "private"),
        },
        asks: |rng, visitor, _| own(visitor, format!("/report/{}", rng.u8(..20))),
        come: Come::AtOnce,
        bound: Bound::Perfect,
    },
    // The question has no language, so the first visitor of each page is forwarded after it. A
    // question that is never stored costs that once for each page in `origin.pass`.
    Site {
        name: "pages in languages",
        page: |sent| {
            let language = sent.field("accept-language");
            Page::new(
                For::One,
                "no-store",
                format!("{} in {language}", sent.target),
            )
            .with("vary", "Accept-Language")
        },
        asks: |rng, visitor, _| Sent::by(visitor, format!("/lang/{}", rng.u8(..40))),
        come: Come::InTurn,
        bound: Bound::Fault(120),
    },
    Site {
        name: "mixed",
        page: |sent| match sent.target.split('/').nth(1) {
            Some("basket") => private(sent, "private"),
            Some("search") => private(sent, ""),
            Some("images") => Page::new(For::All, "max-age=600", format!("bytes {}", sent.target))
                .with("content-type", "image/png"),
            _ => Page::new(For::All, PUBLIC, format!("goods {}", sent.target)),
        },
        asks: |rng, visitor, _| {
            let (area, pages) = match rng.u8(..10) {
                0..=1 => ("/goods/", 20),
                2..=3 => ("/images/", 20),
                4..=8 => ("/basket/", 5),
                _ => ("/search/", 10),
            };
            let end = ["", ".png"][usize::from(area == "/images/")];
            let target = format!("{area}{}{end}", rng.u8(..pages));
            match area {
                "/basket/" | "/search/" => own(visitor, target),
                _ => some_own(visitor, 3, target),
            }
        },
        come: Come::InTurn,
        bound: Bound::Tenth,
    },
];

/// A visitor with a session.
fn own(visitor: usize, target: String) -> Sent {
    Sent::by(visitor, target).in_session_of(visitor)
}

/// The visitors up to this number have a session.
fn some_own(visitor: usize, with_session: usize, target: String) -> Sent {
    match visitor < with_session {
        true => own(visitor, target),
        false => Sent::by(visitor, target),
    }
}

/// A page with something of its visitor's in it.
fn private(sent: &Sent, control: &str) -> Page {
    let control = match control {
        "" => "private",
        control => control,
    };
    let body = format!("{} of {}", sent.target, sent.field("cookie"));
    Page::new(For::One, control, body)
}

fn slow(sent: &Sent) -> Page {
    match sent.target.split('/').nth(2) {
        _ if sent.target.starts_with("/brief/") => private(sent, "private"),
        _ if sent.target.starts_with("/quick/") => private(sent, "private").after(QUICKLY),
        Some("all") => Page::new(For::All, PUBLIC, "report".to_owned()).after(SLOWLY),
        _ => private(sent, "private").after(SLOWLY),
    }
}

fn style_sheet(sent: &Sent) -> Page {
    let control = match sent.target.starts_with("/silent/") {
        true => "",
        false => "max-age=600",
    };
    let page = Page::new(For::All, control, format!("/* {} */", sent.target));
    page.with("content-type", "text/css")
        .tagged("\"css\"", "\"css\"")
}

/// nginx compresses, and makes the tag of what it has compressed a weak one; its 304 has
/// the tag of the file.
fn compressed(sent: &Sent) -> Page {
    let (whose, control) = match sent.target.starts_with("/zipped/") {
        true => (For::One, "no-cache"),
        false => (For::All, "max-age=600"),
    };
    let body = format!("page {}", sent.target);
    let page = match sent.field("accept-encoding").contains("gzip") {
        true => Page::new(whose, control, format!("compressed {body}"))
            .with("content-encoding", "gzip")
            .tagged("W/\"5f-1\"", "\"5f-1\""),
        false => Page::new(whose, control, body).tagged("\"5f-1\"", "\"5f-1\""),
    };
    page.with("vary", "Accept-Encoding")
}

fn api(sent: &Sent) -> Page {
    let (key, token) = (sent.field("x-api-key"), sent.field("authorization"));
    let is_own = sent.target.starts_with("/api/me");
    let (whose, control) = match (key.is_empty(), token.is_empty(), is_own) {
        (true, true, _) => {
            let page = Page::new(For::One, "no-store", "who are you".to_owned());
            return page
                .status(StatusCode::UNAUTHORIZED)
                .with("www-authenticate", "Bearer realm=\"api\"");
        }
        // The key is a part of the question.
        (false, true, false) => (For::All, "max-age=600"),
        _ => (For::One, "private"),
    };
    let body = format!("{{\"{}\": \"{key}{token}\"}}", sent.target);
    Page::new(whose, control, body).with("content-type", "application/json")
}
