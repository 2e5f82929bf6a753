//! What happens in a run, as plain data made from a seed.
//!
//! Nothing here is decided later but the interleaving of tasks and the length
//! of delays, so that a failing scenario can be shrunk by leaving parts out.

use crate::executor::{Micros, micros};
use leeward::cell::transition::Purge;
use std::fmt;
use std::time::Duration;

/// Which store the nodes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreKind {
    /// SQL or a Redis script: an exact [`leeward::store::Store`].
    Exact,
    /// Spin's SQLite: from absent an upsert.
    Upsert,
    /// Spin's Redis: every swap is called a conflict, applied or not.
    DeniesSuccess,
    /// Spin's CosmosDB: two callers may hear 1 from a fresh counter.
    LooseCounter,
    /// Spin's DynamoDB: counters fail under contention.
    ContendedCounter,
    /// Akamai Functions: neither swap nor counter, and writes that the nodes see
    /// only after a while; used through [`leeward::store::Timed`].
    Eventual,
    /// A broken store, to show that the oracle sees it: swaps always succeed.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the oracle's tests"))]
    Blind,
}

impl StoreKind {
    pub(crate) const REAL: [StoreKind; 5] = [
        StoreKind::Exact,
        StoreKind::Upsert,
        StoreKind::DeniesSuccess,
        StoreKind::LooseCounter,
        StoreKind::ContendedCounter,
    ];
}

/// How the origin speaks about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// `max-age`.
    MaxAge,
    /// `s-maxage`.
    SharedMaxAge,
    /// `max-age, must-revalidate`.
    MustRevalidate,
    /// `no-cache`.
    NoCache,
    /// Nothing: the operator's default.
    Silent,
    /// `no-store`.
    NoStore,
    /// `private`.
    Private,
    /// `max-age`, with `Set-Cookie` in each answer.
    SetCookie,
    /// `private` to visitors with a cookie, `max-age` to others.
    PrivateWithCookie,
    /// `private` at times, `max-age` at others.
    PrivateAtTimes,
}

/// Whether an answer depends on a part of the request, and says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dependence {
    #[default]
    No,
    /// It does, and nothing in the answer says so.
    Silently,
    /// It does, and `Vary` names the part.
    ByVary,
}

/// On which parts of the request a resource's content depends, whatever it says
/// about caching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depends {
    /// `Cookie`, but for analytics, and `Authorization`.
    pub(crate) credentials: Dependence,
    /// Fields that are in nobody's list, the scheme, and what some take for the
    /// host or the target.
    pub(crate) unknown: Dependence,
    /// The preferred media type.
    pub(crate) accept: Dependence,
    /// The content is compressed for those who accept it.
    pub(crate) coding: Dependence,
    /// `User-Agent`; never silently.
    pub(crate) agent: bool,
}

/// With which answers a resource sets a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SetsCookie {
    #[default]
    Never,
    /// With content.
    OnContent,
    /// With 304.
    OnConfirmation,
    Always,
}

/// What a resource answers with while nothing is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reply {
    #[default]
    Content,
    /// A redirect to another resource.
    Redirect,
    /// Content; but a target with a parameter that the operator has ignored is
    /// redirected to the one without.
    Canonical,
    /// Content to those with credentials; others get a cookie and are redirected to
    /// where they are.
    Handshake,
}

/// A resource of the origin's.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) speech: Speech,
    /// Seconds.
    pub(crate) max_age: u64,
    pub(crate) stale_while_revalidate: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
    /// Whether it has an `ETag`, and answers 304 to the current one.
    pub(crate) validator: bool,
    /// How long its content stays; zero: each answer is different.
    pub(crate) changes: Duration,
    /// Bytes.
    pub(crate) size: usize,
    /// How many parts the body comes in.
    pub(crate) parts: usize,
    /// Request fields that select the content.
    pub(crate) vary: &'static [&'static str],
    pub(crate) depends: Depends,
    pub(crate) sets_cookie: SetsCookie,
    pub(crate) reply: Reply,
    /// Whether it also says `public`, where it says how long it is fresh.
    pub(crate) public: bool,
    /// From then on `X-Device` selects too.
    pub(crate) widens: Option<Micros>,
    /// Least and most time to the head.
    pub(crate) latency: (Duration, Duration),
}

/// What a visitor asks.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    pub(crate) at: Micros,
    /// An index into [`Scenario::resources`].
    pub(crate) key: usize,
    /// Which node, modulo those that are up.
    pub(crate) node: usize,
    pub(crate) method: Method,
    pub(crate) language: Option<&'static str>,
    pub(crate) device: Option<&'static str>,
    pub(crate) brings: Brings,
    /// Sends the `ETag` of the last answer seen.
    pub(crate) conditional: bool,
    /// Leaves after so long, if not done.
    pub(crate) leaves: Option<Duration>,
    /// One of the visits that look whether all is well after the faults.
    pub(crate) tail: bool,
}

