//! Odd requests change nothing for other visitors.
//!
//! In each row, an attacker makes one of the [odd requests](attacks), and three
//! visitors make a plain GET of the same page, after it or at the same time. The
//! control is the three visitors without an attacker. Every odd request is made in
//! every [`State`] of the page, and for everything that the origin [`Says`] about
//! caching. What must hold:
//!
//! - The visitors' answers equal the control's in status, body and fields, except for
//!   the fields [`OF_THE_MOMENT`]. So none of them is a 5xx.
//! - A `Set-Cookie` reaches one visitor at most.
//! - The origin sees no more requests than in the control, plus what the odd request
//!   [may cost](attacks::Cost).
//! - The node never announces content to the origin and then does not send it.
//! - The attacker is answered, and gets a 5xx only if the origin failed.
//!
//! The origin's [page] depends on everything that the origin receives, whatever it
//! says about caching. All rows run in one world, each with a path of its own. The
//! failures of all rows are collected and printed as a table.
//!
//! Visitors with credentials on new URLs have [rows of their own](scouts). Clients that
//! break HTTP/2 have [tests of their own](http2).
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "hostile/attacks.rs"]
mod attacks;
#[path = "hostile/frames.rs"]
mod frames;
#[path = "hostile/http2.rs"]
mod http2;
#[path = "hostile/page.rs"]
mod page;
#[path = "hostile/scouts.rs"]
mod scouts;
#[path = "hostile/together.rs"]
mod together;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use leeward_tests::client::RawReply;
use leeward_tests::{Answer, Ask, Gate, Reply, Settings, StoreKind, World, wait};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use attacks::{Attack, End};
use page::{Says, page, path};

/// Rows that run at the same time.
const AT_ONCE: usize = 12;

/// The longest that a row may take.
const ROW: Duration = Duration::from_secs(60);

/// The longest that a page may take to be fresh, on a machine that is busy.
const FRESH_WITHIN: Duration = Duration::from_secs(10);

/// How long to wait for a request that may or may not arrive at the origin.
const LOOK: Duration = Duration::from_millis(100);

/// Fields in which answers to equal requests may differ.
const OF_THE_MOMENT: [&str; 4] = ["age", "date", "cache-status", "via"];

/// Settings by which some query parameters are ignored, and the others sorted.
const QUERIES: &str = "[key]\nquery = { ignore = [\"utm_*\", \"fbclid\"], sort = true }";

/// What the nodes know of the page when the odd request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// Nothing.
    Cold,
    /// Nothing, and the first visitor comes while the attacker waits for the origin.
    Together,
    /// It is stored.
    Fresh,
    /// It is stored and stale.
    Stale,
    /// It was not stored, and the nodes remember that.
    Passed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Cold => "cold",
            State::Together => "together",
            State::Fresh => "fresh",
            State::Stale => "stale",
            State::Passed => "passed",
        }
    }
}

/// A state, and what the origin says about caching.
type Case = (State, Says);

/// Every case, and how many requests the origin sees in it without an attacker.
///
/// The request that leads to the state is one of them. Then there are three visits;
/// where no entry can be fresh, each of them costs a request.
const CASES: [(Case, usize); 17] = [
    ((State::Cold, Says::Silent), 1),
    ((State::Cold, Says::MaxAge), 1),
    ((State::Cold, Says::Public), 1),
    ((State::Cold, Says::NoCache), 3),
    ((State::Cold, Says::Private), 3),
    ((State::Together, Says::Silent), 1),
    ((State::Together, Says::Public), 1),
    ((State::Together, Says::NoCache), 3),
    ((State::Together, Says::Private), 3),
    ((State::Fresh, Says::Silent), 1),
    ((State::Fresh, Says::MaxAge), 1),
    ((State::Fresh, Says::Public), 1),
    ((State::Fresh, Says::NoCache), 4),
    ((State::Stale, Says::Silent), 2),
    ((State::Stale, Says::MaxAge), 2),
    ((State::Stale, Says::Public), 2),
    ((State::Passed, Says::Private), 4),
];

/// One attacker and the visitors of one page, or the visitors alone.
#[derive(Clone, Debug)]
struct Row<'a> {
    /// Unique in the world.
    number: usize,
    attack: Option<&'a Attack>,
    query: &'static str,
    case: Case,
    path: String,
}

