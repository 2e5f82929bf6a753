//! From a visitor's request to the question that the origin is asked.
//!
//! This module is pure.

pub mod policy;