impl Visit {
    /// Whether its content comes slowly, and does not say how long it is: that of one in
    /// three.
    pub(crate) fn sends_slowly(&self) -> bool {
        let has_content = self.brings.content || matches!(self.method, Method::Post);
        has_content && !self.tail && self.at.is_multiple_of(3)
    }
}

/// What a visitor's request has besides a target and what selects variants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brings {
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) query: Option<&'static str>,
    /// A GET or HEAD with content, too.
    pub(crate) content: bool,
}

impl Brings {
    /// A request with nothing special.
    pub(crate) fn nothing() -> Self {
        Brings::default()
    }

    /// How many parts it has.
    pub(crate) fn size(&self) -> usize {
        self.fields.len() + usize::from(self.query.is_some()) + usize::from(self.content)
    }

    /// Leaves out a part, counted from zero; false where there is none.
    pub(crate) fn leave_out(&mut self, part: usize) -> bool {
        if part < self.fields.len() {
            self.fields.remove(part);
        } else if self.query.is_some() && part == self.fields.len() {
            self.query = None;
        } else if self.content && part + 1 == self.size() {
            self.content = false;
        } else {
            return false;
        }
        true
    }

    /// Whether it has a field, of whatever value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| *field == name)
    }

    /// Whether it has a field with this text in its value.
    pub(crate) fn says(&self, name: &str, text: &str) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|(field, value)| *field == name && value.contains(text))
    }
}

/// What the administrator has thrown out.
#[derive(Clone, Debug)]
pub(crate) struct PurgeCall {
    pub(crate) at: Micros,
    /// An index into [`Scenario::resources`].
    pub(crate) key: usize,
    /// Through which node, modulo those that are up.
    pub(crate) node: usize,
    pub(crate) how: Purge,
    pub(crate) breadth: Breadth,
}

/// What a purge reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breadth {
    /// The key, at once.
    Key,
    /// All keys that begin like it.
    Prefix,
    /// All answers with its tag.
    Tag,
    /// All keys.
    Everything,
}

impl PurgeCall {
    /// Whether a key is purged.
    pub(crate) fn concerns(&self, key: usize) -> bool {
        match self.breadth {
            Breadth::Key | Breadth::Tag => key == self.key,
            Breadth::Prefix => key.to_string().starts_with(&self.key.to_string()),
            Breadth::Everything => true,
        }
    }
}

/// The methods that visitors use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
}

/// Something that goes wrong for a while.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) from: Micros,
    pub(crate) to: Micros,
    pub(crate) kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum FaultKind {
    /// The node loses all tasks after this many more polls, and is back later.
    Crash { node: usize, polls: u32 },
    /// The node's tasks do not run.
    Stall { node: usize },
    /// One instance of the node ends, with all its tasks.
    Trap { node: usize },
    /// The node's clock is off by this many milliseconds.
    Jump { node: usize, millis: i64 },
    /// So many in a thousand of the nodes' store operations go wrong.
    Store {
        nodes: u32,
        how: StoreFault,
        operations: Operations,
        per_mille: u32,
    },
    /// The store loses all that it has.
    Emptied,
    /// Writes stay invisible for longer than the nodes were told.
    Late { most: Duration },
    /// The origin does badly for the keys.
    Origin { keys: u32, how: OriginFault },
}

/// Which store operations go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operations {
    /// The store writes, and does not read.
    Reads,
    /// The store reads, and does not write.
    Writes,
    Both,
}

/// How a store operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreFault {
    /// An error at once, not applied.
    Refuses,
    /// Never arrives, and nothing comes back.
    LosesRequest,
    /// Applied, and nothing comes back.
    LosesReply,
    /// Applied, and an error comes back.
    FailsAfter,
    /// An error comes back, and it is applied seconds later, as wasmCloud's host does once
    /// NATS is back.
    FailsAndApplies,
    /// The reply takes long.
    Slow,
}

/// How the origin does badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginFault {
    /// Refuses connections.
    Refuses,
    /// Ends the connection without an answer, one time in two.
    Closes,
    /// Never answers.
    Hangs,
    /// 5xx.
    Errors,
    /// 5xx one time in two.
    Flaps,
    /// Takes long, up to beyond the timeout.
    Slow,
    /// The body breaks off.
    Breaks,
    /// The body is shorter than announced.
    Short,
    /// The body hangs half way.
    HangsInBody,
    /// The body comes in small pieces with pauses, for longer than a fetch may take,
    /// with or without its length; at times it breaks off in the end.
    Trickles,
    /// 304 to whatever validator it is asked with, its own or not.
    Confirms,
    /// 401 to requests without `Authorization`, at times with a lifetime and for everyone.
    Unauthorized,
    /// 404.
    Missing,
    /// 403, at times with a lifetime and for everyone.
    Forbidden,
    /// 429 with `Retry-After` in seconds.
    TooMany,
    /// 503 with `Retry-After` as a date.
    Unavailable,
    /// A `private` redirect to an error page.
    Redirects,
    /// 400 to a field that it does not know, 403 or nothing at all to a `Referer`
    /// that it does not like, 406 to an `Accept` that names nothing it has.
    Particular,
}

