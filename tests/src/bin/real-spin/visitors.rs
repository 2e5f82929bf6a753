//! Crowds of visitors of four nodes, a failing origin, and a dead node.

use std::time::{Duration, Instant};

use futures::FutureExt as _;
use http::Method;
use leeward_tests::client::Ask;
use leeward_tests::origin::{Answer, Gate};
use leeward_tests::wait;

use crate::asking::{all_ok, crowd, each, get, p99, seconds, slowest, statuses};
use crate::scenario::{Needs, Scenario, Seen, Stage, everywhere};

/// The most requests that may be at the origin at once: the default of
/// `origin.max_concurrency`.
const BUDGET: usize = 16;

/// How long the origin takes for a page.
const PAGE: Duration = Duration::from_millis(300);

/// How long the origin takes for a slow page: longer than a visitor waits for others.
const SLOW: Duration = Duration::from_secs(12);

/// The same for a cloud's flavour, which gives the origin 12 s.
const SLOW_IN_CLOUDS: Duration = Duration::from_secs(10);

/// The longest that a refresh behind an answer may take to reach the origin.
const REFRESH: Duration = Duration::from_secs(10);

/// How long to look whether a second request follows.
const SECOND: Duration = Duration::from_millis(1500);

/// The longest that it may take until an origin that is back is asked.
const RECOVERY: Duration = Duration::from_secs(40);

/// Between two visitors who come alone.
const BETWEEN: Duration = Duration::from_millis(300);

const ON_FOUR: Scenario = Scenario {
    asked: "",
    promise: "",
    needs: Needs::nodes(4),
    spoils: false,
    long: false,
    applies: everywhere,
    run: |stage| stored(stage).boxed_local(),
};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        asked: "a stored page, 100 visitors at once, twice",
        promise: "none at the origin, all answered",
        ..ON_FOUR
    },
    Scenario {
        asked: "an expired page, 100 visitors at once, three times",
        promise: "one request each at the origin, all answered",
        run: |stage| expired(stage).boxed_local(),
        ..ON_FOUR
    },
    Scenario {
        asked: "a new page, 100 visitors at once, three times",
        promise: "one request each at the origin, all answered",
        run: |stage| new(stage).boxed_local(),
        ..ON_FOUR
    },
    Scenario {
        asked: "400 new pages at once",
        promise: "at most 16 requests at once, no page twice; the others are told when to come back",
        run: |stage| new_pages(stage).boxed_local(),
        ..ON_FOUR
    },
    Scenario {
        asked: "200 POSTs at once",
        promise: "at most 16 at once, none twice, nobody gets another's answer",
        run: |stage| posts(stage).boxed_local(),
        ..ON_FOUR
    },
    Scenario {
        asked: "a private page, 200 visitors with sessions at once",
        promise: "at most 16 at once, nobody gets another's page",
        run: |stage| private(stage).boxed_local(),
        ..ON_FOUR
    },
    Scenario {
        asked: "150 new pages and 100 POSTs at once",
        promise: "at most 16 at once; the others are told when to come back",
        run: |stage| mixed(stage).boxed_local(),
        ..ON_FOUR
    },
    Scenario {
        asked: "the origin is down, 500 visitors of an expired page",
        promise: "all answered, and the origin is asked within 40 s of its return",
        run: |stage| down(stage).boxed_local(),
        ..ON_FOUR
    },
    Scenario {
        asked: "a new page that takes 12 s (10 s in clouds), 40 visitors at once",
        promise: "one request",
        run: |stage| slow(stage).boxed_local(),
        ..ON_FOUR
    },
    Scenario {
        asked: "the node that fetches a page is killed, 60 visitors wait on others",
        promise: "two requests, all answered",
        spoils: true,
        run: |stage| killed(stage).boxed_local(),
        ..ON_FOUR
    },
];

fn page() -> Answer {
    Answer::numbered().takes(PAGE)
}

