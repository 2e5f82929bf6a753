//! Scouts: visitors with credentials on new URLs, side by side with others.
//!
//! A scout's request goes to the origin as it is, and others wait for what the head of its
//! answer says. Each answer of the origin names whom it was made for, and is unlike any other,
//! in its body, its `Set-Cookie` and its `Location`. What must hold:
//!
//! - An answer that was made for a visitor with credentials reaches that request alone.
//! - One that was made for nobody reaches visitors with credentials only where the origin says
//!   that it is for everyone, and never with its `Set-Cookie`.
//! - A `Set-Cookie`, a redirect that states nothing, and what is `private`, `no-store` or
//!   `no-cache`, reaches one visitor at most.
//! - Nobody gets a 5xx.
//!
//! Preset `strict` may share what a visitor got where the origin says `public` or `s-maxage`
//! (RFC 9111 section 3.5), but never its `Set-Cookie`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, stream};
use http::StatusCode;
use leeward_tests::{Answer, Ask, Reply, Seen, StoreKind, World};

use super::{AT_ONCE, Fault, settings};

/// How long the origin takes: the visitors of a row meet there.
const TAKES: Duration = Duration::from_millis(10);

/// The visitors of a row, in their order. Two have a session, one has a password.
const VISITORS: [&str; 6] = ["alice", NOBODY, "bob", "carol", NOBODY, "alice"];

/// The name of a visitor without credentials.
const NOBODY: &str = "nobody";

/// What the origin says about caching.
const SAYS: [&str; 7] = [
    "",
    "private",
    "no-store",
    "no-cache",
    "max-age=600",
    "public, max-age=600",
    "s-maxage=600",
];

/// What the origin answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Page,
    /// A redirect to a login, with a token in its address.
    Login,
    Unauthorized,
    Forbidden,
    Missing,
}

impl Shape {
    const OTHERS: [Shape; 4] = [
        Shape::Login,
        Shape::Unauthorized,
        Shape::Forbidden,
        Shape::Missing,
    ];

    fn status(self) -> StatusCode {
        match self {
            Shape::Page => StatusCode::OK,
            Shape::Login => StatusCode::FOUND,
            Shape::Unauthorized => StatusCode::UNAUTHORIZED,
            Shape::Forbidden => StatusCode::FORBIDDEN,
            Shape::Missing => StatusCode::NOT_FOUND,
        }
    }
}

/// Who comes to a page first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// All at once.
    Together,
    /// The first visitor with credentials, then the others at once.
    ScoutFirst,
    /// The first visitor without, then the others at once.
    NobodyFirst,
}

/// Where a page lies, which decides whether its question is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a directory of its own, of which nothing is known.
    New,
    /// Beside pages of all kinds.
    Beside,
    /// By its name a static file.
    Static,
}

/// One page and its visitors.
#[derive(Clone, Debug)]
struct Row {
    number: usize,
    /// The answers to visitors with credentials, and to those without.
    shapes: (Shape, Shape),
    says: &'static str,
    order: Order,
    place: Place,
}

impl Row {
    fn path(&self) -> String {
        let number = self.number;
        match self.place {
            Place::New => format!("/scouted{number:05}/page"),
            Place::Beside => format!("/scouted/page{number:05}"),
            Place::Static => format!("/scouted{number:05}/page.css"),
        }
    }

    fn name(&self) -> String {
        let (with, without) = self.shapes;
        let says = self.says;
        format!("{with:?}, nobody {without:?}, {says:?}")
    }

    /// Whether the origin says that the answer to a visitor without credentials is for
    /// everyone.
    fn is_for_everyone(&self) -> bool {
        self.shapes.1 == Shape::Page && self.says.contains("max")
    }

    /// Whether an answer to a visitor without credentials is for that visitor.
    fn is_for_one(&self) -> bool {
        let is_restricted = ["private", "no-store", "no-cache"].contains(&self.says);
        is_restricted || (self.shapes.1 == Shape::Login && self.says.is_empty())
    }
}