/// What reaches the origin of a visitor's request though the shield has left it
/// out; to show that the oracle sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Smuggles {
    #[default]
    Nothing,
    /// All fields and the target: the question is the visitor's request.
    Request,
    /// The `Referer` that the origin may refuse, and nothing else: one visitor's
    /// fault becomes the fault of a question.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the oracle's tests"))]
    Referer,
}

/// What is wrong with what an instance sees and writes of the origin's record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Distortion {
    #[default]
    None,
    /// Each instance has a record of its own, and so the whole budget.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the oracle's tests"))]
    Apart,
    /// To the instances the breaker is never open, and never half open.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the oracle's tests"))]
    Careless,
    /// The breaker opens where the origin would be checked.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the oracle's tests"))]
    Unchecked,
    /// What is taken is held for an hour.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the oracle's tests"))]
    Hoards,
    /// No token of the hour is ever used.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the oracle's tests"))]
    Refunds,
    /// All slots seem to be taken.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the oracle's tests"))]
    Full,
}

/// The settings of the shield that differ from run to run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) strict: bool,
    pub(crate) lease: Duration,
    pub(crate) skew: Duration,
    pub(crate) budget: Duration,
    pub(crate) first_byte: Duration,
    pub(crate) soft: Duration,
    pub(crate) retry_first: Duration,
    pub(crate) retry_max: Duration,
    pub(crate) pass: Duration,
    /// Seconds.
    pub(crate) default_ttl: u64,
    pub(crate) stale_while_revalidate: u64,
    pub(crate) stale_if_error: u64,
    /// Bytes.
    pub(crate) inline: usize,
    /// Bytes.
    pub(crate) body: usize,
    /// Bytes.
    pub(crate) chunk: usize,
    pub(crate) grace: Duration,
    /// Of a key.
    pub(crate) variants: usize,
    /// The origin's budget.
    pub(crate) slots: u32,
    /// Of an instance without the store.
    pub(crate) local_slots: u32,
    /// Most requests to the origin in an hour; 0 for any number.
    pub(crate) per_hour: u32,
    /// Failures that open the breaker.
    pub(crate) failures: u32,
    /// How long it stays open first.
    pub(crate) open_for: Duration,
    /// And at most.
    pub(crate) open_max: Duration,
}

impl Settings {
    /// As an operator would write them.
    pub(crate) fn toml(&self) -> String {
        let ms = |duration: Duration| format!("\"{}ms\"", duration.as_millis());
        format!(
            "preset = \"{preset}\"\n\
             freshness.default_ttl = \"{default}s\"\n\
             freshness.stale_while_revalidate = \"{swr}s\"\n\
             freshness.stale_if_error = \"{sie}s\"\n\
             origin.connect_timeout = \"1s\"\n\
             origin.first_byte_timeout = {first_byte}\n\
             origin.between_bytes_timeout = {first_byte}\n\
             origin.fill_timeout = {fill}\n\
             origin.pass_timeout = {first_byte}\n\
             origin.soft_timeout = {soft}\n\
             origin.retry.first = {retry_first}\n\
             origin.retry.max = {retry_max}\n\
             origin.pass = {pass}\n\
             lease.duration = {lease}\n\
             lease.clock_skew = {skew}\n\
             wait.budget = {budget}\n\
             limits.inline = {inline}\n\
             limits.body = {body}\n\
             limits.chunk = {chunk}\n\
             limits.grace = {grace}\n\
             limits.variants = {variants}\n\
             origin.max_concurrency = {slots}\n\
             origin.local_concurrency = {local}\n\
             origin.max_per_hour = {per_hour}\n\
             origin.breaker.failures = {failures}\n\
             origin.breaker.open_for = {open_for}\n\
             origin.breaker.max_open_for = {open_max}\n",
            preset = if self.strict { "strict" } else { "uptime" },
            default = self.default_ttl,
            swr = self.stale_while_revalidate,
            sie = self.stale_if_error,
            first_byte = ms(self.first_byte),
            fill = ms(self.first_byte * 2),
            soft = ms(self.soft),
            retry_first = ms(self.retry_first),
            retry_max = ms(self.retry_max),
            pass = ms(self.pass),
            lease = ms(self.lease),
            skew = ms(self.skew),
            budget = ms(self.budget),
            inline = self.inline,
            body = self.body,
            chunk = self.chunk,
            grace = ms(self.grace),
            variants = self.variants,
            slots = self.slots,
            local = self.local_slots,
            per_hour = self.per_hour,
            failures = self.failures,
            open_for = ms(self.open_for),
            open_max = ms(self.open_max),
        )
    }
}

