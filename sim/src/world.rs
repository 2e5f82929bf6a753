//! Nodes, their instances, visitors and faults: a scenario, played.

use crate::clock::Clocks;
use crate::coverage::{Coverage, Kind};
use crate::executor::{Executor, Micros, Owner, micros};
use crate::oracle::{Got, Oracle, Violation};
use crate::origin::{Origin, SimBody, tag_of};
use crate::platform::{Busy, SimPlatform};
use crate::requests::Asked;
use crate::scenario::{Breadth, FaultKind, Method, PurgeCall, Scenario, StoreKind, Visit};
use crate::stores::{Link, Server, Watched};
use crate::trace::Trace;
use crate::views::Views;
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Request, header};
use leeward::budget::SettingsMark;
use leeward::config::{self, Config};
use leeward::purges::{Prefix, Scope, Tag};
use leeward::question::policy::KeyPolicy;
use leeward::shield::{Answer, Body, Purged, Shield};
use leeward::store::{WRITE_DELAY_MAX, WriteDelayTooLong};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// Most requests without an answer in one instance, as hosts have it.
const REQUESTS_PER_INSTANCE: usize = 16;

/// Most instances of a node here; hosts have many more.
const INSTANCES_PER_NODE: usize = 3;

/// Most steps of a run; a run that needs more goes round in circles.
const STEPS_MAX: u64 = 20_000_000;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Report {
    /// What must not be, if it was.
    pub(crate) violation: Option<Violation>,
    /// What happened how often.
    pub(crate) coverage: Coverage,
    /// Line by line, if asked for.
    pub(crate) lines: Vec<String>,
}

/// Plays a scenario to its end or to the first violation.
///
/// # Errors
///
/// If the shield does not accept the scenario's settings.
pub(crate) fn play(scenario: &Scenario, trace: bool, ignored: &[String]) -> anyhow::Result<Report> {
    let world = World::new(scenario, trace, ignored)?;
    world.run();
    let report = Report {
        violation: world.oracle.violation(),
        coverage: world.oracle.coverage(),
        lines: world.oracle.lines(),
    };
    // Tasks hold the world, and the world the tasks.
    world.executor.kill(|_| true);
    world.nodes.borrow_mut().clear();
    Ok(report)
}

struct Instance {
    owner: Owner,
    shield: Rc<Shield<SimPlatform>>,
    /// Requests that have no answer yet.
    heads: Rc<Cell<usize>>,
    /// Requests and tasks.
    busy: Rc<Cell<usize>>,
}

#[derive(Default)]
struct Node {
    down: bool,
    instances: Vec<Instance>,
}

struct World {
    executor: Executor,
    scenario: Rc<Scenario>,
    config: Config,
    address: config::Origin,
    clocks: Rc<Clocks>,
    oracle: Rc<Oracle>,
    server: Rc<Server>,
    origin: Rc<Origin>,
    nodes: RefCell<Vec<Node>>,
    instances: Cell<u64>,
    /// Validators that visitors have seen, by key.
    tags: RefCell<Vec<Option<HeaderValue>>>,
    /// When requests came that have no answer yet, by visitor.
    waiting: RefCell<std::collections::BTreeMap<u64, (Micros, Owner)>>,
}

impl World {
    fn new(scenario: &Scenario, trace: bool, ignored: &[String]) -> anyhow::Result<Rc<Self>> {
        anyhow::ensure!(
            scenario.write_delay <= WRITE_DELAY_MAX,
            WriteDelayTooLong(scenario.write_delay)
        );
        let executor = Executor::new(scenario.seed ^ 0x9e37_79b9_7f4a_7c15);
        let scenario = Rc::new(scenario.clone());
        let clocks = Rc::new(Clocks::new(executor.clone(), scenario.offsets.clone()));
        let oracle = Oracle::new(
            executor.clone(),
            Rc::clone(&scenario),
            Rc::clone(&clocks),
            Trace::new(trace),
            ignored.to_vec(),
        )?;
        let origin = Rc::new(Origin {
            executor: executor.clone(),
            oracle: Rc::clone(&oracle),
            scenario: Rc::clone(&scenario),
            clocks: Rc::clone(&clocks),
        });
        let views = (scenario.store == StoreKind::Eventual)
            .then(|| Views::new(executor.clone(), Rc::clone(&scenario)));
        Ok(Rc::new(World {
            config: Config::parse(&scenario.settings.toml())?,
            address: config::Origin::parse(crate::oracle::ORIGIN)?,
            server: Server::new(Rc::clone(&oracle), views),
            nodes: RefCell::new(scenario.offsets.iter().map(|_| Node::default()).collect()),
            instances: Cell::new(0),
            tags: RefCell::new(vec![None; scenario.resources.len()]),
            waiting: RefCell::default(),
            executor,
            scenario,
            clocks,
            oracle,
            origin,
        }))
    }

