//! When a resource is looked at, made anew and trusted again. Calling the hooks is the worker's part.

pub mod backoff;
pub mod care;
pub mod proof;
pub mod renewal;