/// A whole run.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) store: StoreKind,
    pub(crate) settings: Settings,
    /// How long the nodes are told that a write takes to be visible; zero
    /// where it is at once.
    pub(crate) write_delay: Duration,
    /// How long a write takes at most to be visible, apart from
    /// [`FaultKind::Late`].
    pub(crate) visible_within: Duration,
    /// The longest value that the store takes, in bytes, if it has a limit.
    pub(crate) value_max: Option<usize>,
    /// The store does not say that it is the value that it refuses.
    pub(crate) refuses_without_a_word: bool,
    /// How far each node's clock is off, in milliseconds.
    pub(crate) offsets: Vec<i64>,
    pub(crate) resources: Vec<Resource>,
    pub(crate) visits: Vec<Visit>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) purges: Vec<PurgeCall>,
    /// The origin says of what is one visitor's alone that it may be shared;
    /// to show that the oracle sees it.
    pub(crate) careless: bool,
    /// The administrator is told that purges are done, and they are not; to show
    /// that the oracle sees it.
    pub(crate) forgetful: bool,
    /// The shield does not see visitors' credentials, and so shares their
    /// answers; to show that the oracle sees it.
    pub(crate) anonymous: bool,
    /// The shield sends each request without content to the origin twice; to show that the
    /// oracle sees it.
    pub(crate) repeats: bool,
    /// The shield counts requests, as on hosts that do not.
    pub(crate) counts: bool,
    /// To show that the oracle sees it.
    pub(crate) smuggles: Smuggles,
    /// What an instance sees and writes of the origin's record; to show that the oracle
    /// sees it.
    pub(crate) budget: Distortion,
    /// All faults are over.
    pub(crate) healed: Micros,
    pub(crate) end: Micros,
}

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    /// Everything at once.
    Chaos,
    /// Only the store fails: no visitor may notice.
    StoreOnly,
    /// Only the origin fails.
    OriginOnly,
    /// Only nodes fail.
    NodesOnly,
    /// Nothing fails.
    Calm,
    /// Clocks jump beyond what is configured.
    Clocks,
}

/// The longest `Retry-After` of the origin's. Shorter than the shield's cap.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

const LANGUAGES: [&str; 3] = ["en", "de", "fr"];
const DEVICES: [&str; 2] = ["phone", "desk"];

