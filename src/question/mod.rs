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
//! This module is pure. It knows HTTP's rules and the settings.

pub mod accept;
mod cookies;
pub mod fields;
mod fill;
pub mod location;
pub mod pass;
pub mod policy;
pub mod target;
mod visitor;

#[cfg(test)]
mod tests;

pub use fill::{Fill, Outgoing};
pub use visitor::{Question, Read, Reason, Visitor, key_of};
