//! The connections to the origin: whose they are, and what becomes of a request when one
//! ends.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use leeward_tests::client::{Ask, Visitor};
use leeward_tests::origin::Answer;

use crate::asking::{Visit, get, statuses, visit};
use crate::scenario::{Needs, Scenario, Seen, Stage, everywhere};

/// Visitors who come one by one.
const VISITORS: usize = 20;

/// Between two of them.
const BETWEEN: Duration = Duration::from_millis(200);

/// The longest that one waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// The last message of a handshake.
const NTLM: &str = "NTLM TlRMTVNTUAADAAAA";

/// The content of an answer without a length.
const PAGE: &str = "a page";

/// What only the visitor may see who authenticated a connection.
const SECRET: &str = "hello alice";

const ON_ONE: Scenario = Scenario {
    asked: "a visitor's NTLM credentials, then 20 visitors without",
    promise: "none of them sees that visitor's page",
    needs: Needs::nodes(1),
    spoils: true,
    long: false,
    applies: everywhere,
    run: |stage| ntlm(stage).boxed_local(),
};

pub(crate) const ALL: &[Scenario] = &[
    ON_ONE,
    Scenario {
        asked: "20 new pages, each kept connection ends as its next request arrives",
        promise: "all answered",
        run: |stage| kept(stage).boxed_local(),
        ..ON_ONE
    },
    Scenario {
        asked: "answers without a length: a page, one visitor's page, a missing page, events",
        promise: "all answered as the origin does",
        run: |stage| without_length(stage).boxed_local(),
        ..ON_ONE
    },
];

/// Connections, by their numbers.
type Connections = Arc<Mutex<HashSet<usize>>>;

async fn ntlm(stage: &mut Stage) -> Seen {
    let world = &stage.world;
    let authenticated = Connections::default();
    world.origin.otherwise(Answer::made_by(move |seen| {
        let mut authenticated = authenticated.lock().unwrap();
        let credentials = seen.header("authorization").unwrap_or_default();
        if credentials.starts_with("NTLM ") {
            authenticated.insert(seen.connection);
        }
        match authenticated.contains(&seen.connection) {
            true => Answer::fixed(SECRET).cache_control("private"),
            false => Answer::fixed("who are you?")
                .status(StatusCode::UNAUTHORIZED)
                .header("www-authenticate", "NTLM"),
        }
    }));
    let ask = Ask::get("/me").header("authorization", NTLM);
    let first = visit(world.node(0), &ask, PATIENCE).await;
    let mut others = Vec::new();
    for number in 0..VISITORS {
        others.push(get(world.node(0), &format!("/me?{number}")).await);
    }
    let saw = others.iter().filter(|visit| visit.body().contains(SECRET));
    let saw = saw.count();
    Seen::new(
        saw == 0 && first.status() > 0,
        format!(
            "the first {}, {saw} of {VISITORS} saw its page",
            first.status()
        ),
    )
}

/// Spin shows a component `Transfer-Encoding` and refuses it in an answer: what could not be
/// stored was 502.
async fn without_length(stage: &mut Stage) -> Seen {
    let world = &stage.world;
    world.origin.otherwise(Answer::made_by(|seen| {
        let answer = Answer::fixed(PAGE).without_length();
        match seen.target.as_str() {
            "/page" => answer.max_age(60),
            "/mine" => answer.cache_control("private"),
            "/events" => Answer::events(BETWEEN),
            _ => answer.status(StatusCode::NOT_FOUND),
        }
    }));
    let mut seen = Vec::new();
    for (path, status) in [("/page", 200), ("/mine", 200), ("/none", 404)] {
        for ask in [Ask::get(path), Ask::get(path).header("cookie", "session=1")] {
            let visit = visit(world.node(0), &ask, PATIENCE).await;
            seen.push((
                visit.status(),
                visit.status() == status && visit.body() == PAGE,
            ));
        }
    }
    let mut subscriber = Visitor::connect(world.node(0)).await.unwrap();
    let request = Request::get("/events").header("host", "site.test");
    let nothing = Empty::new().map_err(|never| match never {}).boxed();
    let events = subscriber.send(request.body(nothing).unwrap()).await;
    let status = events.map_or(0, |answer| answer.status().as_u16());
    seen.push((status, status == 200));
    let statuses: Vec<_> = seen.iter().map(|(status, _)| status.to_string()).collect();
    Seen::new(
        seen.iter().all(|(_, is_right)| *is_right),
        statuses.join(", "),
    )
}

async fn kept(stage: &mut Stage) -> Seen {
    let world = &stage.world;
    let used = Connections::default();
    world.origin.otherwise(Answer::made_by(move |seen| {
        let first = used.lock().unwrap().insert(seen.connection);
        match first || seen.method == Method::POST {
            true => Answer::fixed("ok").max_age(60),
            false => Answer::hang_up(),
        }
    }));
    let mut visits: Vec<Visit> = Vec::new();
    for number in 0..VISITORS {
        visits.push(get(world.node(0), &format!("/kept/{number}")).await);
        tokio::time::sleep(BETWEEN).await;
    }
    let requests = world.origin.requests();
    let ok = visits.iter().filter(|visit| visit.is_ok()).count();
    Seen::new(
        ok == VISITORS,
        format!("{}, {requests} requests at the origin", statuses(&visits)),
    )
}