impl Scenario {
    /// The scenario of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut scenario = Scenario::plain(seed);
        crate::alphabet::enrich(&mut scenario);
        limited_stores(&mut scenario);
        late_writes(&mut scenario);
        crate::alphabet::make_scarce(&mut scenario);
        crate::alphabet::close_connections(&mut scenario);
        scenario
    }

    /// The scenario of a seed as it was before visitors brought more than a
    /// cookie; for seeds that are kept because they once broke a promise.
    pub(crate) fn plain(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rng = &mut rng;
        let theme = match rng.u32(..20) {
            0..=8 => Theme::Chaos,
            9..=12 => Theme::StoreOnly,
            13..=14 => Theme::OriginOnly,
            15..=17 => Theme::NodesOnly,
            18 => Theme::Calm,
            _ => Theme::Clocks,
        };
        let settings = settings(rng);
        let nodes = rng.usize(2..=4);
        let half_skew = i64::try_from(settings.skew.as_millis()).unwrap_or(0) / 2;
        let busy = Duration::from_secs(rng.u64(15..=30));
        let healed = micros(busy);
        let resources: Vec<Resource> = (0..rng.usize(1..=4))
            .map(|_| resource(rng, healed))
            .collect();
        let mut scenario = Scenario {
            seed,
            store: *rng.choice(&StoreKind::REAL).unwrap_or(&StoreKind::Exact),
            offsets: (0..nodes)
                .map(|_| rng.i64(-half_skew..=half_skew))
                .collect(),
            visits: Vec::new(),
            faults: faults(rng, theme, nodes, healed),
            purges: Vec::new(),
            careless: false,
            forgetful: false,
            anonymous: false,
            repeats: false,
            counts: false,
            smuggles: Smuggles::Nothing,
            budget: Distortion::None,
            healed,
            end: 0,
            write_delay: Duration::ZERO,
            visible_within: Duration::ZERO,
            value_max: None,
            refuses_without_a_word: false,
            settings,
            resources,
        };
        scenario.visits = visits(rng, &scenario);
        scenario.faults.extend(confirms(seed, theme, healed));
        scenario.settings.variants = variants(seed);
        budget(seed, &mut scenario.settings);
        scenario.purges = purges(seed, scenario.resources.len(), healed);
        eventual(&mut scenario);
        let settled = healed + micros(scenario.recovery());
        scenario.end = settled + micros(Duration::from_secs(5));
        for key in 0..scenario.resources.len() {
            let mut at = healed + rng.u64(..700_000);
            while at < scenario.end {
                let mut visit = visit(rng, &scenario, at, key);
                visit.method = Method::Get;
                visit.leaves = None;
                visit.conditional = false;
                visit.brings = Brings::nothing();
                // Always the same variant, which then is in use.
                visit.language = Some("en");
                visit.device = None;
                visit.tail = true;
                scenario.visits.push(visit);
                at += 700_000;
            }
        }
        // The last answers have to be in before the end.
        scenario.end += micros(scenario.patience()) + 1;
        scenario
    }

    /// Whether what the run is about leaves the origin a chance to fail: it has
    /// failed already, or nothing else has.
    pub(crate) fn origin_may_fail(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.all(|fault| !matches!(fault.kind, FaultKind::Store { .. }))
            || self.has_origin_faults()
    }

    fn has_origin_faults(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|fault| matches!(fault.kind, FaultKind::Origin { .. }))
    }

    /// Whether the origin is told to say `Retry-After`.
    pub(crate) fn has_retry_after(&self) -> bool {
        self.faults.iter().any(|fault| {
            matches!(
                fault.kind,
                FaultKind::Origin {
                    how: OriginFault::TooMany | OriginFault::Unavailable,
                    ..
                }
            )
        })
    }

    /// The longest `Retry-After` that the origin says.
    pub(crate) fn retry_after_max(&self) -> Duration {
        match self.has_retry_after() {
            true => RETRY_AFTER_MAX,
            false => Duration::ZERO,
        }
    }

    /// How long after the last fault all has to be as if there had been none.
    pub(crate) fn recovery(&self) -> Duration {
        let settings = &self.settings;
        settings.first_byte * 2
            + settings.retry_max
            + settings.pass
            + settings.lease * 3
            + settings.skew * 2
            + Duration::from_secs(7)
            + self.write_delay * 10
            + self.late().unwrap_or_default()
            // Spread at random, and never shorter than said.
            + self.retry_after_max() * 2
            // Before the probe, and for the target of the last one a second more.
            + settings.open_max * 2
            + Duration::from_secs(2)
    }

    /// The longest that a write stays invisible while it is later than it may
    /// be; none where it never is.
    pub(crate) fn late(&self) -> Option<Duration> {
        let faults = self.faults.iter();
        let late = faults.filter_map(|fault| match fault.kind {
            FaultKind::Late { most } => Some(most),
            _ => None,
        });
        late.max()
    }

    /// Whether writes that failed are carried out later.
    pub(crate) fn has_late_writes(&self) -> bool {
        self.faults.iter().any(|fault| {
            matches!(
                fault.kind,
                FaultKind::Store {
                    how: StoreFault::FailsAndApplies,
                    ..
                }
            )
        })
    }

    /// Longest time to an answer, apart from stalls and jumps.
    pub(crate) fn patience(&self) -> Duration {
        let store = match self.has_store_faults() {
            true => Duration::from_secs(20),
            false => Duration::from_secs(3),
        };
        self.settings.budget + self.settings.first_byte * 2 + store + self.write_delay * 20
    }

    /// Whether answers have tags.
    pub(crate) fn has_tags(&self) -> bool {
        self.purges
            .iter()
            .any(|purge| purge.breadth == Breadth::Tag)
    }

    /// Whether the store loses all that it has: leases and purges too.
    pub(crate) fn is_emptied(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|fault| matches!(fault.kind, FaultKind::Emptied))
    }

    pub(crate) fn has_store_faults(&self) -> bool {
        self.faults
            .iter()
            .any(|fault| matches!(fault.kind, FaultKind::Store { .. }))
    }

    /// Whether clocks differ by more than the shield was told.
    pub(crate) fn has_jumps(&self) -> bool {
        self.faults
            .iter()
            .any(|fault| matches!(fault.kind, FaultKind::Jump { .. }))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} nodes (clocks off by {:?} ms), store {:?}, {} visits, {} keys",
            self.seed,
            self.offsets.len(),
            self.offsets,
            self.store,
            self.visits.len(),
            self.resources.len()
        )?;
        writeln!(f, "{:?}", self.settings)?;
        for (key, resource) in self.resources.iter().enumerate() {
            writeln!(f, "key {key}: {resource:?}")?;
        }
        for fault in &self.faults {
            writeln!(
                f,
                "fault {:.3}s to {:.3}s: {:?}",
                seconds(fault.from),
                seconds(fault.to),
                fault.kind
            )?;
        }
        for purge in &self.purges {
            writeln!(f, "purge {:.3}s: {purge:?}", seconds(purge.at))?;
        }
        Ok(())
    }
}

/// Microseconds as seconds, for people.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub(crate) fn seconds(at: Micros) -> f64 {
    at as f64 / 1e6
}

/// Chosen so that what is drawn with it leaves all seeds as they were that are
/// kept because they once broke a promise.
const APART: u64 = 0x1002;

/// The same, for purges.
const PURGES_APART: u64 = 0x301a;

/// The same, for what they reach.
const BREADTHS_APART: u64 = 0x7a65;

/// One scenario in this number has purges.
const PURGES_ONE_IN: u32 = 3;

