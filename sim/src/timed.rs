//! `leeward-sim timed`: the election on a store that has no swap and shows each write to
//! other nodes after a delay ([`leeward::store::Timed`]).
//!
//! The operator states a bound of that delay. What the election is worth while the store
//! keeps to it, and beyond, is measured here: how many requests reach the origin for a key
//! that another has in flight, or whose answer is fresh (*double elections*), and how many
//! requests the origin has at once with a budget.

use crate::clock::Clocks;
use crate::executor::{Executor, Micros, Owner, Sleep, micros};
use crate::scale_platform::{Counters, ScalePlatform};
use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Request;
use leeward::budget::SettingsMark;
use leeward::config::{Config, Origin};
use leeward::shield::{Body, Shield};
use leeward::store::{StoreError, Timed, Values, WRITE_DELAY_MAX};
use leeward::time::Time;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// The key that everyone asks for; its answers are fresh for two seconds.
const KEY: usize = 1;

/// What the origin takes for an answer.
const ORIGIN_LATENCY: Duration = Duration::from_millis(300);

/// What a store operation takes on its way there, and as long back.
const STORE_LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(4));

/// The clocks differ by twice this at most.
const CLOCKS: i64 = 100;

/// Visitors of a node at the beginning, and a second later on.
const HERD: usize = 10;
const RATE: f64 = 5.0;

/// The budget in the second table, and the keys that nobody has asked for before.
const SLOTS: u32 = 8;
const COLD_KEYS: usize = 200;

/// A lease that is long enough for the longest write delay.
const LEASE: Duration = Duration::from_secs(8);

/// The real delay in percent of the bound.
const DELAYS: [u32; 9] = [10, 50, 90, 100, 110, 150, 200, 300, 500];

/// The same, in the second table.
const BUDGET_DELAYS: [u32; 4] = [10, 90, 200, 500];

/// What `leeward-sim timed` can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The write delay that the nodes are told.
    #[arg(long, default_value = "300ms")]
    pub bound: humantime::Duration,
    /// How many nodes; repeatable.
    #[arg(long, default_values_t = [4, 20])]
    pub nodes: Vec<usize>,
    /// How many runs for each line.
    #[arg(long, default_value_t = 20)]
    pub seeds: u64,
    /// How long each run is, in virtual time.
    #[arg(long, default_value = "60s")]
    pub time: humantime::Duration,
}

/// How delays are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// All are as long as the longest.
    Fixed,
    /// Each node sees each write after a delay of its own, up to the longest.
    Jittered,
    /// Nineteen of twenty are within a tenth of the longest.
    Tail,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Shape::Fixed => "always",
            Shape::Jittered => "up to",
            Shape::Tail => "one of 20",
        }
    }
}

/// Who has an instance of the component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instances {
    /// Each node has one.
    PerNode,
    /// Each request has one of its own.
    PerRequest,
}

