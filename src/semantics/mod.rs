//! HTTP's rules for a shared cache, as pure functions.
//!
//! RFC 9110, 9111, 5861, 8246, 9211 and 9213 over [`http`] types and explicit
//! times: no I/O, no clock, no configuration globals, no panic on any input.
//! A reader finds each rule beside the section that it comes from.

pub mod answer;
pub mod audience;
pub mod cache_status;
pub mod cdn_loop;
pub mod conditional;
pub mod connection_auth;
mod content;
pub mod date;
pub mod directives;
mod endless;
mod etag;
pub mod fields;
pub mod freshness;
pub mod hops;
mod host;
pub mod invalidate;
mod lifetime;
mod line;
#[cfg(test)]
mod oracle;
pub mod policy;
pub mod preflight;
pub mod private;
pub mod ranges;
pub mod reason;
mod received;
pub mod request;
pub mod request_target;
pub mod response;
pub mod retry_after;
pub mod serve;
mod stale;
pub mod storable;
mod text;
mod told;
pub mod update;
pub mod vary;

pub use answer::{age_header, announced, content_length, date_header};
pub use audience::{Audience, has_static_extension, is_static_file};
pub use cache_status::{CacheStatus, Forward};
pub use cdn_loop::{CDN_LOOP, LoopId, is_loop_answer};
pub use conditional::{
    Precondition, add_validators, evaluate, not_modified_headers, remove_conditions,
};
pub use connection_auth::{
    Bond, ConnectionAuth, Handling, bond_of_answer, bond_of_request, handling,
    offers_connection_auth, remove_bound_challenges,
};
pub use content::has_text;
pub use endless::is_endless;
pub(crate) use fields::single;
pub use fields::{append_via, is_upgrade, strip_connection_fields};
pub use freshness::Freshness;
pub use hops::{Hop, count_hop};
pub use host::{canonical_host, is_host_and_port};
pub(crate) use invalidate::resolve;
pub use invalidate::{Target, invalidation_targets, is_safe, stands_for_target};
pub use policy::{IgnoreOrigin, Policy, Preset, RuledWindows};
pub use preflight::storability_of_preflight;
pub use private::remove_private_fields;
pub use ranges::{RangeAnswer, content_range, range, unsatisfied_range};
pub use reason::Reason;
pub use received::{complete, may_have_content};
pub use request::{MaxStale, RequestDirectives};
pub use request_target::request_target;
pub use response::ResponseDirectives;
pub use retry_after::retry_after;
pub use serve::{Verdict, verdict};
pub use storable::{
    Asked, Kept, Storability, is_transient, may_be_for_everyone, storability, storability_of_post,
};
pub(crate) use text::{field_members, joined_value, normal_value, push_counted, weight};
pub use told::{BrowserTtl, Handed, tell_lifetime};
pub use update::{HeadUpdate, confirms, freshen, head_update, matches};
pub use vary::{Vary, selecting_names, vary};