    fn run(self: &Rc<Self>) {
        for (visitor, visit) in self.scenario.visits.iter().enumerate() {
            let world = Rc::clone(self);
            let visit = visit.clone();
            self.executor.spawn(Owner::World, async move {
                world.executor.sleep_until(visit.at).await;
                world.visit(visitor as u64, visit);
            });
        }
        for fault in 0..self.scenario.faults.len() {
            let world = Rc::clone(self);
            self.executor
                .spawn(Owner::World, async move { world.suffer(fault).await });
        }
        for purge in self.scenario.purges.clone() {
            let world = Rc::clone(self);
            self.executor.spawn(Owner::World, async move {
                world.executor.sleep_until(purge.at).await;
                world.purge(purge);
            });
        }
        let end = self.scenario.end;
        while self.executor.step(end) && self.executor.steps() < STEPS_MAX {
            for node in self.executor.burnt() {
                self.crash(node);
            }
            if self.oracle.violation().is_some() {
                return;
            }
        }
        self.oracle
            .finished(&self.waiting.borrow(), self.executor.steps() >= STEPS_MAX);
        self.oracle.nothing_forgotten(&self.server);
    }

    async fn suffer(&self, fault: usize) {
        let Some(fault) = self.scenario.faults.get(fault).cloned() else {
            return;
        };
        self.executor.sleep_until(fault.from).await;
        self.oracle
            .trace(Owner::World, || format!("begins: {:?}", fault.kind));
        let length = Duration::from_micros(fault.to - fault.from);
        match fault.kind {
            FaultKind::Crash { node, polls } => {
                self.executor.light_fuse(node, polls);
                self.executor.sleep(length).await;
                self.executor.quench(node);
                if let Some(node) = self.nodes.borrow_mut().get_mut(node) {
                    node.down = false;
                }
            }
            FaultKind::Stall { node } => {
                self.executor.stall(node, true);
                self.hampered(node);
                self.oracle.accident(Kind::Stall, &[]);
                self.executor.sleep(length).await;
                self.executor.stall(node, false);
                self.hampered(node);
                self.oracle.accident(Kind::Stall, &[]);
            }
            FaultKind::Trap { node } => {
                let instance = match self.nodes.borrow_mut().get_mut(node) {
                    Some(node) if !node.instances.is_empty() => Some(node.instances.swap_remove(0)),
                    _ => None,
                };
                if let Some(instance) = instance {
                    self.oracle.accident(Kind::Trap, &[instance.owner]);
                    self.executor.kill(|owner| owner == instance.owner);
                }
            }
            FaultKind::Jump { node, millis } => {
                self.clocks.jump(node, millis);
                self.executor.sleep(length).await;
                self.clocks.jump(node, -millis);
            }
            FaultKind::Emptied => {
                self.server.empty();
                self.oracle.count(Kind::StoreEmptied);
            }
            FaultKind::Store { .. } | FaultKind::Late { .. } | FaultKind::Origin { .. } => {
                self.executor.sleep(length).await;
            }
        }
        self.oracle
            .trace(Owner::World, || format!("is over: {:?}", fault.kind));
    }

    /// A stall keeps from renewing more than once.
    fn hampered(&self, node: usize) {
        if let Some(node) = self.nodes.borrow().get(node) {
            for instance in &node.instances {
                self.oracle.hampered(instance.owner);
                self.oracle.hampered(instance.owner);
            }
        }
    }

    fn crash(&self, node: usize) {
        let instances = match self.nodes.borrow_mut().get_mut(node) {
            Some(node) => {
                node.down = true;
                std::mem::take(&mut node.instances)
            }
            None => Vec::new(),
        };
        let owners: Vec<Owner> = instances.iter().map(|instance| instance.owner).collect();
        self.oracle
            .trace(Owner::World, || format!("node {node} crashes"));
        self.oracle.accident(Kind::Crash, &owners);
        self.executor.kill(|owner| owner.node() == Some(node));
    }