impl<'a> Row<'a> {
    fn new(number: usize, attack: Option<&'a Attack>, query: &'static str, case: Case) -> Self {
        let (state, says) = case;
        Row {
            number,
            attack,
            query,
            case,
            path: path(says, state.name(), state == State::Stale, number),
        }
    }

    fn target(&self) -> String {
        format!("{}{}", self.path, self.query)
    }
}

/// What a visitor got, comparable with what one of another row got.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    fields: Vec<(String, String)>,
    body: String,
}

impl Told {
    fn new(reply: &Reply, row: &Row<'_>) -> Self {
        let alike = |text: &str| text.replace(&row.path, "<path>");
        let mut fields: Vec<_> = reply
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
            .filter(|(name, _)| !OF_THE_MOMENT.contains(name) && *name != "set-cookie")
            .map(|(name, value)| (name.to_owned(), alike(&value)))
            .collect();
        // The lines of one field keep their order.
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        Told {
            status: reply.status.as_u16(),
            fields,
            body: alike(&reply.text()),
        }
    }

    /// How it differs from the control's.
    fn differs(&self, control: &Told) -> Option<Fault> {
        let begin = |text: &str| text.chars().take(60).collect::<String>();
        if self.status != control.status {
            let kind = match self.status {
                500.. => "a 5xx",
                _ => "another status",
            };
            return Some(Fault(
                kind,
                format!("{} {:?}", self.status, begin(&self.body)),
            ));
        }
        if self.body != control.body {
            let known: Vec<_> = control.body.lines().collect();
            let other = self.body.lines().find(|line| !known.contains(line));
            return Some(Fault("another page", begin(other.unwrap_or(&self.body))));
        }
        if self.fields != control.fields {
            let missing = control
                .fields
                .iter()
                .find(|line| !self.fields.contains(line));
            let other = self
                .fields
                .iter()
                .find(|line| !control.fields.contains(line));
            return Some(Fault("other fields", format!("{other:?} for {missing:?}")));
        }
        None
    }
}

/// What is wrong with a row: in a few words that many rows share, and in detail.
#[derive(Clone, Debug)]
struct Fault(&'static str, String);

/// What came of a row.
#[derive(Debug, Default)]
struct Outcome {
    /// What the three visitors got.
    visits: Vec<Told>,
    /// What visitors got while the page was looked at until it was fresh.
    looks: Vec<Told>,
    /// Every `Set-Cookie` that anybody got, once for each who got it.
    cookies: Vec<String>,
    /// What went wrong besides.
    faults: Vec<Fault>,
    /// Attackers who have not ended.
    open: Vec<TcpStream>,
}

impl Outcome {
    /// Notes a visitor's answer, and returns it in comparable form.
    fn note(&mut self, reply: &Reply, row: &Row<'_>) -> Told {
        let cookies = reply.headers.get_all("set-cookie").iter();
        self.cookies
            .extend(cookies.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()));
        Told::new(reply, row)
    }

    fn visited(&mut self, reply: anyhow::Result<Reply>, row: &Row<'_>) {
        match reply {
            Ok(reply) => {
                let told = self.note(&reply, row);
                self.visits.push(told);
            }
            Err(error) => self.faults.push(Fault("no answer", format!("{error:#}"))),
        }
    }

    fn attacked(&mut self, attack: &Attack, reply: anyhow::Result<Option<RawReply>>) {
        match reply {
            Ok(None) => {}
            Ok(Some(reply)) => {
                let cookies = reply.all("set-cookie").into_iter();
                self.cookies.extend(cookies.map(str::to_owned));
                if reply.status >= 500 && !attack.fails {
                    let status = reply.status.to_string();
                    self.faults.push(Fault("the attacker got a 5xx", status));
                }
            }
            Err(_) if attack.fails => {}
            Err(error) => {
                let error = format!("{error:#}");
                self.faults.push(Fault("no answer to the attacker", error));
            }
        }
    }
}

/// The node of the attacker, and that of the visitors.
fn nodes(world: &World) -> (SocketAddr, SocketAddr) {
    let all = world.all();
    (all[0], *all.last().unwrap())
}