impl Instances {
    /// `origin.local_concurrency`, as the flavours have it by default.
    fn local_slots(self) -> u32 {
        match self {
            Instances::PerNode => 2,
            Instances::PerRequest => 0,
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Setup {
    nodes: usize,
    bound: Duration,
    delay: Duration,
    shape: Shape,
    instances: Instances,
    /// One key that is asked for all the time, or many that are asked for once.
    cold_keys: bool,
    time: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    answers: u64,
    errors: u64,
    origin: u64,
    doubled: u64,
    most: u64,
    most_of_key: u64,
}

impl Outcome {
    fn add(&mut self, other: Outcome) {
        self.answers += other.answers;
        self.errors += other.errors;
        self.origin += other.origin;
        self.doubled += other.doubled;
        self.most = self.most.max(other.most);
        self.most_of_key = self.most_of_key.max(other.most_of_key);
    }
}

/// Measures, and prints two tables.
///
/// # Errors
///
/// If the bound is longer than the protocol can wait, or the settings are none.
pub fn run(args: &Args) -> Result<()> {
    let bound = *args.bound;
    println!(
        "write delay {}, lease {}, {} runs of {} for each line\n",
        args.bound,
        humantime::Duration::from(LEASE),
        args.seeds,
        args.time
    );
    println!(
        "| nodes | writes are visible | of the bound | requests to the origin | double elections | \
         of 1,000 | most at once for the key | errors |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for &nodes in &args.nodes {
        for shape in [Shape::Fixed, Shape::Jittered, Shape::Tail] {
            for percent in DELAYS {
                let setup = Setup {
                    nodes,
                    bound,
                    delay: bound * percent / 100,
                    shape,
                    instances: Instances::PerNode,
                    cold_keys: false,
                    time: *args.time,
                };
                let all = repeat(&setup, args.seeds)?;
                println!(
                    "| {nodes} | {} {:?} | {percent} % | {} | {} | {:.2} | {} | {} |",
                    shape.name(),
                    setup.delay,
                    all.origin,
                    all.doubled,
                    per_mille(all.doubled, all.origin),
                    all.most_of_key,
                    all.errors
                );
            }
        }
    }
    println!(
        "\n{COLD_KEYS} keys that nobody has asked for, within a second, and \
         origin.max_concurrency = {SLOTS}\n\n\
         | nodes | instances | writes are visible | of the bound | most in flight | requests to the \
         origin | double elections | answers | errors |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for &nodes in &args.nodes {
        for (instances, name) in [
            (Instances::PerNode, "one per node"),
            (Instances::PerRequest, "one per request"),
        ] {
            for percent in BUDGET_DELAYS {
                let setup = Setup {
                    nodes,
                    bound,
                    delay: bound * percent / 100,
                    shape: Shape::Jittered,
                    instances,
                    cold_keys: true,
                    time: *args.time,
                };
                let all = repeat(&setup, args.seeds.div_ceil(4))?;
                println!(
                    "| {nodes} | {name} | {} {:?} | {percent} % | {} | {} | {} | {} | {} |",
                    setup.shape.name(),
                    setup.delay,
                    all.most,
                    all.origin,
                    all.doubled,
                    all.answers,
                    all.errors
                );
            }
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn per_mille(part: u64, whole: u64) -> f64 {
    1_000.0 * part as f64 / whole.max(1) as f64
}

fn repeat(setup: &Setup, seeds: u64) -> Result<Outcome> {
    let mut all = Outcome::default();
    for seed in 0..seeds {
        all.add(measure(setup, seed)?);
    }
    Ok(all)
}

type Clock = Box<dyn Fn() -> Time>;
type Sleeper = Box<dyn Fn(Duration) -> Sleep>;
type TimedShield = Shield<ScalePlatform<Timed<Replica, Clock, Sleeper>>>;

/// A run's parts.
struct Run {
    executor: Executor,
    setup: Setup,
    clocks: Rc<Clocks>,
    counters: Rc<Counters>,
    replicas: Rc<Replicas>,
    config: Config,
    address: Origin,
    answers: Cell<u64>,
    errors: Cell<u64>,
}

/// Plays one run.
fn measure(setup: &Setup, seed: u64) -> Result<Outcome> {
    ensure!(
        setup.bound <= WRITE_DELAY_MAX,
        "the write delay is {WRITE_DELAY_MAX:?} at most"
    );
    let executor = Executor::new(seed);
    let offsets = (0..setup.nodes).map(|_| executor.random(|rng| rng.i64(-CLOCKS..=CLOCKS)));
    let skew = setup.bound + Duration::from_millis(CLOCKS.unsigned_abs() * 2);
    let run = Rc::new(Run {
        clocks: Rc::new(Clocks::new(executor.clone(), offsets.collect())),
        counters: Rc::new(Counters::new(COLD_KEYS)),
        replicas: Rc::new(Replicas {
            executor: executor.clone(),
            setup: *setup,
            written: RefCell::default(),
        }),
        config: Config::parse(&format!(
            "lease.duration = \"{}ms\"\nlease.clock_skew = \"{}ms\"\n\
             origin.max_concurrency = {SLOTS}\norigin.local_concurrency = {}",
            LEASE.as_millis(),
            skew.as_millis(),
            setup.instances.local_slots()
        ))?,
        address: Origin::parse("http://origin.example")?,
        answers: Cell::default(),
        errors: Cell::default(),
        setup: *setup,
        executor,
    });
    let instances: Vec<Rc<TimedShield>> = match setup.instances {
        Instances::PerNode => {
            let made: Result<Vec<_>> = (0..setup.nodes).map(|node| run.instance(node)).collect();
            made?
        }
        Instances::PerRequest => Vec::new(),
    };
    run.visitors(&instances);
    // What is under way at the end comes to its own.
    let end = micros(setup.time) + 30_000_000;
    while run.executor.step(end) {}
    let outcome = Outcome {
        answers: run.answers.get(),
        errors: run.errors.get(),
        origin: run.counters.origin.get(),
        doubled: run.counters.doubled(),
        most: run.counters.most.get(),
        most_of_key: run.counters.most_of_one_key(),
    };
    run.executor.kill(|_| true);
    Ok(outcome)
}

impl Run {
    fn instance(&self, node: usize) -> Result<Rc<TimedShield>> {
        let (clocks, sleeps) = (Rc::clone(&self.clocks), self.executor.clone());
        let clock: Clock = Box::new(move || clocks.at(node));
        let sleep: Sleeper = Box::new(move |duration| sleeps.sleep(duration));
        let replica = Replica {
            replicas: Rc::clone(&self.replicas),
            node,
        };
        let platform = ScalePlatform {
            executor: self.executor.clone(),
            clocks: Rc::clone(&self.clocks),
            node,
            store: Timed::new(replica, clock, sleep, self.setup.bound)?,
            counters: Rc::clone(&self.counters),
            origin_latency: ORIGIN_LATENCY,
        };
        Ok(Shield::new(
            platform,
            self.address.clone(),
            self.config.clone(),
            SettingsMark::of("", ""),
        ))
    }

    /// Who comes when, and for what.
    fn visitors(self: &Rc<Self>, instances: &[Rc<TimedShield>]) {
        if self.setup.cold_keys {
            for key in 0..COLD_KEYS {
                let node = self.executor.random(|rng| rng.usize(..self.setup.nodes));
                for node in [node, (node + 1) % self.setup.nodes] {
                    let at = self.executor.random(|rng| rng.u64(..1_000_000));
                    self.visitor(instances, node, key, at);
                }
            }
            return;
        }
        let end = micros(self.setup.time);
        for node in 0..self.setup.nodes {
            for _ in 0..HERD {
                let at = self.executor.random(|rng| rng.u64(..50_000));
                self.visitor(instances, node, KEY, at);
            }
            let mut at: Micros = 0;
            while at < end {
                let pause = self
                    .executor
                    .random(|rng| -rng.f64().max(f64::MIN_POSITIVE).ln() / RATE);
                at += micros(Duration::from_secs_f64(pause));
                self.visitor(instances, node, KEY, at);
            }
        }
    }

    fn visitor(
        self: &Rc<Self>,
        instances: &[Rc<TimedShield>],
        node: usize,
        key: usize,
        at: Micros,
    ) {
        let (run, instance) = (Rc::clone(self), instances.get(node).cloned());
        self.executor.spawn(Owner::World, async move {
            run.executor.sleep_until(at).await;
            let made = instance.or_else(|| run.instance(node).ok());
            let Some(instance) = made else { return };
            let mut request = Request::new(None);
            if let Ok(uri) = format!("/k{key}").parse() {
                *request.uri_mut() = uri;
            }
            let answer = instance.handle(request).await;
            run.answers.set(run.answers.get() + 1);
            if !answer.status().is_success() {
                run.errors.set(run.errors.get() + 1);
            }
            let mut body = answer.into_body();
            while let Some(Ok(_)) = body.chunk().await {}
        });
    }
}

/// A write that the store has taken.
struct Written {
    value: Option<Bytes>,
    /// From when on each node sees it.
    visible: Vec<Micros>,
}

/// All copies of the store. The last write that it takes wins.
struct Replicas {
    executor: Executor,
    setup: Setup,
    written: RefCell<HashMap<String, Vec<Written>>>,
}

impl Replicas {
    /// The store takes a write that was called for at `called`.
    fn write(&self, key: &str, value: Option<Bytes>, called: Micros) {
        let now = self.executor.now();
        let visible = (0..self.setup.nodes)
            .map(|_| now.max(called + self.delay()))
            .collect();
        let written = &mut *self.written.borrow_mut();
        let writes = written.entry(key.to_owned()).or_default();
        writes.push(Written { value, visible });
        let everywhere = |write: &Written| write.visible.iter().all(|at| *at <= now);
        if let Some(last) = writes.iter().rposition(everywhere) {
            writes.drain(..last);
        }
    }

    fn delay(&self) -> Micros {
        let most = micros(self.setup.delay);
        self.executor.random(|rng| match self.setup.shape {
            Shape::Fixed => most,
            Shape::Jittered => rng.u64(0..=most),
            Shape::Tail if rng.u32(..20) == 0 => most,
            Shape::Tail => rng.u64(0..=most / 10),
        })
    }

    /// What a node sees. It never goes back: what was taken later and is visible hides
    /// what was taken before.
    fn read(&self, key: &str, node: usize) -> Option<Bytes> {
        let now = self.executor.now();
        let written = self.written.borrow();
        let mut seen = written
            .get(key)?
            .iter()
            .rev()
            .filter(|write| write.visible.get(node).is_none_or(|at| *at <= now));
        seen.next()?.value.clone()
    }
}

/// The store as a node has it.
struct Replica {
    replicas: Rc<Replicas>,
    node: usize,
}

impl Replica {
    async fn travel(&self) {
        let executor = &self.replicas.executor;
        let time = executor.between(STORE_LATENCY.0, STORE_LATENCY.1);
        executor.sleep(time).await;
    }

    async fn write(&self, key: &str, value: Option<Bytes>) -> Result<(), StoreError> {
        let called = self.replicas.executor.now();
        self.travel().await;
        self.replicas.write(key, value, called);
        self.travel().await;
        Ok(())
    }
}

impl Values for Replica {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.travel().await;
        let value = self.replicas.read(key, self.node);
        self.travel().await;
        Ok(value)
    }

    async fn set(&self, key: &str, value: &Bytes) -> Result<(), StoreError> {
        self.write(key, Some(value.clone())).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.write(key, None).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn doubled(nodes: usize, shape: Shape, percent: u32) -> Outcome {
        let bound = Duration::from_millis(300);
        let setup = Setup {
            nodes,
            bound,
            delay: bound * percent / 100,
            shape,
            instances: Instances::PerNode,
            cold_keys: false,
            time: Duration::from_secs(20),
        };
        repeat(&setup, 2).unwrap()
    }

    #[test]
    fn within_the_write_delay_one_node_is_elected() {
        for nodes in [4, 20] {
            for shape in [Shape::Fixed, Shape::Jittered, Shape::Tail] {
                let all = doubled(nodes, shape, 100);
                assert_eq!(all.doubled, 0, "{nodes} nodes, {shape:?}: {all:?}");
                assert!(all.origin > 4, "{all:?}");
            }
        }
    }

    #[test]
    fn double_elections_are_seen_beyond_the_write_delay() {
        let all = doubled(20, Shape::Jittered, 500);
        assert!(all.doubled > 0, "{all:?}");
    }
}