async fn stored(stage: &mut Stage) -> Seen {
    let (world, path) = (&stage.world, "/stored");
    world.origin.always(path, page().max_age(600));
    let first = get(world.node(0), path).await;
    let before = world.origin.count(path);
    let mut visits = crowd(&world.all(), 100, path).await;
    visits.extend(crowd(&world.all(), 100, path).await);
    let requests = world.origin.count(path) - before;
    Seen::new(
        first.is_ok() && requests == 0 && all_ok(&visits),
        format!(
            "{requests} at the origin, {}, {}",
            statuses(&visits),
            p99(&visits)
        ),
    )
}

async fn expired(stage: &mut Stage) -> Seen {
    let world = &stage.world;
    let (mut visits, mut requests) = (Vec::new(), Vec::new());
    for path in ["/expired/1", "/expired/2", "/expired/3"] {
        let stale = "stale-while-revalidate=600, stale-if-error=600";
        let short = page().cache_control(&format!("max-age=1, {stale}"));
        world.origin.next(path, short);
        world.origin.always(path, page().max_age(600));
        visits.push(get(world.node(0), path).await);
        wait::until_past(Instant::now() + Duration::from_millis(2200)).await;
        let before = world.origin.count(path);
        visits.extend(crowd(&world.all(), 100, path).await);
        // All of a crowd can lose a timed election. Then the next visitor's counts.
        let deadline = Instant::now() + REFRESH;
        while world.origin.count(path) == before && Instant::now() < deadline {
            tokio::time::sleep(BETWEEN).await;
            visits.push(get(world.node(1), path).await);
        }
        tokio::time::sleep(SECOND).await;
        requests.push(world.origin.count(path) - before);
    }
    Seen::new(
        requests.iter().all(|requests| *requests == 1) && all_ok(&visits),
        format!(
            "{} at the origin, {}, {}",
            list(&requests),
            statuses(&visits),
            p99(&visits)
        ),
    )
}

async fn new(stage: &mut Stage) -> Seen {
    let world = &stage.world;
    let (mut visits, mut requests) = (Vec::new(), Vec::new());
    for path in ["/new/1", "/new/2", "/new/3"] {
        world.origin.always(path, page().max_age(600));
        visits.extend(crowd(&world.all(), 100, path).await);
        requests.push(world.origin.count(path));
    }
    Seen::new(
        requests.iter().all(|requests| *requests == 1) && all_ok(&visits),
        format!(
            "{} at the origin, {}, {}",
            list(&requests),
            statuses(&visits),
            p99(&visits)
        ),
    )
}

fn list(numbers: &[usize]) -> String {
    let numbers: Vec<_> = numbers.iter().map(usize::to_string).collect();
    numbers.join(", ")
}

async fn new_pages(stage: &mut Stage) -> Seen {
    stage.world.origin.otherwise(page().max_age(600));
    let asks = (0..400).map(|number| Ask::get(&format!("/many/{number}")));
    at_once(stage, asks.collect(), |_, _| true).await
}

async fn posts(stage: &mut Stage) -> Seen {
    let answer = Answer::echo().takes(PAGE).cache_control("no-store");
    stage.world.origin.otherwise(answer);
    at_once(stage, posting("/post", 200), |number, body| {
        body == format!("content {number}")
    })
    .await
}

async fn private(stage: &mut Stage) -> Seen {
    let answer = Answer::made_by(|seen| {
        let session = seen.header("cookie").unwrap_or_default();
        Answer::fixed(session).cache_control("private")
    });
    stage.world.origin.always("/private", answer.takes(PAGE));
    let of = |number: usize| Ask::get("/private").header("cookie", &format!("session={number}"));
    at_once(stage, (0..200).map(of).collect(), |number, body| {
        body == format!("session={number}")
    })
    .await
}

async fn mixed(stage: &mut Stage) -> Seen {
    stage.world.origin.otherwise(page().max_age(600));
    let pages = (0..150).map(|number| Ask::get(&format!("/mixed/{number}")));
    let asks = pages.chain(posting("/mixed-post", 100)).collect();
    at_once(stage, asks, |_, _| true).await
}

fn posting(path: &str, count: usize) -> Vec<Ask> {
    let of = |number: usize| {
        Ask::new(Method::POST, &format!("{path}/{number}")).body(format!("content {number}"))
    };
    (0..count).map(of).collect()
}

