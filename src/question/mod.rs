//! From a visitor's request to the question that the origin is asked.
//!
//! The rule of this module: the request that fills or refreshes a cell is a
//! function of the cell's question. Nothing else that a visitor sends can reach
//! the origin in it. So visitors that share a cell would have caused the same
//! request, and no visitor can shape what another is given.
//!
//! [`Visitor`] reads a request. [`Visitor::question`] makes the [`Question`]
//! that it asks, once the key's selecting fields are known.
//! [`Question::fill`] renders the request that the origin gets, from the
//! question and an entry's validators and from nothing else. The code that
//! fetches for a cell takes a `&Question` and never sees the visitor's request.
//! [`pass`] renders a request that is forwarded with its own fields; its answer
//! is never stored.
//!
//! There is one exception, visible in the type: where unknown fields are forwarded
//! (preset `strict`, and `request.forward`), a question carries fields of one
//! visitor apart, and a fill in the foreground sends them. They are not part of the
//! selector. [`Question::behind`] removes them for a refresh behind an answer.
//!
//! Files: `fields` has the lists of request fields, by what they mean to a shared
//! cache. `accept` reduces `Accept` and `Accept-Encoding` to classes, `cookies` says
//! which cookies are credentials, `target` makes targets canonical. `visitor` makes
//! the question, `fill` renders it, `location` rewrites the origin's references to
//! itself, `destination` the visitor's to the shield. `preflight` makes the question of a CORS preflight. `origin` is the origin's address, which is part of
//! every key. `policy` has the settings.
//!
//! This module is pure. It knows HTTP's rules.

pub mod accept;
mod cookies;
mod destination;
pub mod fields;
mod fill;
pub mod location;
mod long_poll;
mod origin;
pub mod pass;
pub mod policy;
pub mod preflight;
pub mod target;
mod visitor;

#[cfg(test)]
mod tests;

pub use accept::accepts_media_type;
pub use destination::destination;
pub use fill::{Fill, Outgoing, page};
pub(crate) use long_poll::is_long_poll;
pub(crate) use origin::has_valid_port;
pub use origin::{Origin, OriginError};
pub use visitor::{
    Question, Read, Reason, Visitor, is_secure, is_served, key_of, parts_of_key, selector_in_words,
};
