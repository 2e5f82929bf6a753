//! `leeward-sim scale`: what no test machine can show. Many nodes and many
//! visitors in virtual time; nothing fails, everything is counted.

use crate::clock::Clocks;
use crate::executor::{Executor, Micros, Owner, micros};
use crate::platform::Busy;
use crate::scale_platform::{Counters, ExactStore, ScalePlatform, Values};
use anyhow::Result;
use hdrhistogram::Histogram;
use http::Request;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use leeward::budget::SettingsMark;
use leeward::config::{Config, Origin};
use leeward::shield::{Body, Shield};
use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Instances of a node; at this rate of requests none of them is ever idle.
const INSTANCES: usize = 2;

/// Virtual seconds from one line about the progress to the next.
const SECONDS_PER_LINE: u64 = 30;

/// What `leeward-sim scale` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How many nodes.
    #[arg(long, default_value_t = 200)]
    pub nodes: usize,
    /// Requests per second of each node.
    #[arg(long, default_value_t = 500)]
    pub rps: u32,
    /// How many keys, asked for by a Zipf distribution with exponent 1.
    #[arg(long, default_value_t = 10_000)]
    pub keys: usize,
    /// How long, in virtual time.
    #[arg(long, default_value = "10m")]
    pub time: humantime::Duration,
    /// The origin's latency.
    #[arg(long, default_value = "300ms")]
    pub origin_latency: humantime::Duration,
    /// The store's latency, for each operation.
    #[arg(long, default_value = "2ms")]
    pub store_latency: humantime::Duration,
    /// A line of the configuration, such as origin.max_concurrency=1024; repeatable.
    #[arg(long = "set", value_name = "LINE")]
    pub settings: Vec<String>,
    /// Most requests that a node has in progress, as the embedded host bounds its
    /// connections. A visitor who finds a node full is turned away.
    #[arg(long, default_value_t = 8_192)]
    pub node_requests: usize,
    /// Of the generator.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What visitors got.
#[derive(Debug)]
struct Seen {
    requests: u64,
    fresh: u64,
    stale: u64,
    waited: u64,
    fetched: u64,
    /// Answers with an error, without those that say when to come back.
    errors: u64,
    /// 503 with `Retry-After`.
    refused: u64,
    /// Turned away by a node that is full.
    turned_away: u64,
    /// Milliseconds since expiry, of stale answers.
    staleness: Histogram<u64>,
    /// Microseconds to the answer's head.
    latency: Histogram<u64>,
}