/// The same, for `limits.variants`.
const VARIANTS_APART: u64 = 0x95;

/// One scenario in this number has fewer variants of a key than visitors ask for.
const VARIANTS_ONE_IN: u32 = 8;

/// More variants than visitors ask for.
pub(crate) const VARIANTS_ENOUGH: usize = 200;

/// How many variants of a key are kept. Drawn apart from all else.
fn variants(seed: u64) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed ^ VARIANTS_APART);
    match rng.u32(..VARIANTS_ONE_IN) {
        0 => rng.usize(1..=3),
        _ => VARIANTS_ENOUGH,
    }
}

/// The same, for the origin's budget.
const BUDGET_APART: u64 = 0x0b5d_6e71;

/// How many requests the origin may have at once, and when it is left alone. Drawn
/// apart from all else.
fn budget(seed: u64, settings: &mut Settings) {
    let mut rng = fastrand::Rng::with_seed(seed ^ BUDGET_APART);
    let millis = Duration::from_millis;
    settings.slots = *rng.choice(&[4, 4, 5, 6, 8, 16]).unwrap_or(&16);
    settings.local_slots = rng.u32(1..=3);
    settings.failures = rng.u32(2..=6);
    settings.open_for = millis(rng.u64(300..=2_000));
    settings.open_max = millis(rng.u64(2_000..=5_000));
}

/// What the administrator purges, in some scenarios. Drawn apart from all else.
fn purges(seed: u64, keys: usize, healed: Micros) -> Vec<PurgeCall> {
    let mut rng = fastrand::Rng::with_seed(seed ^ PURGES_APART);
    if rng.u32(..PURGES_ONE_IN) != 0 {
        return Vec::new();
    }
    let mut breadths = fastrand::Rng::with_seed(seed ^ BREADTHS_APART);
    (0..rng.usize(1..=8))
        .map(|_| PurgeCall {
            at: rng.u64(..healed),
            key: rng.usize(..keys),
            node: rng.usize(..64),
            how: [Purge::Soft, Purge::Invalidate, Purge::Hard][rng.usize(..3)],
            breadth: match breadths.u32(..6) {
                0..=2 => Breadth::Key,
                3 => Breadth::Prefix,
                4 => Breadth::Tag,
                _ => Breadth::Everything,
            },
        })
        .collect()
}

/// An origin that confirms validators which are not its own, in some scenarios.
/// Drawn apart from all else: a scenario without it stays what it was.
fn confirms(seed: u64, theme: Theme, healed: Micros) -> Option<Fault> {
    let mut rng = fastrand::Rng::with_seed(seed ^ APART);
    let fits = matches!(theme, Theme::Chaos | Theme::OriginOnly);
    (fits && rng.u32(..6) == 0).then(|| {
        let from = rng.u64(..healed);
        Fault {
            from,
            to: from
                .saturating_add(rng.u64(1_000_000..10_000_000))
                .min(healed),
            kind: FaultKind::Origin {
                keys: u32::MAX,
                how: OriginFault::Confirms,
            },
        }
    })
}

/// The same, for stores that lose all.
const LIMITED_APART: u64 = 0x5105;

/// The same, for stores that refuse long values.
const REFUSES_APART: u64 = 0x1a26_e000;

/// One scenario in this number has a store that refuses values of more bytes than one of
/// these: entries in the cell, or most of them. The origin's record is shorter.
const REFUSES_ONE_IN: u32 = 8;
const VALUE_MAX: [usize; 3] = [1_800, 2_500, 3_200];

/// One scenario in this number has a store that loses all that it has.
const EMPTIED_ONE_IN: u32 = 8;

/// Gives some scenarios a store that is emptied while it is in use. Drawn apart from all
/// else.
fn limited_stores(scenario: &mut Scenario) {
    let mut rng = fastrand::Rng::with_seed(scenario.seed ^ LIMITED_APART);
    if rng.u32(..EMPTIED_ONE_IN) == 0 && scenario.store != StoreKind::Eventual {
        for _ in 0..rng.usize(1..=2) {
            let from = rng.u64(..scenario.healed);
            scenario.faults.push(Fault {
                from,
                to: from,
                kind: FaultKind::Emptied,
            });
        }
    }
    let mut rng = fastrand::Rng::with_seed(scenario.seed ^ REFUSES_APART);
    if rng.u32(..REFUSES_ONE_IN) == 0 && scenario.store != StoreKind::Eventual {
        scenario.value_max = rng.choice(VALUE_MAX);
    }
}

/// The same, for stores that carry out later what failed.
const CARRIED_OUT_APART: u64 = 0xca55_1ed0;

/// One scenario in this number has such a store.
const CARRIED_OUT_ONE_IN: u32 = 16;