fn rows() -> Vec<Row> {
    let same = Shape::OTHERS.map(|shape| (shape, shape));
    let with = Shape::OTHERS.map(|shape| (shape, Shape::Page));
    let without = Shape::OTHERS.map(|shape| (Shape::Page, shape));
    let page = [(Shape::Page, Shape::Page)];
    let shapes: Vec<_> = [&page[..], &same, &with, &without].concat();
    let mut rows = Vec::new();
    for shapes in shapes {
        for says in SAYS {
            let (with, _) = shapes;
            for (order, place) in [
                (Order::Together, Place::New),
                (Order::ScoutFirst, Place::New),
                (Order::NobodyFirst, Place::New),
                (Order::Together, Place::Beside),
                (Order::Together, Place::Static),
            ] {
                if place != Place::New && with != Shape::Page {
                    continue;
                }
                rows.push(Row {
                    number: rows.len(),
                    shapes,
                    says,
                    order,
                    place,
                });
            }
        }
    }
    rows
}

/// Whose request it is, as the origin sees it.
fn who(seen: &Seen) -> String {
    let cookie = seen.header("cookie").unwrap_or_default();
    let authorization = seen.header("authorization").unwrap_or_default();
    let name = cookie
        .strip_prefix("session=")
        .or(authorization.strip_prefix("Bearer "));
    name.unwrap_or(NOBODY).to_owned()
}

/// The answer to a request. It has a mark that no other answer has.
fn answer(row: &Row, seen: &Seen) -> Answer {
    let who = who(seen);
    let mark = format!("{who}.{}", seen.number);
    let shape = match who == NOBODY {
        true => row.shapes.1,
        false => row.shapes.0,
    };
    let mut answer = Answer::fixed(format!("made for {mark}"))
        .status(shape.status())
        .header("content-type", "text/html")
        .takes(TAKES);
    if !row.says.is_empty() {
        answer = answer.cache_control(row.says);
    }
    if shape == Shape::Login {
        answer = answer.header("location", &format!("/login?state={mark}"));
    }
    if shape == Shape::Unauthorized {
        answer = answer.header("www-authenticate", "Bearer");
    }
    // A page that states nothing and sets a cookie would not be stored.
    let may_be_stored = shape == Shape::Page && row.says.contains("max");
    let is_login = matches!(shape, Shape::Login | Shape::Unauthorized);
    match who != NOBODY || is_login || may_be_stored {
        true => answer.header("set-cookie", &format!("token={mark}; HttpOnly")),
        false => answer,
    }
}

/// The request of a visitor.
fn ask_of(who: &str, path: &str) -> Ask {
    match who {
        NOBODY => Ask::get(path),
        "carol" => Ask::get(path).header("authorization", "Bearer carol"),
        who => Ask::get(path).header("cookie", &format!("session={who}")),
    }
}

/// A mark that a visitor got, and where in the answer it was.
#[derive(Clone, Debug)]
struct Got {
    mark: String,
    part: &'static str,
}

fn marks(reply: &Reply) -> Vec<Got> {
    let mut found = Vec::new();
    let mut add = |text: &str, before: &str, part| {
        if let Some((_, mark)) = text.split_once(before) {
            let mark = mark.split(';').next().unwrap_or_default().to_owned();
            found.push(Got { mark, part });
        }
    };
    add(&reply.text(), "made for ", "body");
    add(reply.header("location"), "state=", "Location");
    for cookie in reply.headers.get_all("set-cookie") {
        add(
            &String::from_utf8_lossy(cookie.as_bytes()),
            "token=",
            "Set-Cookie",
        );
    }
    found
}