    /// Brings a visitor to a node.
    fn visit(self: &Rc<Self>, visitor: u64, visit: Visit) {
        let Some((shield, owner, head, busy)) = self.instance(visit.node) else {
            // All nodes are down.
            return;
        };
        let world = Rc::clone(self);
        let arrived = self.executor.now();
        self.waiting.borrow_mut().insert(visitor, (arrived, owner));
        self.oracle
            .trace(owner, || format!("visitor {visitor} comes: {visit:?}"));
        let guard = Pending {
            world: Rc::clone(self),
            visitor,
        };
        let task = self.executor.spawn(owner, async move {
            let answer = shield.handle(world.request(&visit)).await;
            drop(head);
            guard.world.waiting.borrow_mut().remove(&visitor);
            world.receive(visitor, &visit, owner, arrived, answer).await;
            drop((guard, busy));
        });
        self.oracle.works_for(task, visitor);
    }

    /// The administrator purges a key through a node.
    fn purge(self: &Rc<Self>, call: PurgeCall) {
        let Ok(target) = format!("/k{}", call.key).parse::<http::Uri>() else {
            return;
        };
        let Some((shield, owner, head, busy)) = self.instance(call.node) else {
            return;
        };
        self.oracle
            .trace(owner, || format!("administrator: {call:?}"));
        let (world, requested) = (Rc::clone(self), self.executor.now());
        self.executor.spawn(owner, async move {
            let purged = match world.scenario.forgetful {
                true => Purged::Stored,
                false => match scope(&call) {
                    None => shield.purge_target(&target, call.how).await,
                    Some(scope) => shield.purge_scopes(&[scope], call.how).await,
                },
            };
            world.oracle.purged(owner, &call, requested, purged);
            drop((head, busy));
        });
    }

    /// An instance that has room, perhaps a new one.
    fn instance(&self, wish: usize) -> Option<(Rc<Shield<SimPlatform>>, Owner, Busy, Busy)> {
        let nodes = &mut *self.nodes.borrow_mut();
        let up: Vec<usize> = (0..nodes.len())
            .filter(|node| nodes.get(*node).is_some_and(|node| !node.down))
            .collect();
        let index = *up.get(wish.checked_rem(up.len())?)?;
        let node = nodes.get_mut(index)?;
        node.instances.retain(|instance| {
            let idle = instance.busy.get() == 0 && self.executor.random(|rng| rng.u32(..8)) == 0;
            if idle {
                self.oracle.count(Kind::Idle);
            }
            !idle
        });
        let room: Vec<usize> = (0..node.instances.len())
            .filter(|instance| {
                node.instances
                    .get(*instance)
                    .is_some_and(|instance| instance.heads.get() < REQUESTS_PER_INSTANCE)
            })
            .collect();
        let another = node.instances.len() < INSTANCES_PER_NODE
            && self.executor.random(|rng| rng.u32(..4)) == 0;
        if room.is_empty() || another {
            node.instances.push(self.start(index)?);
        }
        let chosen = match room.as_slice() {
            [] => node.instances.len() - 1,
            _ if another => node.instances.len() - 1,
            room => *room.get(self.executor.random(|rng| rng.usize(..room.len())))?,
        };
        let instance = node.instances.get(chosen)?;
        Some((
            Rc::clone(&instance.shield),
            instance.owner,
            Busy::new(&instance.heads),
            Busy::new(&instance.busy),
        ))
    }

    /// None if the scenario has a store that cannot be.
    fn start(&self, node: usize) -> Option<Instance> {
        let instance = self.instances.get();
        self.instances.set(instance + 1);
        let owner = Owner::Instance { node, instance };
        let busy = Rc::default();
        let clocks = Rc::clone(&self.clocks);
        let link = Link {
            executor: self.executor.clone(),
            server: Rc::clone(&self.server),
            oracle: Rc::clone(&self.oracle),
            scenario: Rc::clone(&self.scenario),
            owner,
        };
        let platform = SimPlatform {
            executor: self.executor.clone(),
            oracle: Rc::clone(&self.oracle),
            clocks: Rc::clone(&self.clocks),
            origin: Rc::clone(&self.origin),
            store: Watched::new(link, move || clocks.at(node)).ok()?,
            owner,
            busy: Rc::clone(&busy),
        };
        Some(Instance {
            owner,
            shield: Shield::new(
                platform,
                self.address.clone(),
                self.config.clone(),
                SettingsMark::of("", ""),
            ),
            heads: Rc::default(),
            busy,
        })
    }