/// Runs the measurement and prints its tables.
///
/// # Errors
///
/// If the settings are none, or the histograms cannot be made.
pub fn run(args: &Args) -> Result<()> {
    let began = Instant::now();
    let executor = Executor::new(args.seed);
    let counters = Rc::new(Counters::new(args.keys));
    let values = Rc::new(Values::default());
    let config = Config::parse(&args.settings.join("\n"))?;
    let address = Origin::parse("http://origin.example")?;
    let clocks = Rc::new(Clocks::new(executor.clone(), vec![0; args.nodes]));
    let seen = Rc::new(RefCell::new(Seen {
        requests: 0,
        fresh: 0,
        stale: 0,
        waited: 0,
        fetched: 0,
        errors: 0,
        refused: 0,
        turned_away: 0,
        staleness: Histogram::new_with_bounds(1, 1_000_000, 3)?,
        latency: Histogram::new_with_bounds(1, 1_000_000_000, 3)?,
    }));
    let zipf = Rc::new(Zipf::new(args.keys));
    let end = micros(*args.time);
    for node in 0..args.nodes {
        let shields: Vec<_> = (0..INSTANCES)
            .map(|_| {
                let platform = ScalePlatform {
                    executor: executor.clone(),
                    clocks: Rc::clone(&clocks),
                    node,
                    store: ExactStore {
                        executor: executor.clone(),
                        values: Rc::clone(&values),
                        counters: Rc::clone(&counters),
                        latency: *args.store_latency,
                    },
                    counters: Rc::clone(&counters),
                    origin_latency: *args.origin_latency,
                };
                let mark = SettingsMark::of("", "");
                Shield::new(platform, address.clone(), config.clone(), mark)
            })
            .collect();
        let (executor_, seen, zipf) = (executor.clone(), Rc::clone(&seen), Rc::clone(&zipf));
        let counters = Rc::clone(&counters);
        let rps = f64::from(args.rps);
        let (progress, most) = (Rc::new(Cell::new(0_usize)), args.node_requests);
        executor.spawn(Owner::World, async move {
            let mut turn = 0;
            loop {
                let pause = executor_.random(|rng| -rng.f64().max(f64::MIN_POSITIVE).ln() / rps);
                executor_.sleep(Duration::from_secs_f64(pause)).await;
                if executor_.now() >= end {
                    return;
                }
                turn += 1;
                let Some(shield) = shields.get(turn % INSTANCES).cloned() else {
                    return;
                };
                let key = zipf.draw(&executor_);
                if progress.get() >= most {
                    seen.borrow_mut().turned_away += 1;
                    continue;
                }
                counters.asked(key);
                let busy = Busy::new(&progress);
                let (executor, seen) = (executor_.clone(), Rc::clone(&seen));
                executor_.spawn(Owner::World, async move {
                    let began = executor.now();
                    let mut request = Request::new(None);
                    if let Ok(uri) = format!("/k{key}").parse() {
                        *request.uri_mut() = uri;
                    }
                    let answer = shield.handle(request).await;
                    seen.borrow_mut().note(&answer, executor.now() - began);
                    let mut body = answer.into_body();
                    while let Some(Ok(_)) = body.chunk().await {}
                    drop(busy);
                });
            }
        });
    }
    progress(&executor, end);
    let seen = seen.borrow();
    print!("{}", report(args, &seen, &counters, began.elapsed()));
    executor.kill(|_| true);
    Ok(())
}

