//! Bindings to the hosts: one thin module for each flavour of the component,
//! the only code that knows a platform's interfaces.

mod spin;