/// Requests at once, each by a visitor of its own. `is_own` tells whether a body is the
/// one for the visitor with this number.
async fn at_once(stage: &mut Stage, asks: Vec<Ask>, is_own: impl Fn(usize, &str) -> bool) -> Seen {
    let world = &stage.world;
    world.origin.forget();
    let began = Instant::now();
    let visits = each(&world.all(), asks).await;
    let took = seconds(began.elapsed());
    let most = world.origin.in_flight_max();
    let paths = world.origin.paths().len();
    // Where all ask for one path, each has a request of its own.
    let twice = if paths > 1 {
        world.origin.requests() - paths
    } else {
        0
    };
    let strangers = visits
        .iter()
        .enumerate()
        .filter(|(number, visit)| visit.is_ok() && !is_own(*number, &visit.body()));
    let strangers = strangers.count();
    let untold = visits.iter().filter(|visit| !visit.is_told()).count();
    let mut what = format!("{} in {took}, at most {most} at once", statuses(&visits));
    for (count, of) in [
        (twice, "sent twice"),
        (strangers, "got another's"),
        (untold, "not told when to come back"),
    ] {
        if count > 0 {
            what += &format!(", {count} {of}");
        }
    }
    Seen::new(most <= BUDGET && twice + strangers + untold == 0, what)
}

async fn down(stage: &mut Stage) -> Seen {
    let (world, path) = (&stage.world, "/down");
    let control = "max-age=1, stale-while-revalidate=2, stale-if-error=600";
    world.origin.always(path, page().cache_control(control));
    let first = get(world.node(0), path).await;
    wait::until_past(Instant::now() + Duration::from_millis(2500)).await;
    world.origin.crash();
    let mut visits = Vec::new();
    for _ in 0..5 {
        visits.extend(crowd(&world.all(), 100, path).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let unseen = get(world.node(0), "/never-seen").await;
    world.origin.recover();
    let (back, before) = (Instant::now(), world.origin.count(path));
    let mut asked = None;
    while asked.is_none() && back.elapsed() < RECOVERY {
        get(world.node(1), path).await;
        tokio::time::sleep(BETWEEN).await;
        asked = (world.origin.count(path) > before).then(|| seconds(back.elapsed()));
    }
    let recovery = asked.as_deref().unwrap_or("not asked");
    Seen::new(
        first.is_ok() && all_ok(&visits) && asked.is_some(),
        format!(
            "{}, slowest {}; a new page {}; back: {recovery}",
            statuses(&visits),
            seconds(slowest(&visits)),
            statuses(&[unseen]),
        ),
    )
}

async fn slow(stage: &mut Stage) -> Seen {
    let (world, path) = (&stage.world, "/slow");
    let takes = match stage.platform.has_memory() {
        true => SLOW,
        false => SLOW_IN_CLOUDS,
    };
    let answer = Answer::numbered().takes(takes).max_age(600);
    world.origin.always(path, answer);
    let visits = crowd(&world.all(), 40, path).await;
    let fair = visits
        .iter()
        .all(|visit| matches!(visit.status(), 200 | 503));
    let after = get(world.node(0), path).await;
    let requests = world.origin.count(path);
    Seen::new(
        requests == 1 && fair && after.is_ok(),
        format!("{requests} at the origin, {}", statuses(&visits)),
    )
}

async fn killed(stage: &mut Stage) -> Seen {
    let (world, path) = (&mut stage.world, "/killed");
    // The first request is never answered.
    world
        .origin
        .next(path, Answer::numbered().gate(&Gate::closed()));
    world.origin.always(path, page().max_age(600));
    let holder = world.node(0);
    let first = tokio::spawn(async move { get(holder, path).await });
    world.origin.until_count(path, 1, wait::SOON).await;
    let others = world.all().split_off(1);
    let waiting = tokio::spawn(async move { crowd(&others, 60, path).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.process(0).kill();
    let visits = waiting.await.unwrap();
    first.abort();
    let requests = world.origin.count(path);
    Seen::new(
        requests == 2 && all_ok(&visits),
        format!(
            "{requests} at the origin, {}, slowest {}",
            statuses(&visits),
            seconds(slowest(&visits))
        ),
    )
}