    fn request(&self, visit: &Visit) -> Request<Option<SimBody>> {
        let Asked {
            method,
            target,
            mut headers,
            content,
        } = asked(visit);
        let body = match (visit.method, content) {
            _ if visit.sends_slowly() => Some(SimBody::of_visitor(&self.executor, &SLOW_CONTENT)),
            (_, true) => Some(SimBody::of_visitor(&self.executor, &[(0, CONTENT)])),
            (Method::Post, false) => Some(SimBody::of_visitor(&self.executor, &[(0, "")])),
            (Method::Get | Method::Head, false) => None,
        };
        if self.scenario.anonymous {
            for name in [header::COOKIE, header::AUTHORIZATION] {
                headers.remove(name);
            }
        }
        if visit.conditional
            && let Some(Some(tag)) = self.tags.borrow().get(visit.key)
        {
            headers.insert(header::IF_NONE_MATCH, tag.clone());
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        if let Ok(uri) = target.parse() {
            *request.uri_mut() = uri;
        }
        *request.headers_mut() = headers;
        request
    }

    async fn receive(
        &self,
        visitor: u64,
        visit: &Visit,
        owner: Owner,
        arrived: Micros,
        answer: Answer<SimBody>,
    ) {
        let (parts, mut body) = answer.into_parts();
        let got = Got {
            visitor,
            visit,
            owner,
            arrived,
            status: parts.status,
            headers: &parts.headers,
        };
        let expected = self.oracle.answered(&got, &self.server);
        if let Some(tag) = parts.headers.get(header::ETAG)
            && let Some(slot) = self.tags.borrow_mut().get_mut(visit.key)
        {
            *slot = Some(tag.clone());
        }
        let leaves = visit.leaves.map(|after| arrived + micros(after));
        let mut whole = BytesMut::new();
        loop {
            if leaves.is_some_and(|at| self.executor.now() >= at) {
                return self.oracle.count(Kind::Left);
            }
            match body.chunk().await {
                Some(Ok(chunk)) => whole.extend_from_slice(&chunk),
                // The client sees that it is not whole.
                Some(Err(_)) => return,
                None => break,
            }
        }
        let content =
            visit.method != Method::Head && parts.status != http::StatusCode::NOT_MODIFIED;
        if let Some(expected) = expected.filter(|_| content) {
            self.oracle.read_whole(&got, &whole.freeze(), &expected);
        }
    }
}

/// A request that has not ended.
struct Pending {
    world: Rc<World>,
    visitor: u64,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self
            .world
            .waiting
            .borrow_mut()
            .remove(&self.visitor)
            .is_some()
        {
            self.world.oracle.count(Kind::Died);
        }
    }
}

/// What the content of a GET is, where it has some.
const CONTENT: &str = "hello";

/// The same as a slow visitor sends it, without saying how long it is: each piece after a
/// number of milliseconds.
const SLOW_CONTENT: [(u64, &str); 3] = [(0, "he"), (1_500, "ll"), (2_500, "o")];

/// How long that takes.
pub(crate) const SLOW_UPLOAD: Duration = Duration::from_secs(4);

/// What a visitor asks, apart from the validator of what it has seen before.
pub(crate) fn asked(visit: &Visit) -> Asked {
    let mut headers = HeaderMap::new();
    if let Some(language) = visit.language {
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(language));
    }
    if let Some(device) = visit.device {
        headers.insert("x-device", HeaderValue::from_static(device));
    }
    for (name, value) in &visit.brings.fields {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(*name, value);
        }
    }
    if visit.brings.content && !visit.sends_slowly() {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(CONTENT.len()));
    }
    Asked {
        method: match visit.method {
            Method::Get => http::Method::GET,
            Method::Head => http::Method::HEAD,
            Method::Post => http::Method::POST,
        },
        target: match visit.brings.query {
            Some(query) => format!("/k{}?{query}", visit.key),
            None => format!("/k{}", visit.key),
        },
        headers,
        content: visit.brings.content,
    }
}

/// What a purge is for; none if it is for one key.
fn scope(call: &PurgeCall) -> Option<Scope> {
    match call.breadth {
        Breadth::Key => None,
        Breadth::Prefix => {
            let path = format!("/k{}", call.key);
            let prefix = Prefix::parse(None, &path, &KeyPolicy::default());
            prefix.ok().map(Scope::Prefix)
        }
        Breadth::Tag => Tag::named(&tag_of(call.key)).map(Scope::Tag),
        Breadth::Everything => Some(Scope::Everything),
    }
}
