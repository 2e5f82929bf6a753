//! What is counted, for Prometheus. Every label has a closed set of values: nothing that a
//! visitor sends becomes one.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use leeward::shield::refusals::{CAUSES, Cause};
use leeward::world::RequestReason;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result, TextEncoder,
};

use super::origin::OriginOutcome;
use super::store::{Kind, Result as StoreResult};
use leeward::shield::outcome::Outcome;

/// The media type of what [`Metrics::text`] returns.
pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the times of answers, in seconds.
const ANSWER_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Upper bounds of the times of store operations, in seconds.
const STORE_BUCKETS: &[f64] = &[
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0,
];

/// The label of a request to the origin of which the component does not say why it is sent:
/// one of another version.
const NO_REASON: &str = "unknown";

/// The values of the label `reason`.
const REASONS: [&str; 6] = [
    RequestReason::Fill.token(),
    RequestReason::Refresh.token(),
    RequestReason::Pass.token(),
    RequestReason::Unsafe.token(),
    RequestReason::Check.token(),
    NO_REASON,
];

/// The counters of a node.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    /// By outcome.
    requests: Vec<IntCounter>,
    seconds: Vec<Histogram>,
    /// By cause.
    refused: Vec<IntCounter>,
    waiting: IntGauge,
    /// By reason, then by outcome.
    origin: Vec<Vec<IntCounter>>,
    origin_seconds: Histogram,
    origin_in_flight: IntGauge,
    /// Most that were in flight since the last look.
    origin_most: AtomicI64,
    /// By kind, then by result.
    store: Vec<Vec<IntCounter>>,
    store_seconds: Vec<Histogram>,
    access_log_lost: IntCounter,
}

/// What has been counted until now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// By outcome.
    pub(super) requests: Vec<u64>,
    pub(super) origin: u64,
    pub(super) origin_failed: u64,
    pub(super) refused: u64,
    pub(super) store_errors: u64,
}

impl Metrics {
    /// # Errors
    ///
    /// If two of them have the same name.
    pub(super) fn new() -> Result<Self> {
        let made = Maker(Registry::new());
        let outcomes = Outcome::ALL.map(Outcome::name);
        let causes: Vec<&str> = CAUSES.iter().map(|cause| cause.why).collect();
        let kinds = Kind::ALL.map(Kind::name);
        let metrics = Metrics {
            requests: made.counters(
                "leeward_requests_total",
                "Requests of visitors, by what became of them.",
                "outcome",
                &outcomes,
            )?,
            seconds: made.histograms(
                "leeward_request_seconds",
                "Time from the head of a visitor's request to the head of the answer.",
                ("outcome", &outcomes),
                ANSWER_BUCKETS,
            )?,
            refused: made.counters(
                "leeward_refused_total",
                "Visitors that got an error of the shield's own, by cause.",
                "why",
                &causes,
            )?,
            waiting: made.gauge(
                "leeward_waiting",
                "Requests of visitors that have no head of an answer yet.",
            )?,
            origin: made.table(
                "leeward_origin_requests_total",
                "Requests to the origin, by why they were sent and by what became of them.",
                ("reason", &REASONS),
                ("outcome", &OriginOutcome::ALL.map(OriginOutcome::name)),
            )?,
            origin_seconds: made.histogram(
                "leeward_origin_seconds",
                "Time from a request to the origin to the head of its answer, or to its failure.",
            )?,
            origin_in_flight: made.gauge(
                "leeward_origin_in_flight",
                "Requests at the origin: sent, and the answer has not ended.",
            )?,
            origin_most: AtomicI64::new(0),
            store: made.table(
                "leeward_store_operations_total",
                "Operations of the store, by kind and by what became of them.",
                ("kind", &kinds),
                ("outcome", &StoreResult::ALL.map(StoreResult::name)),
            )?,
            store_seconds: made.histograms(
                "leeward_store_seconds",
                "Time of operations of the store.",
                ("kind", &kinds),
                STORE_BUCKETS,
            )?,
            access_log_lost: made.counter(
                "leeward_access_log_lost_total",
                "Lines of the access log that could not be written.",
            )?,
            registry: made.0,
        };
        let labels = &[("version", env!("CARGO_PKG_VERSION"))];
        let info = IntGaugeVec::new(
            Opts::new("leeward_build_info", "Always 1; its label has the version."),
            &labels.map(|(name, _)| name),
        )?;
        info.with_label_values(&labels.map(|(_, value)| value))
            .set(1);
        metrics.registry.register(Box::new(info))?;
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        Ok(metrics)
    }