/// Leads to the row's state. A stale page is fresh for one second from then on.
async fn prepare(world: &World, row: &Row<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let (state, says) = row.case;
    if matches!(state, State::Cold | State::Together) {
        return outcome;
    }
    let (first, other) = nodes(world);
    match Ask::get(&row.target()).to(first).await {
        Ok(reply) => {
            outcome.note(&reply, row);
        }
        Err(error) => outcome
            .faults
            .push(Fault("no answer", format!("{error:#}"))),
    }
    if state == State::Fresh && says.is_fresh() {
        until_fresh(first, row, &mut outcome).await;
        until_fresh(other, row, &mut outcome).await;
    }
    outcome
}

/// Looks at the page until it is fresh.
async fn until_fresh(node: SocketAddr, row: &Row<'_>, outcome: &mut Outcome) {
    let deadline = Instant::now() + FRESH_WITHIN;
    while Instant::now() < deadline {
        match Ask::get(&row.target()).to(node).await {
            Ok(reply) => {
                let told = outcome.note(&reply, row);
                outcome.looks.push(told);
                if reply.is_fresh_hit() {
                    return;
                }
            }
            Err(error) => {
                let fault = Fault("no answer", format!("{error:#}"));
                return outcome.faults.push(fault);
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let fault = Fault("not fresh again", format!("within {FRESH_WITHIN:?}"));
    outcome.faults.push(fault);
}

/// Looks for a while whether something is the case; it need not be.
async fn look(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LOOK;
    while !holds() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Makes the odd request; returns its answer, if it waits for one.
async fn strike(
    world: &World,
    attack: &Attack,
    row: &Row<'_>,
    open: &mut Vec<TcpStream>,
) -> anyhow::Result<Option<RawReply>> {
    let node = nodes(world).0;
    let request = attack.request(&row.path);
    if attack.end == End::Answer {
        return request.to(node).await.map(Some);
    }
    let before = world.origin.count(&row.path);
    let stream = request.send(node).await?;
    if attack.end == End::Unfinished {
        open.push(stream);
    }
    look(|| world.origin.count(&row.path) > before).await;
    Ok(None)
}

/// The attacker and the visitors.
async fn visit(world: &World, row: &Row<'_>, outcome: &mut Outcome) {
    let (attackers, visitors) = nodes(world);
    let ask = Ask::get(&row.target());
    if row.case.0 == State::Together {
        together(world, row, outcome).await;
    } else {
        if let Some(attack) = row.attack {
            let reply = strike(world, attack, row, &mut outcome.open).await;
            outcome.attacked(attack, reply);
        }
        outcome.visited(ask.to(visitors).await, row);
    }
    if row.case.1.is_fresh() {
        until_fresh(visitors, row, outcome).await;
    }
    for node in [visitors, attackers] {
        outcome.visited(ask.to(node).await, row);
    }
    outcome.open.clear();
}

/// The attacker, and the first visitor while the origin holds its answer back.
async fn together(world: &World, row: &Row<'_>, outcome: &mut Outcome) {
    let (gate, begin) = (Gate::closed(), Notify::new());
    let answer = Answer::made_by(page).gate(&gate);
    world.origin.always(&row.path, answer);
    let attack = async {
        match row.attack {
            None => Ok(None),
            Some(attack) => strike(world, attack, row, &mut outcome.open).await,
        }
    };
    let visitor = async {
        begin.notified().await;
        Ask::get(&row.target()).to(nodes(world).1).await
    };
    // The visitor most likely comes while the attacker waits. The expectations hold
    // in either order.
    let door = async {
        if row.attack.is_some() {
            look(|| world.origin.count(&row.path) > 0).await;
        }
        begin.notify_one();
        look(|| world.origin.count(&row.path) > usize::from(row.attack.is_some())).await;
        gate.open();
    };
    let (struck, visited, ()) = futures::join!(attack, visitor, door);
    if let Some(attack) = row.attack {
        outcome.attacked(attack, struck);
    }
    outcome.visited(visited, row);
}

/// Runs rows, the attackers' and the controls' alike; returns what came of each, in
/// their order.
async fn run(world: &World, rows: &[Row<'_>]) -> Vec<Outcome> {
    // Pages that are to be stale expire while the other rows run.
    let (stale, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.case.0 == State::Stale);
    let mut outcomes: HashMap<usize, Outcome> = HashMap::new();
    let prepared: Vec<_> = stream::iter(&stale)
        .map(async |row| (row.number, prepare(world, row).await))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let expired = Instant::now() + Duration::from_secs(1);
    let whole = async |row: &Row<'_>, prepared: Option<Outcome>| {
        let mut outcome = Outcome::default();
        let work = async {
            outcome = match prepared {
                Some(prepared) => prepared,
                None => prepare(world, row).await,
            };
            visit(world, row, &mut outcome).await;
        };
        if tokio::time::timeout(ROW, work).await.is_err() {
            let fault = Fault("no end", format!("within {ROW:?}"));
            outcome.faults.push(fault);
        }
        (row.number, outcome)
    };
    let ended: Vec<_> = stream::iter(&others)
        .map(|row| whole(row, None))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    outcomes.extend(ended);
    wait::until_past(expired).await;
    let prepared: HashMap<_, _> = prepared.into_iter().collect();
    let mut prepared = prepared;
    let stale: Vec<_> = stale
        .into_iter()
        .map(|row| (row, prepared.remove(&row.number)))
        .collect();
    let ended: Vec<_> = stream::iter(stale)
        .map(|(row, prepared)| whole(row, prepared))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    outcomes.extend(ended);
    rows.iter()
        .map(|row| outcomes.remove(&row.number).unwrap_or_default())
        .collect()
}

/// What the origin saw of a row: requests, and those whose content did not come.
type Seen = (usize, usize);

/// What the origin saw of each row, by the row's number.
async fn seen(world: &World) -> HashMap<usize, Seen> {
    wait::until(
        "the origin has answered everything",
        wait::SOON,
        async || {
            let paths = world.origin.paths();
            let mut records = paths.iter().map(|path| world.origin.record(path));
            records.all(|record| record.in_flight == 0).then_some(())
        },
    )
    .await;
    let mut seen: HashMap<usize, Seen> = HashMap::new();
    for path in world.origin.paths() {
        // However an attacker spells it, the path ends in the row's number.
        let lower = path.to_ascii_lowercase();
        let number = lower.split("ow").last().and_then(|end| {
            let digits: String = end.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        if let Some(number) = number {
            let record = world.origin.record(&path);
            let (requests, broken) = seen.entry(number).or_default();
            *requests += record.count();
            *broken += record.broken;
        }
    }
    seen
}

/// What is wrong with a row, given the control and what the origin saw of both.
fn faults(
    row: &Row<'_>,
    outcome: &Outcome,
    control: &Outcome,
    seen: Seen,
    plain: Seen,
) -> Vec<Fault> {
    let mut faults = outcome.faults.clone();
    let visits = outcome
        .visits
        .iter()
        .zip(&control.visits)
        .map(|(told, known)| told.differs(known));
    // Between visits, only the page is compared: one look may be a hit where the
    // control's was not.
    let looks = outcome.looks.iter().filter_map(|told| {
        let known = control.visits.first()?;
        (told.status != known.status || told.body != known.body).then(|| told.differs(known))
    });
    faults.extend(visits.chain(looks).flatten());
    let mut cookies: HashMap<&str, usize> = HashMap::new();
    for cookie in &outcome.cookies {
        *cookies.entry(cookie).or_default() += 1;
    }
    let shared = cookies.into_iter().find(|(_, times)| *times > 1);
    faults.extend(shared.map(|(cookie, times)| {
        Fault(
            "a Set-Cookie of another's",
            format!("{cookie}, {times} times"),
        )
    }));
    let Some(attack) = row.attack else {
        return faults;
    };
    let every_visit = !row.case.1.is_fresh();
    let allowed = plain.0 + attack.cost.requests(every_visit);
    if seen.0 > allowed {
        let detail = format!("{} for {allowed}", seen.0);
        faults.push(Fault("too many requests", detail));
    }
    if seen.1 > 0 && attack.end == End::Answer && !attack.fails {
        let detail = format!("{} of {}", seen.1, seen.0);
        faults.push(Fault("content that is announced and not sent", detail));
    }
    faults
}

/// Runs every attack in every case, and expects that other visitors do not notice.
async fn expect_unnoticed(world: &World, attacks: &[Attack], cases: &[(Case, usize)]) {
    world.origin.otherwise(Answer::made_by(page));
    let mut queries: Vec<_> = attacks.iter().map(|attack| attack.query).collect();
    queries.sort_unstable();
    queries.dedup();
    let mut rows = Vec::new();
    for (case, _) in cases {
        for query in &queries {
            rows.push(Row::new(rows.len(), None, query, *case));
        }
        for attack in attacks {
            rows.push(Row::new(rows.len(), Some(attack), attack.query, *case));
        }
    }
    let outcomes = run(world, &rows).await;
    let seen = seen(world).await;
    let seen = |row: &Row<'_>| seen.get(&row.number).copied().unwrap_or_default();

    let mut controls = HashMap::new();
    for (row, outcome) in rows.iter().zip(&outcomes) {
        if row.attack.is_none() {
            let costs = cases.iter().find(|(case, _)| *case == row.case).unwrap().1;
            let are_ok = outcome.visits.iter().all(|told| told.status == 200);
            assert!(
                outcome.faults.is_empty() && are_ok && outcome.visits.len() == 3,
                "the control of {:?} {}: {outcome:#?}",
                row.case,
                row.query
            );
            assert_eq!(
                seen(row).0,
                costs,
                "requests of the control of {:?} {}",
                row.case,
                row.query
            );
            controls.insert((row.case, row.query), (outcome, seen(row)));
        }
    }
    let mut table: BTreeMap<(&str, &str), (Vec<String>, String)> = BTreeMap::new();
    let mut failed = 0;
    for (row, outcome) in rows.iter().zip(&outcomes) {
        let name = row.attack.map_or("(none)", |attack| attack.name.as_str());
        let (control, plain) = controls[&(row.case, row.query)];
        let faults = faults(row, outcome, control, seen(row), plain);
        failed += usize::from(!faults.is_empty());
        for Fault(kind, detail) in faults {
            let case = format!("{}/{}", row.case.0.name(), row.case.1.name());
            let (cases, _) = table.entry((name, kind)).or_insert((Vec::new(), detail));
            if cases.last() != Some(&case) {
                cases.push(case);
            }
        }
    }
    let mut text = String::new();
    for ((name, kind), (cases, detail)) in &table {
        writeln!(
            text,
            "| {name} | {kind} | {} | {detail} |",
            cases.join(", ")
        )
        .unwrap();
    }
    assert!(
        table.is_empty(),
        "{failed} of {} rows failed:\n| request | fault | cases | the first |\n| --- | --- | --- | --- |\n{text}",
        rows.len()
    );
}

fn settings(preset: &'static str) -> Settings {
    Settings {
        preset,
        more: QUERIES,
        ..Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_an_odd_request_on_one_node() {
    let world = World::single_with(settings("uptime"), &[]).await;
    expect_unnoticed(&world, &attacks::all(), &CASES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_an_odd_request_to_another_node() {
    let world = World::start_with(StoreKind::Exact, settings("uptime")).await;
    expect_unnoticed(&world, &attacks::all(), &CASES).await;
}

/// A host like Spin does not remove the fields by which the embedded host tells the component
/// what it cannot see: here they come from visitors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_an_odd_request_on_a_host_like_spin() {
    let world = World::single_with(settings("uptime"), &["--http-behaviour", "spin"]).await;
    // Those are refused, see `spin_http`.
    let refused = |attack: &Attack| {
        ["NTLM", "Negotiate"]
            .iter()
            .any(|it| attack.name.contains(it))
    };
    let attacks: Vec<_> = attacks::all()
        .into_iter()
        .filter(|attack| !refused(attack))
        .collect();
    let mut states = Vec::new();
    let cases: Vec<_> = CASES
        .into_iter()
        .filter(|((state, _), _)| {
            let is_first = !states.contains(state);
            states.push(*state);
            is_first
        })
        .collect();
    expect_unnoticed(&world, &attacks, &cases).await;
}

/// Preset `strict` sends unknown fields and does not key them, except for those that
/// rewrite host, path or method.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_does_not_share_what_was_rewritten() {
    let world = World::single_with(settings("strict"), &[]).await;
    let rewriting: Vec<_> = attacks::all()
        .into_iter()
        .filter(|attack| attack.rewrites)
        .collect();
    let cases: Vec<_> = CASES
        .into_iter()
        .filter(|((_, says), _)| *says == Says::MaxAge)
        .collect();
    expect_unnoticed(&world, &rewriting, &cases).await;
}
