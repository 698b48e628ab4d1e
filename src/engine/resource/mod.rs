//! When a resource is looked at, made anew and trusted again.

pub mod backoff;
pub mod epochs;
pub mod manager;
pub mod owned_resource;
pub mod usage;
