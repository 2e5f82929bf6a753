//! What goes on, as this instance knows it and as the store tells it.

use super::Front;
use super::answer::json;
use crate::budget::{Class, Phase, Record};
use crate::cells::Counting;
use crate::counts::Shard;
use crate::semantics::Preset;
use crate::shield::Answer;
use crate::store::Store;
use crate::time::Time;
use crate::world::Platform;
use http::StatusCode;
use serde_json::{Map, Value, json};

/// Most instances that are listed.
const INSTANCES_MAX: usize = 64;

/// The version of the shield.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What there is to say of the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OriginState {
    /// `closed`, `half-open` or `open`.
    pub(super) breaker: &'static str,
    /// Until when nothing goes out.
    pub(super) open_until: Option<Time>,
    /// Requests in flight by kind, in the order of [`Class::COUNTED`].
    pub(super) in_use: [u32; 4],
    /// Open answers that do not end.
    pub(super) streams: u32,
    /// Instances that hold slots.
    pub(super) holders: usize,
    /// Kinds of which requests wait for a slot.
    pub(super) waiting: [bool; 4],
    /// Answers of the last ten seconds, good and bad.
    pub(super) answers: [u32; 2],
}

impl OriginState {
    /// What a record says.
    pub(super) fn of(record: &Record) -> Self {
        let (breaker, open_until) = match record.breaker.phase {
            Phase::Closed => ("closed", None),
            Phase::HalfOpen { .. } => ("half-open", None),
            Phase::Open { until } => ("open", Some(until)),
        };
        OriginState {
            breaker,
            open_until,
            in_use: Class::COUNTED.map(|class| record.held(class)),
            streams: record.held(Class::Stream),
            holders: record.holders.len(),
            waiting: Class::COUNTED.map(|class| record.waiting.of(class).is_some()),
            answers: [record.breaker.window.good, record.breaker.window.bad],
        }
    }

    fn to_json(self, slots: u32, now: Time) -> Value {
        let kinds: Map<String, Value> = Class::COUNTED
            .iter()
            .zip(self.in_use)
            .map(|(class, count)| (class.token().to_owned(), count.into()))
            .collect();
        let waiting: Vec<&str> = Class::COUNTED
            .iter()
            .zip(self.waiting)
            .filter_map(|(class, waits)| waits.then_some(class.token()))
            .collect();
        let in_use = self
            .in_use
            .iter()
            .fold(0_u32, |sum, count| sum.saturating_add(*count));
        let [good, bad] = self.answers;
        let pause = self
            .open_until
            .map(|until| crate::time::millis(until.since(now)));
        json!({
            "breaker": { "state": self.breaker, "open_for_ms": pause },
            "budget": {
                "slots": slots,
                "held": in_use,
                "held_by_kind": kinds,
                "streams": self.streams,
                "holders": self.holders,
                "waiting": waiting,
            },
            "answers_lately": { "good": good, "failed": bad },
        })
    }
}

/// Who holds slots, and until when unless they are renewed; at most [`INSTANCES_MAX`].
fn by_instance(record: &Record, now: Time) -> Vec<Value> {
    let holders = record.holders.iter().take(INSTANCES_MAX);
    let told = holders.map(|holder| {
        json!({
            "instance": holder.id.to_string(),
            "slots": holder.slots.counted(),
            "streams": holder.slots.of(Class::Stream),
            "ends_in_ms": crate::time::millis(holder.deadline.since(now)),
        })
    });
    told.collect()
}

impl<P: Platform> Front<P> {
    /// Whether this node can answer: it does. Says what of the origin and of the store is
    /// known, and asks neither.
    pub(super) async fn health(&self) -> Answer<P::Body> {
        let store = match self.shield.cells().store_parts().await {
            [false, false] => "works",
            _ => "fails",
        };
        let breaker = match self.shield.door().halted("/") {
            Some(_) => "open",
            None => "closed",
        };
        json(
            StatusCode::OK,
            &json!({
                "status": "ok",
                "version": VERSION,
                "store": store,
                "breaker": breaker,
            }),
        )
    }

    /// The settings of other nodes that have lately written to the store and have others.
    fn others(&self, record: &Record, now: Time) -> Vec<Value> {
        let marks = record.settings.marks().iter();
        let others = marks.filter(|marked| marked.mark != self.mark);
        let told = others.map(|marked| {
            json!({
                "settings": marked.mark.to_string(),
                "seen_ms_ago": crate::time::millis(now.since(marked.last)),
            })
        });
        told.collect()
    }

    /// What was counted, on all nodes.
    async fn counters(&self) -> Value {
        let is_sampled = match self.shield.cells().counting() {
            Counting::ByHost => return json!({ "counted_by": "host", "see": "metrics" }),
            Counting::Each => false,
            Counting::Sampled => true,
        };
        let Some(Shard { since, counts, .. }) = self.shield.cells().counted().await else {
            return json!({ "unknown": "the store does not tell" });
        };
        json!({
            "counted_by": "shield",
            // What hosts with an instance for each request do not count.
            "requests": (!is_sampled).then_some(counts.requests),
            "is_sample": is_sampled,
            "refused": counts.refused,
            "origin": counts.origin,
            "since_ms": since.map(Time::as_unix_millis),
        })
    }

    pub(super) async fn status(&self) -> Answer<P::Body> {
        let now = self.shield.platform().now();
        let config = self.shield.config();
        let cells = self.shield.cells();
        let slots = self.shield.door().slots_max();
        let record = self.shield.door().overview().await;
        let others = record.as_ref().map(|record| self.others(record, now));
        let instances = record.as_ref().map(|record| by_instance(record, now));
        let mut origin = match record {
            Some(record) => OriginState::of(&record).to_json(slots, now),
            None => json!({ "unknown": "the store does not tell" }),
        };
        if let Some(origin) = origin.as_object_mut() {
            origin.insert("url".into(), self.shield.origin().to_string().into());
            origin.insert("slots_by_instance".into(), instances.into());
        }
        let preset = match config.policy.preset {
            Preset::Uptime => "uptime",
            Preset::Strict => "strict",
        };
        let [reads, writes] = cells.store_parts().await.map(|fails| match fails {
            true => "fail",
            false => "work",
        });
        let stored = cells.stored().await;
        json(
            StatusCode::OK,
            &json!({
                "version": VERSION,
                "time_ms": now.as_unix_millis(),
                "settings": self.mark.to_string(),
                "settings_of_others": others,
                "preset": preset,
                "origin": origin,
                "store": {
                    "reads": reads,
                    "writes": writes,
                    "guarantees": self.shield.platform().store().reach().promise(),
                },
                "entries": {
                    "cells": stored.map(|stored| stored.cells),
                    "bytes": stored.and_then(|stored| stored.bytes),
                    "counted_ms_ago": stored
                        .map(|stored| crate::time::millis(now.since(stored.counted))),
                    "limit": config.limits.keys,
                    "full": stored.is_some_and(|stored| stored.is_overfull),
                },
                "purges": cells.purges_known(),
                "counters": self.counters().await,
                "instance": {
                    "age_ms": crate::time::millis(now.since(self.began)),
                    "ends_with_request": P::ENDS_WITH_REQUEST,
                },
                "advice": self.shield.advice(),
            }),
        )
    }
}
