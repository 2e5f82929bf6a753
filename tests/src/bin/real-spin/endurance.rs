//! New pages for a long time, and the sweeper: does a node live, and does its store stay
//! small?

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::join_all;
use leeward_tests::client::Ask;
use leeward_tests::origin::Answer;

use crate::asking::{Visit, get, seconds, slowest, statuses, visit};
use crate::scenario::{Needs, Scenario, Seen, Stage, everywhere};

/// How long the origin takes for a page.
const PAGE: Duration = Duration::from_millis(100);

/// A node that has answered nobody for so long is dead. No visitor waits for longer.
const DEAD: Duration = Duration::from_secs(12);

/// How often each visitor asks.
const TURN: Duration = Duration::from_secs(1);

/// `limits.keys` of the scenarios about it.
const KEYS: &str = "limits.keys = 100";

/// The most keys that a store may have which is limited so.
const KEYS_MAX: usize = 200;

/// Keys that are not Leeward's.
const STRANGERS: usize = 100_000;

/// How many pages are asked for beside those.
const PAGES: usize = 200;

const ON_ONE: Scenario = Scenario {
    asked: "5 visitors, each opens a new page every second",
    promise: "everybody gets an answer",
    needs: Needs::nodes(1),
    spoils: true,
    long: false,
    applies: everywhere,
    run: |stage| new_pages(stage, 5).boxed_local(),
};

const LIMITED: Scenario = Scenario {
    asked: "5 visitors, each opens a new page every second, `limits.keys = 100`",
    promise: "fewer than 200 keys in the second half, and everybody gets an answer",
    needs: Needs {
        nodes: 1,
        settings: KEYS,
    },
    run: |stage| limited(stage, 5).boxed_local(),
    ..ON_ONE
};

pub(crate) const ALL: &[Scenario] = &[
    ON_ONE,
    Scenario {
        asked: "20 visitors, each opens a new page every second",
        run: |stage| new_pages(stage, 20).boxed_local(),
        ..ON_ONE
    },
    Scenario {
        asked: "60 visitors, each opens a new page every second",
        run: |stage| new_pages(stage, 60).boxed_local(),
        ..ON_ONE
    },
    Scenario {
        asked: "20 visitors, each opens a new page every second, two nodes",
        needs: Needs::nodes(2),
        run: |stage| new_pages(stage, 20).boxed_local(),
        ..ON_ONE
    },
    Scenario {
        asked: "2 visitors of 200 pages beside 100,000 keys of others",
        promise: "all answered",
        run: |stage| beside_strangers(stage).boxed_local(),
        ..ON_ONE
    },
    LIMITED,
    Scenario {
        asked: "25 visitors, each opens a new page every second, `limits.keys = 100`",
        run: |stage| limited(stage, 25).boxed_local(),
        ..LIMITED
    },
    Scenario {
        asked: "60 visitors, each opens a new page every second, `limits.keys = 100`",
        run: |stage| limited(stage, 60).boxed_local(),
        ..LIMITED
    },
];

/// What visitors got who asked for a while.
#[derive(Debug, Default)]
struct Endured {
    visits: Vec<Visit>,
    /// How long they asked.
    span: Duration,
    /// When the last one was answered.
    last_ok: Duration,
    /// Whether each node has a page at the end.
    alive: bool,
}

impl Endured {
    fn lives(&self) -> bool {
        let answered = self.visits.iter().all(|visit| visit.status() > 0);
        self.alive && answered && self.last_ok + DEAD > self.span
    }

    fn what(&self) -> String {
        let life = match self.lives() {
            true => String::new(),
            false => format!("last page after {}; ", seconds(self.last_ok)),
        };
        let slowest = seconds(slowest(&self.visits));
        let (visits, span) = (statuses(&self.visits), seconds(self.span));
        format!("{life}{visits} in {span}, slowest {slowest}")
    }
}

/// So many visitors, each of whom asks once a second, for the path that `path` has for
/// the number of the visit. They stop early if nobody is answered.
async fn endure(stage: &Stage, visitors: usize, path: impl Fn(usize) -> String) -> Endured {
    let nodes = stage.world.all();
    let (began, span) = (Instant::now(), stage.timing.span);
    let (number, last_ok) = (Cell::new(0), Cell::new(Duration::ZERO));
    let visits = RefCell::new(Vec::new());
    let visitor = async |which: usize| {
        let mut turn = tokio::time::interval(TURN);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Spread over the second.
        let spread = TURN.mul_f64(which as f64 / visitors as f64);
        tokio::time::sleep(spread).await;
        loop {
            turn.tick().await;
            let now = began.elapsed();
            if now > span || now > last_ok.get() + DEAD {
                return;
            }
            let ask = Ask::get(&path(number.replace(number.get() + 1)));
            let visit = visit(nodes[which % nodes.len()], &ask, DEAD).await;
            if visit.is_ok() {
                last_ok.set(began.elapsed());
            }
            visits.borrow_mut().push(visit);
        }
    };
    join_all((0..visitors).map(visitor)).await;
    let span = began.elapsed();
    let last = path(0);
    let asking = nodes.iter().map(|node| get(*node, &last));
    let alive = join_all(asking).await.iter().all(Visit::is_ok);
    Endured {
        visits: visits.into_inner(),
        span,
        last_ok: last_ok.get(),
        alive,
    }
}

fn new_page(number: usize) -> String {
    format!("/page/{number}")
}

async fn new_pages(stage: &mut Stage, per_second: usize) -> Seen {
    let answer = Answer::numbered().takes(PAGE).max_age(600);
    stage.world.origin.otherwise(answer);
    let endured = endure(stage, per_second, new_page).await;
    Seen::new(endured.lives(), endured.what())
}

async fn beside_strangers(stage: &mut Stage) -> Seen {
    let answer = Answer::numbered().takes(PAGE).max_age(3600);
    stage.world.origin.otherwise(answer);
    // The store is not there before somebody has asked.
    get(stage.world.node(0), "/page/0").await;
    stage.world.add_keys(STRANGERS);
    let endured = endure(stage, 2, |number| new_page(number * 7 % PAGES)).await;
    let all_ok = endured.visits.iter().all(Visit::is_ok);
    Seen::new(endured.lives() && all_ok, endured.what())
}

async fn limited(stage: &mut Stage, per_second: usize) -> Seen {
    let answer = Answer::numbered().takes(PAGE).max_age(600);
    stage.world.origin.otherwise(answer);
    let (began, half) = (Instant::now(), stage.timing.span / 2);
    let most = Cell::new(0);
    let counter = stage.world.counter();
    let count = async {
        loop {
            tokio::time::sleep(TURN).await;
            if began.elapsed() > half {
                let keys = tokio::task::spawn_blocking(counter.clone()).await;
                most.set(most.get().max(keys.unwrap()));
            }
        }
    };
    let endured = tokio::select! {
        endured = endure(stage, per_second, new_page) => endured,
        never = count => never,
    };
    let (now, most) = (counter(), most.get());
    Seen::new(
        endured.lives() && most.max(now) < KEYS_MAX,
        format!("at most {most} keys, {now} at the end; {}", endured.what()),
    )
}
