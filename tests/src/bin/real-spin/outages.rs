//! A store that is away: what do visitors get meanwhile, and when do nodes share again?

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::stream::{FuturesUnordered, StreamExt as _};
use leeward_tests::client::Ask;
use leeward_tests::origin::Answer;
use leeward_tests::spin::{Backend, Platform};
use leeward_tests::stores::Store;
use leeward_tests::wait;

use crate::asking::{Visit, get, seconds, slowest, visit};
use crate::scenario::{Needs, Scenario, Seen, Stage};

/// How long the origin takes for a page.
const PAGE: Duration = Duration::from_millis(50);

/// Load before the store goes away.
const BEFORE: Duration = Duration::from_secs(5);

/// Load after it is back.
const AFTER: Duration = Duration::from_secs(20);

/// Between two visits of each kind.
const BETWEEN: Duration = Duration::from_millis(100);

/// Stored pages that visitors ask for.
const PAGES: usize = 20;

/// The longest that a visitor of a stored page may wait.
const SOON: Duration = Duration::from_secs(1);

/// The longest that a visitor waits in any case.
const PATIENCE: Duration = Duration::from_secs(90);

/// The longest that it may take until nodes share again.
const SHARED: Duration = Duration::from_secs(10);

/// How long to look for that on a host that is known not to connect again soon.
const SHARED_LATE: Duration = Duration::from_secs(130);

/// Pages in a row that both nodes have to share.
const IN_A_ROW: usize = 3;

/// How long another process has the file.
const LOCKED: Duration = Duration::from_secs(25);

const AWAY: Scenario = Scenario {
    asked: "Redis is killed under load, and back after 3 s",
    promise: "stored pages within 1 s; shared again within 10 s",
    needs: Needs::nodes(2),
    spoils: true,
    long: false,
    applies: on_redis,
    run: |stage| away(stage, 3).boxed_local(),
};

const BUSY: Scenario = Scenario {
    asked: "another process writes to the SQLite file for 25 s",
    promise: "stored pages within 1 s",
    applies: on_sqlite,
    run: |stage| locked(stage, "BEGIN IMMEDIATE").boxed_local(),
    ..AWAY
};

pub(crate) const ALL: &[Scenario] = &[
    AWAY,
    Scenario {
        asked: "Redis is killed under load, and back after 20 s",
        run: |stage| away(stage, 20).boxed_local(),
        ..AWAY
    },
    Scenario {
        asked: "Redis is killed under load, and back after 60 s",
        long: true,
        run: |stage| away(stage, 60).boxed_local(),
        ..AWAY
    },
    BUSY,
    Scenario {
        asked: "another process locks the SQLite file for 25 s",
        run: |stage| locked(stage, "BEGIN EXCLUSIVE").boxed_local(),
        ..BUSY
    },
];

fn on_redis(platform: Platform) -> bool {
    platform.backend == Backend::Redis
}

fn on_sqlite(platform: Platform) -> bool {
    platform.backend == Backend::Sqlite
}

/// What visitors asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// A page that stays fresh.
    Stored,
    /// A page that expires after a second or two, and may be served stale.
    Stale,
    /// A page that nobody has asked for.
    New,
}

/// What was asked while the store was away, in the order of the answers.
type Visits = Vec<(Page, Visit)>;

/// Scripts the origin, and has both nodes read the stored pages.
async fn prepare(stage: &Stage) {
    let origin = &stage.world.origin;
    let brief = "max-age=1, stale-while-revalidate=600, stale-if-error=600";
    let answer = Answer::made_by(move |seen| match seen.target.starts_with("/stale/") {
        true => Answer::fixed(seen.target.clone()).cache_control(brief),
        false => Answer::fixed(seen.target.clone()).max_age(600),
    });
    origin.otherwise(answer.takes(PAGE));
    for number in 0..PAGES {
        for node in stage.world.all() {
            get(node, &format!("/stored/{number}")).await;
            get(node, &format!("/stale/{number}")).await;
        }
    }
}