    /// A visitor's request was answered, or given up, after this time.
    pub(super) fn answered(&self, outcome: Outcome, after: Duration) {
        self.waiting.dec();
        add(&self.requests, outcome as usize);
        observe(&self.seconds, outcome as usize, after);
    }

    /// A visitor's request has come.
    pub(super) fn asked(&self) {
        self.waiting.inc();
    }

    /// A visitor was refused.
    pub(super) fn refused(&self, cause: &Cause) {
        let at = CAUSES.iter().position(|other| other.why == cause.why);
        add(&self.refused, at.unwrap_or(usize::MAX));
    }

    /// A request is sent to the origin.
    pub(super) fn sent(&self) {
        self.origin_in_flight.inc();
        let now = self.origin_in_flight.get();
        self.origin_most.fetch_max(now, Ordering::Relaxed);
    }

    /// The head of the origin's answer has come, or none will.
    pub(super) fn origin_answered(
        &self,
        reason: Option<RequestReason>,
        outcome: OriginOutcome,
        after: Duration,
    ) {
        let reason = reason.map_or(NO_REASON, RequestReason::token);
        let at = REASONS.iter().position(|known| *known == reason);
        if let Some(outcomes) = at.and_then(|at| self.origin.get(at)) {
            add(outcomes, outcome as usize);
        }
        self.origin_seconds.observe(after.as_secs_f64());
    }

    /// A request to the origin has ended, with its answer.
    pub(super) fn origin_ended(&self) {
        self.origin_in_flight.dec();
    }

    /// An operation of the store has ended.
    pub(super) fn stored(&self, kind: Kind, result: StoreResult, after: Duration) {
        if let Some(kind) = self.store.get(kind as usize) {
            add(kind, result as usize);
        }
        observe(&self.store_seconds, kind as usize, after);
    }

    /// Lines of the access log were lost.
    pub(super) fn access_lost(&self, lines: u64) {
        self.access_log_lost.inc_by(lines);
    }

    /// The most requests at the origin since the last call.
    pub(super) fn take_most(&self) -> i64 {
        let now = self.origin_in_flight.get();
        self.origin_most.swap(now, Ordering::Relaxed).max(now)
    }

    /// What has been counted.
    pub(super) fn counts(&self) -> Counts {
        let all = |counters: &[IntCounter]| counters.iter().map(IntCounter::get).sum();
        let failed = self.origin.iter();
        let failed = failed.flat_map(|outcomes| OriginOutcome::ALL.into_iter().zip(outcomes));
        let failed = failed.filter(|(outcome, _)| outcome.is_failure());
        let errors = self.store.iter();
        let errors = errors.filter_map(|kind| kind.get(StoreResult::Error as usize));
        Counts {
            requests: self.requests.iter().map(IntCounter::get).collect(),
            origin: self.origin.iter().map(|outcomes| all(outcomes)).sum(),
            origin_failed: failed.map(|(_, counter)| counter.get()).sum(),
            refused: all(&self.refused),
            store_errors: errors.map(IntCounter::get).sum(),
        }
    }

    /// All of it in the text format 0.0.4.
    pub(super) fn text(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory does not fail, and families have names.
        drop(TextEncoder::new().encode(&self.registry.gather(), &mut text));
        String::from_utf8(text).unwrap_or_default()
    }
}

fn add(counters: &[IntCounter], at: usize) {
    if let Some(counter) = counters.get(at) {
        counter.inc();
    }
}

fn observe(histograms: &[Histogram], at: usize, after: Duration) {
    if let Some(histogram) = histograms.get(at) {
        histogram.observe(after.as_secs_f64());
    }
}

/// Makes metrics, and has the registry know them. All their labels are there from the
/// beginning, so that a rate is right from the first one on.
struct Maker(Registry);