/// Makes the failed writes of some scenarios come true seconds later.
fn late_writes(scenario: &mut Scenario) {
    let mut rng = fastrand::Rng::with_seed(scenario.seed ^ CARRIED_OUT_APART);
    if rng.u32(..CARRIED_OUT_ONE_IN) != 0 || scenario.store == StoreKind::Eventual {
        return;
    }
    for fault in &mut scenario.faults {
        if let FaultKind::Store { how, .. } = &mut fault.kind
            && *how == StoreFault::FailsAfter
        {
            *how = StoreFault::FailsAndApplies;
        }
    }
}

/// The same, for stores that show writes late.
const EVENTUAL_APART: u64 = 0x4000;

/// One scenario in this number has such a store, and of those one in this number shows
/// writes later than it may.
const EVENTUAL_ONE_IN: u32 = 8;
const LATE_ONE_IN: u32 = 3;

/// Gives some scenarios a store that shows writes late, and settings that fit
/// it. Drawn apart from all else.
fn eventual(scenario: &mut Scenario) {
    let mut rng = fastrand::Rng::with_seed(scenario.seed ^ EVENTUAL_APART);
    if rng.u32(..EVENTUAL_ONE_IN) != 0 {
        return;
    }
    let millis = Duration::from_millis;
    let delay = millis(*rng.choice(&[60, 150, 300]).unwrap_or(&150));
    let lease = Duration::from_secs(5);
    scenario.store = StoreKind::Eventual;
    scenario.write_delay = delay;
    scenario.visible_within = delay;
    let settings = &mut scenario.settings;
    settings.lease = lease;
    settings.grace = lease;
    // The clocks' part, and the write delay's.
    settings.skew += delay;
    settings.budget = settings.budget.max(lease * 2);
    if rng.u32(..LATE_ONE_IN) == 0 {
        let from = rng.u64(..scenario.healed);
        scenario.faults.push(Fault {
            from,
            to: from
                .saturating_add(rng.u64(3_000_000..15_000_000))
                .min(scenario.healed),
            kind: FaultKind::Late {
                most: delay * rng.u32(3..30),
            },
        });
    }
}

fn settings(rng: &mut fastrand::Rng) -> Settings {
    let millis = Duration::from_millis;
    let lease = *rng.choice(&[1_000, 2_000, 5_000]).unwrap_or(&2_000);
    let skew = *rng.choice(&[0, 100, lease / 4]).unwrap_or(&0);
    Settings {
        strict: rng.u32(..4) == 0,
        lease: millis(lease),
        skew: millis(skew.min(500)),
        // Long enough for two leases, as the default is, and for two fetches:
        // what must be validated for each visitor may need to wait for both.
        budget: millis(rng.u64(6_000.max(lease * 2)..=14_000)),
        first_byte: millis(rng.u64(2_000..=6_000)),
        soft: millis(*rng.choice(&[0, 200, 500]).unwrap_or(&500)),
        retry_first: millis(*rng.choice(&[100, 500, 1_000]).unwrap_or(&500)),
        retry_max: millis(rng.u64(1_000..=4_000)),
        pass: millis(*rng.choice(&[0, 1_000, 3_000]).unwrap_or(&1_000)),
        default_ttl: rng.u64(0..=3),
        stale_while_revalidate: *rng.choice(&[0, 1, 5, 3_600]).unwrap_or(&5),
        stale_if_error: *rng.choice(&[0, 2, 10, 86_400]).unwrap_or(&10),
        inline: 2_048,
        body: 12_000,
        chunk: 1_024,
        grace: millis(lease),
        variants: VARIANTS_ENOUGH,
        slots: 16,
        local_slots: 2,
        per_hour: 0,
        failures: 5,
        open_for: millis(5_000),
        open_max: millis(10_000),
    }
}

/// A body in chunks, in bytes, and one that is not stored.
const LONG: usize = 5_000;
const TOO_LONG: usize = 20_000;

fn resource(rng: &mut fastrand::Rng, healed: Micros) -> Resource {
    let speech = match rng.u32(..24) {
        0..=9 => Speech::MaxAge,
        10..=11 => Speech::SharedMaxAge,
        12 => Speech::MustRevalidate,
        13..=14 => Speech::NoCache,
        15..=16 => Speech::Silent,
        17 => Speech::NoStore,
        18 => Speech::Private,
        19 => Speech::SetCookie,
        20..=21 => Speech::PrivateWithCookie,
        _ => Speech::PrivateAtTimes,
    };
    let window = |rng: &mut fastrand::Rng| [None, None, Some(0), Some(1), Some(4)][rng.usize(..5)];
    let vary: &[&str] = match rng.u32(..8) {
        0..=4 => &[],
        5..=6 => &["accept-language"],
        _ => &["accept-language", "x-device"],
    };
    let slowest = *rng.choice(&[20, 300, 1_500]).unwrap_or(&300);
    let mut resource = Resource {
        speech,
        max_age: rng.u64(0..=4),
        stale_while_revalidate: window(rng),
        stale_if_error: window(rng),
        validator: rng.bool(),
        changes: Duration::from_millis(*rng.choice(&[0, 2_000, 20_000]).unwrap_or(&0)),
        size: match rng.u32(..12) {
            0 => 0,
            1 => LONG,
            _ => rng.usize(1..1_500),
        },
        parts: rng.usize(1..=3),
        vary,
        depends: Depends::default(),
        sets_cookie: SetsCookie::Never,
        reply: Reply::Content,
        public: false,
        widens: (!vary.is_empty() && rng.u32(..3) == 0).then(|| rng.u64(..healed)),
        latency: (Duration::from_millis(5), Duration::from_millis(slowest)),
    };
    // Some long ones are too long to be stored.
    if resource.size == LONG && resource.parts == 3 {
        resource.size = TOO_LONG;
    }
    resource
}

