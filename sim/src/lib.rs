//! A world for the shield that we control.
//!
//! - [`model`] explores the cell protocol exhaustively, with the shipping
//!   transitions.
//! - [`run`] plays seeded scenarios: the shield itself, on nodes that crash,
//!   stall and disagree about the time, over stores that lose, delay and lie,
//!   in front of an origin that fails. An oracle watches each step.
//! - [`timed`] measures what the election on a store without a swap is worth.
//! - [`scale`] measures in virtual time what no test machine can: hundreds of
//!   nodes and tens of millions of requests.

mod alphabet;
mod clock;
mod coverage;
mod executor;
pub mod model;
mod oracle;
mod origin;
mod platform;
mod requests;
pub mod run;
pub mod scale;
mod scale_platform;
mod scenario;
mod shrink;
mod stores;
#[cfg(test)]
mod tests;
pub mod timed;
mod trace;
mod views;
mod world;