/// Runs to the end and shows how far it is: a bar on a terminal, and otherwise a line
/// for each [`SECONDS_PER_LINE`].
fn progress(executor: &Executor, end: Micros) {
    let bar = ProgressBar::new(end / 1_000_000).with_style(
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} virtual seconds, {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    // Refreshes that are under way at the end come to theirs.
    let last = end + 5_000_000;
    let shown = Cell::new(0);
    while executor.step(last) {
        let second = executor.now() / 1_000_000;
        if second != shown.get() {
            shown.set(second);
            bar.set_position(second);
            if bar.is_hidden() && second.is_multiple_of(SECONDS_PER_LINE) {
                let all = end / 1_000_000;
                eprintln!(
                    "{second} of {all} virtual seconds, after {:.0?}",
                    bar.elapsed()
                );
            }
        }
    }
    bar.finish_and_clear();
}

impl Seen {
    fn note<B>(&mut self, answer: &http::Response<B>, took: Micros) {
        self.requests += 1;
        self.latency.saturating_record(took);
        let word = answer
            .headers()
            .get("cache-status")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let ttl = word
            .split(';')
            .find_map(|part| part.strip_prefix("ttl="))
            .and_then(|ttl| ttl.parse::<i64>().ok());
        if !answer.status().is_success() {
            match answer.headers().contains_key(http::header::RETRY_AFTER) {
                true => self.refused += 1,
                false => self.errors += 1,
            }
        } else if word.contains("detail=stale") {
            self.stale += 1;
            // Whole seconds rounded down: -1 is anything up to a second.
            let seconds = ttl.unwrap_or(0).min(0).unsigned_abs();
            self.staleness.saturating_record(seconds);
        } else if word.contains("collapsed") {
            self.waited += 1;
        } else if word.contains("hit") {
            self.fresh += 1;
        } else {
            self.fetched += 1;
        }
    }
}

/// Draws keys by rank.
struct Zipf(Vec<f64>);

impl Zipf {
    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    fn new(keys: usize) -> Self {
        let mut sum = 0.0;
        Zipf(
            (1..=keys)
                .map(|rank| {
                    sum += 1.0 / rank as f64;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, executor: &Executor) -> usize {
        let sum = self.0.last().copied().unwrap_or(1.0);
        let at = executor.random(|rng| rng.f64()) * sum;
        self.0.partition_point(|mark| *mark < at)
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn report(args: &Args, seen: &Seen, counters: &Counters, took: Duration) -> String {
    let mut text = String::new();
    let origin = counters.origin.get();
    let percent = |part| format!("{:.3} %", 100.0 * share(part, seen.requests));
    let per_request = |count: u64| format!("{:.4}", share(count, seen.requests));
    let ms = |micros: u64| format!("{:.1} ms", share(micros, 1_000));
    let rows = [
        ("requests", HumanCount(seen.requests).to_string()),
        ("requests to the origin", HumanCount(origin).to_string()),
        (
            "offload: requests that the origin did not see",
            format!("{:.4} %", 100.0 * (1.0 - share(origin, seen.requests))),
        ),
        (
            "origin requests per refresh that was stored",
            format!("{:.4}", share(origin, counters.published.get())),
        ),
        (
            "most origin requests per refresh, of any key",
            format!("{:.2}", counters.worst()),
        ),
        (
            "most in flight to the origin",
            counters.most.get().to_string(),
        ),
        (
            "most in flight to the origin for one key",
            counters.most_of_one_key().to_string(),
        ),
        ("answers fresh", percent(seen.fresh)),
        ("answers stale, refreshed behind", percent(seen.stale)),
        (
            "answers after waiting for another's fetch",
            percent(seen.waited),
        ),
        ("answers by fetching oneself", percent(seen.fetched)),
        ("503 with `Retry-After`", percent(seen.refused)),
        ("other errors", HumanCount(seen.errors).to_string()),
        (
            "turned away by a full node",
            HumanCount(seen.turned_away).to_string(),
        ),
        (
            "staleness of stale answers: median, 99 %, most",
            format!(
                "under {}, {}, {} s",
                seen.staleness.value_at_quantile(0.5),
                seen.staleness.value_at_quantile(0.99),
                seen.staleness.max()
            ),
        ),
        (
            "time to the answer: median, 99 %, 99.9 %",
            format!(
                "{}, {}, {}",
                ms(seen.latency.value_at_quantile(0.5)),
                ms(seen.latency.value_at_quantile(0.99)),
                ms(seen.latency.value_at_quantile(0.999))
            ),
        ),
        ("store reads per request", per_request(counters.loads.get())),
        ("store swaps per request", per_request(counters.swaps.get())),
        (
            "store swaps per refresh",
            format!(
                "{:.2}",
                share(counters.swaps.get(), counters.published.get())
            ),
        ),
        (
            "of these for the budget, per origin request: reads, swaps, lost swaps",
            format!(
                "{:.2}, {:.2}, {:.2}",
                share(counters.record.loads.get(), origin),
                share(counters.record.swaps.get(), origin),
                share(counters.record.lost.get(), origin)
            ),
        ),
        (
            "most bytes of the budget's record",
            HumanCount(counters.record.bytes.get() as u64).to_string(),
        ),
    ];
    // Writing to a `String` cannot fail.
    let _ = writeln!(
        text,
        "{} nodes, {} requests per second each, {} keys, {} of virtual time, in {:.0} s\n",
        args.nodes,
        args.rps,
        HumanCount(args.keys as u64),
        args.time,
        took.as_secs_f64()
    );
    let _ = writeln!(text, "| what | measured |\n| --- | --- |");
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    let _ = writeln!(
        text,
        "\n| lifetime | keys asked for | requests | origin requests | of them per refresh | per key and minute |\n\
         | --- | --- | --- | --- | --- | --- |"
    );
    let minutes = args.time.as_secs_f64() / 60.0;
    for band in counters.bands() {
        let _ = writeln!(
            text,
            "| {} to {} s | {} | {} | {} | {:.4} | {:.2} |",
            band.from,
            band.to,
            HumanCount(band.keys),
            HumanCount(band.requests),
            HumanCount(band.origin),
            share(band.origin, band.published),
            share(band.origin, band.keys) / minutes
        );
    }
    text
}
