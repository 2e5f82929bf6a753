//! The end-to-end tests, in one program: their nodes run side by side, and it is linked once.

mod bodies;
mod browsers;
mod budget;
mod clouds;
mod damage;
mod edge;
mod exact_stores;
mod failures;
mod field;
mod harmless;
mod harness;
mod hostile;
mod http;
mod ledger;
mod messages;
mod operate_run;
mod preflight;
mod questions;
mod refusals;
mod sharing;
mod shield;
mod soak;
mod spin_http;
mod store;
mod streams;
mod zombie;