/// Three visits each tenth of a second, to the nodes in turn, for as long as `meanwhile`
/// takes. Returns those that began while `counts` said so.
async fn load(stage: &Stage, counts: &Cell<bool>, meanwhile: impl Future<Output = ()>) -> Visits {
    let nodes = stage.world.all();
    let mut asking = FuturesUnordered::new();
    let mut visits = Vec::new();
    let mut turn = tokio::time::interval(BETWEEN);
    let mut number = 0;
    tokio::pin!(meanwhile);
    loop {
        tokio::select! {
            () = &mut meanwhile => break,
            _ = turn.tick() => {
                let node = nodes[number % nodes.len()];
                for (page, path) in [
                    (Page::Stored, format!("/stored/{}", number % PAGES)),
                    (Page::Stale, format!("/stale/{}", number % PAGES)),
                    (Page::New, format!("/new/{number}")),
                ] {
                    let counted = counts.get();
                    asking.push(async move {
                        (counted, page, visit(node, &Ask::get(&path), PATIENCE).await)
                    });
                }
                number += 1;
            }
            Some((counted, page, visit)) = asking.next() => if counted {
                visits.push((page, visit));
            }
        }
    }
    while let Some((counted, page, visit)) = asking.next().await {
        if counted {
            visits.push((page, visit));
        }
    }
    visits
}

async fn away(stage: &mut Stage, span: u64) -> Seen {
    let stage = &*stage;
    let Store::Redis(redis) = &stage.world.store else {
        panic!("the platform's store is no Redis");
    };
    prepare(stage).await;
    let (counts, again) = (Cell::new(false), Cell::new(None));
    let outage = async {
        tokio::time::sleep(BEFORE).await;
        redis.kill();
        counts.set(true);
        tokio::time::sleep(Duration::from_secs(span)).await;
        redis.start_again().await;
        let back = Instant::now();
        again.set(shared_again(stage).await);
        tokio::time::sleep(AFTER.saturating_sub(back.elapsed())).await;
    };
    let visits = load(stage, &counts, outage).await;
    let again = again.get();
    let in_time = again.is_some_and(|again| again <= SHARED);
    let shared = again.map_or("not shared again".to_owned(), |again| {
        format!("shared again after {}", seconds(again))
    });
    let served = served(stage.platform, &visits);
    Seen::new(
        served.holds && (in_time || !stage.platform.reconnects()),
        format!("{}; {shared}", served.what),
    )
}

/// Until what one node fetches serves the other.
async fn shared_again(stage: &Stage) -> Option<Duration> {
    let (one, other) = (stage.world.node(0), stage.world.node(1));
    let limit = if stage.platform.reconnects() {
        SHARED
    } else {
        SHARED_LATE
    };
    let began = Instant::now();
    let mut first = None;
    for number in 0.. {
        let now = began.elapsed();
        if first.is_none() && now > limit {
            break;
        }
        let path = format!("/shared/{number}");
        let (fetched, read) = (get(one, &path).await, get(other, &path).await);
        if fetched.is_ok() && read.is_ok() && stage.world.origin.count(&path) == 1 {
            let (since, row) = first.map_or((now, 1), |(since, row)| (since, row + 1));
            if row == IN_A_ROW {
                return Some(since);
            }
            first = Some((since, row));
        } else {
            first = None;
        }
        tokio::time::sleep(BETWEEN).await;
    }
    None
}

async fn locked(stage: &mut Stage, lock: &str) -> Seen {
    let stage = &*stage;
    prepare(stage).await;
    let counts = Cell::new(false);
    let outage = async {
        tokio::time::sleep(BEFORE).await;
        let connection = stage.world.sqlite();
        let locked = || connection.execute_batch(lock).ok();
        connection.busy_timeout(Duration::ZERO).unwrap();
        wait::until("the file is locked", wait::SOON, async || locked()).await;
        counts.set(true);
        tokio::time::sleep(LOCKED).await;
        counts.set(false);
        connection.execute_batch("ROLLBACK").unwrap();
    };
    let visits = load(stage, &counts, outage).await;
    served(stage.platform, &visits)
}

/// What visitors got while the store was away.
fn served(platform: Platform, visits: &Visits) -> Seen {
    let of = |wanted: Page| {
        let visits = visits.iter().filter(move |(page, _)| *page == wanted);
        visits.map(|(_, visit)| visit)
    };
    let soon = of(Page::Stored).all(|visit| visit.is_ok() && visit.took <= SOON);
    // Without memory a platform can only say when to come back.
    let told = visits.iter().all(|(_, visit)| visit.is_told());
    let holds = if platform.has_memory() { soon } else { told };
    let kinds = [
        (Page::Stored, "stored"),
        (Page::Stale, "stale"),
        (Page::New, "new"),
    ];
    let told = kinds.map(|(page, name)| {
        let ok = of(page).filter(|visit| visit.is_ok()).count();
        let slowest = seconds(slowest(of(page)));
        format!("{name} {ok} of {}, {slowest}", of(page).count())
    });
    Seen::new(holds, told.join("; "))
}