fn visits(rng: &mut fastrand::Rng, scenario: &Scenario) -> Vec<Visit> {
    let mut visits = Vec::new();
    let count = rng.usize(40..=160);
    while visits.len() < count {
        let at = rng.u64(..scenario.healed);
        let key = rng.usize(..scenario.resources.len());
        // Visitors come alone, or all at once.
        let crowd = if rng.u32(..6) == 0 {
            rng.usize(2..=12)
        } else {
            1
        };
        for _ in 0..crowd {
            let at = at + rng.u64(..30_000);
            visits.push(visit(rng, scenario, at, key));
        }
    }
    visits
}

fn visit(rng: &mut fastrand::Rng, scenario: &Scenario, at: Micros, key: usize) -> Visit {
    let resource = scenario.resources.get(key);
    let silent = resource.is_some_and(|resource| resource.speech == Speech::Silent);
    let node = rng.usize(..64);
    let method = match rng.u32(..40) {
        0 => Method::Post,
        1..=2 => Method::Head,
        _ => Method::Get,
    };
    let language = (rng.u32(..4) > 0).then(|| LANGUAGES[rng.usize(..3)]);
    let device = (rng.u32(..4) > 0).then(|| DEVICES[rng.usize(..2)]);
    // As [`Scenario::plain`] has always drawn it; what visitors bring besides is
    // drawn apart, and to silent resources too.
    let mut brings = Brings::nothing();
    if !silent && rng.u32(..5) == 0 {
        brings.fields.push(("cookie", "session=1".to_owned()));
    }
    if !silent && rng.u32(..20) == 0 {
        brings
            .fields
            .push(("authorization", "Basic eA==".to_owned()));
    }
    Visit {
        at,
        key,
        node,
        method,
        language,
        device,
        brings,
        conditional: rng.u32(..10) == 0,
        leaves: (rng.u32(..6) == 0).then(|| Duration::from_micros(rng.u64(..2_000_000))),
        tail: false,
    }
}

fn faults(rng: &mut fastrand::Rng, theme: Theme, nodes: usize, healed: Micros) -> Vec<Fault> {
    let kinds: &[u32] = match theme {
        Theme::Calm => return Vec::new(),
        Theme::Chaos => &[0, 0, 0, 1, 1, 1, 2, 3, 4],
        Theme::StoreOnly => &[0],
        Theme::OriginOnly => &[1],
        Theme::NodesOnly => &[2, 2, 3, 4],
        Theme::Clocks => &[5, 5, 1],
    };
    (0..rng.usize(1..=6))
        .map(|_| {
            let from = rng.u64(..healed);
            let most = match rng.u32(..3) {
                0 => 500_000,
                1 => 3_000_000,
                _ => 10_000_000,
            };
            let node = rng.usize(..nodes);
            let kind = match *rng.choice(kinds).unwrap_or(&0) {
                0 => FaultKind::Store {
                    nodes: rng.u32(1..1 << nodes),
                    how: [
                        StoreFault::Refuses,
                        StoreFault::LosesRequest,
                        StoreFault::LosesReply,
                        StoreFault::FailsAfter,
                        StoreFault::Slow,
                    ][rng.usize(..5)],
                    operations: Operations::Both,
                    per_mille: [50, 300, 1_000][rng.usize(..3)],
                },
                1 => FaultKind::Origin {
                    keys: rng.u32(1..16),
                    how: [
                        OriginFault::Refuses,
                        OriginFault::Hangs,
                        OriginFault::Errors,
                        OriginFault::Flaps,
                        OriginFault::Slow,
                        OriginFault::Breaks,
                        OriginFault::Short,
                        OriginFault::HangsInBody,
                    ][rng.usize(..8)],
                },
                2 => FaultKind::Crash {
                    node,
                    polls: rng.u32(..60),
                },
                3 => FaultKind::Stall { node },
                4 => FaultKind::Trap { node },
                _ => FaultKind::Jump {
                    node,
                    millis: rng.i64(-20_000..=20_000),
                },
            };
            Fault {
                from,
                to: from.saturating_add(rng.u64(1_000..most)).min(healed),
                kind,
            }
        })
        .collect()
}