impl Maker {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        let counter = IntCounter::new(name, help)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<Vec<IntCounter>> {
        let all = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.0.register(Box::new(all.clone()))?;
        let each = values.iter();
        Ok(each.map(|value| all.with_label_values(&[*value])).collect())
    }

    /// Counters with two labels, by the values of the first and then of the second.
    fn table(
        &self,
        name: &str,
        help: &str,
        (row, rows): (&str, &[&str]),
        (column, columns): (&str, &[&str]),
    ) -> Result<Vec<Vec<IntCounter>>> {
        let all = IntCounterVec::new(Opts::new(name, help), &[row, column])?;
        self.0.register(Box::new(all.clone()))?;
        let of_row = |row: &&str| {
            let columns = columns.iter();
            columns
                .map(|column| all.with_label_values(&[*row, *column]))
                .collect()
        };
        Ok(rows.iter().map(of_row).collect())
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        let gauge = IntGauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Histogram> {
        let opts = HistogramOpts::new(name, help).buckets(ANSWER_BUCKETS.to_vec());
        let histogram = Histogram::with_opts(opts)?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        (label, values): (&str, &[&str]),
        buckets: &[f64],
    ) -> Result<Vec<Histogram>> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let all = HistogramVec::new(opts, &[label])?;
        self.0.register(Box::new(all.clone()))?;
        let each = values.iter();
        Ok(each.map(|value| all.with_label_values(&[*value])).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use leeward::shield::refusals::cause_of;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_happens_is_counted_once_under_its_label() {
        let metrics = Metrics::new().unwrap();
        for outcome in [Outcome::Hit, Outcome::Hit, Outcome::Refused] {
            metrics.asked();
            metrics.answered(outcome, SECOND);
        }
        metrics.asked();
        metrics.refused(cause_of("breaker-open").unwrap());
        metrics.sent();
        metrics.sent();
        let refresh = Some(RequestReason::Refresh);
        metrics.origin_answered(refresh, OriginOutcome::Unreachable, SECOND);
        metrics.origin_ended();
        metrics.stored(Kind::Swap, StoreResult::Conflict, SECOND);
        metrics.stored(Kind::Get, StoreResult::Error, SECOND);
        let text = metrics.text();
        for line in [
            "leeward_requests_total{outcome=\"hit\"} 2",
            "leeward_requests_total{outcome=\"refused\"} 1",
            "leeward_requests_total{outcome=\"miss\"} 0",
            "leeward_request_seconds_bucket{outcome=\"hit\",le=\"0.5\"} 0",
            "leeward_request_seconds_bucket{outcome=\"hit\",le=\"1\"} 2",
            "leeward_request_seconds_sum{outcome=\"hit\"} 2",
            "leeward_refused_total{why=\"breaker-open\"} 1",
            "leeward_waiting 1",
            "leeward_origin_requests_total{outcome=\"unreachable\",reason=\"refresh\"} 1",
            "leeward_origin_in_flight 1",
            "leeward_store_operations_total{kind=\"swap\",outcome=\"conflict\"} 1",
            "leeward_store_operations_total{kind=\"get\",outcome=\"error\"} 1",
            "leeward_store_seconds_count{kind=\"get\"} 1",
            concat!(
                "leeward_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let counts = metrics.counts();
        assert_eq!(counts.requests.iter().sum::<u64>(), 3);
        assert_eq!((counts.origin, counts.origin_failed), (1, 1));
        assert_eq!((counts.refused, counts.store_errors), (1, 1));
        assert_eq!((metrics.take_most(), metrics.take_most()), (2, 1));
    }

    /// The component's own families are appended to: no name may be in both.
    #[test]
    fn the_text_can_follow_that_of_the_component() {
        let text = Metrics::new().unwrap().text();
        assert!(!text.contains("# EOF") && text.ends_with('\n'));
        for name in [
            "leeward_breaker_open",
            "leeward_origin_budget",
            "leeward_origin_slots_in_use",
            "leeward_store_up",
            "leeward_entries",
            "leeward_store_bytes",
            "leeward_keys_limit",
            "leeward_purges_total",
            "leeward_settings_info",
        ] {
            assert!(!text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