/// What visitors of a row got, by visitor.
type Replies = Vec<(&'static str, anyhow::Result<Reply>)>;

/// All visits of a row: those that meet, and one more of each visitor after them.
async fn visit(world: &World, row: &Row) -> Replies {
    let path = row.path();
    let nodes = world.all();
    world.origin.always(&path, {
        let row = row.clone();
        Answer::made_by(move |seen| answer(&row, seen))
    });
    let first = match row.order {
        Order::Together => None,
        Order::ScoutFirst => Some("alice"),
        Order::NobodyFirst => Some(NOBODY),
    };
    let mut replies = Replies::new();
    if let Some(who) = first {
        replies.push((who, ask_of(who, &path).to(nodes[0]).await));
    }
    for round in 0..2 {
        let visits = VISITORS.iter().enumerate().map(async |(number, who)| {
            let node = nodes[(number + round) % nodes.len()];
            (*who, ask_of(who, &path).to(node).await)
        });
        replies.extend(join_all(visits).await);
    }
    replies
}

/// What is wrong with what the visitors of a row got.
fn faults(row: &Row, replies: &Replies, is_strict: bool) -> Vec<Fault> {
    let is_shared_by_its_word =
        is_strict && (row.says.contains("public") || row.says.contains("s-maxage"));
    let mut faults = Vec::new();
    let mut receivers: HashMap<(String, &str), usize> = HashMap::new();
    for (who, reply) in replies {
        let reply = match reply {
            Ok(reply) if reply.status.is_server_error() => {
                faults.push(Fault("a 5xx", format!("{who} got {reply}")));
                continue;
            }
            Ok(reply) => reply,
            Err(error) => {
                faults.push(Fault("no answer", format!("{who}: {error:#}")));
                continue;
            }
        };
        let marks = marks(reply);
        if !marks.iter().any(|got| got.part == "body") {
            faults.push(Fault("no page of the origin's", format!("{who}: {reply}")));
        }
        for Got { mark, part } in marks {
            let made_for = mark.split('.').next().unwrap_or_default();
            let detail = || format!("{who} got the {part} of {mark}");
            let is_cookie = part == "Set-Cookie";
            if made_for != *who && made_for != NOBODY && (is_cookie || !is_shared_by_its_word) {
                faults.push(Fault("another's answer", detail()));
            }
            let may_have_nobodys = is_strict || row.is_for_everyone();
            if made_for == NOBODY && *who != NOBODY && (is_cookie || !may_have_nobodys) {
                faults.push(Fault("an answer for those without", detail()));
            }
            *receivers.entry((mark, part)).or_default() += 1;
        }
    }
    for ((mark, part), count) in receivers {
        let is_nobodys = mark.starts_with(NOBODY);
        let is_for_one = part == "Set-Cookie"
            || match is_nobodys {
                true => row.is_for_one(),
                false => !is_shared_by_its_word,
            };
        if is_for_one && count > 1 {
            let detail = format!("{count} got the {part} of {mark}");
            faults.push(Fault("an answer of several", detail));
        }
    }
    faults
}

/// Whether the first request at the origin was a scout's.
fn was_scouted(world: &World, row: &Row) -> bool {
    let record = world.origin.record(&row.path());
    let first = record.arrivals.first();
    first.is_some_and(|arrival| arrival.headers.contains_key("cookie"))
}

async fn expect_each_its_own(world: &World, rows: Vec<Row>, is_strict: bool) {
    let ended: Vec<_> = stream::iter(&rows)
        .map(async |row| (row, visit(world, row).await))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut table: BTreeMap<(String, &str), (usize, String)> = BTreeMap::new();
    for (row, replies) in &ended {
        for Fault(kind, detail) in faults(row, replies, is_strict) {
            let first = format!("{:?} {:?}: {detail}", row.order, row.place);
            let entry = table.entry((row.name(), kind)).or_insert((0, first));
            entry.0 += 1;
        }
    }
    let mut text = String::new();
    for ((row, kind), (count, first)) in &table {
        writeln!(text, "| {row} | {kind} | {count} | {first} |").unwrap();
    }
    assert!(
        table.is_empty(),
        "| with credentials, and without | fault | times | the first |\n| --- | --- | --- | --- |\n{text}"
    );
    // Else the rows would have shown nothing.
    let unscouted: Vec<_> = rows
        .iter()
        .filter(|row| row.order == Order::ScoutFirst && !was_scouted(world, row))
        .map(Row::name)
        .collect();
    assert!(unscouted.is_empty(), "no scout came first: {unscouted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_scout_gets_reaches_nobody_else_on_one_node() {
    let world = World::single_with(settings("uptime"), &[]).await;
    expect_each_its_own(&world, rows(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_scout_gets_reaches_nobody_else_on_two_nodes() {
    let world = World::start_with(StoreKind::Exact, settings("uptime")).await;
    expect_each_its_own(&world, rows(), false).await;
}

/// It has no scouts: each visitor goes as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_visitor_with_credentials_gets_in_strict_reaches_nobody_else() {
    let world = World::single_with(settings("strict"), &[]).await;
    let mut rows = rows();
    rows.retain(|row| row.order == Order::ScoutFirst);
    expect_each_its_own(&world, rows, true).await;
}
