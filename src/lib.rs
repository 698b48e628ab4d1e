//! Run functions on worker threads that each own a resource.
//!
//! Two halves: [`engine`] knows no Python and no `unsafe`; `python` is the binding, behind the default
//! feature `python`. `sync` is the only door to threads, locks, atomics and channels.

pub mod engine;
#[cfg(feature = "python")]
#[expect(unsafe_code, reason = "the binding reaches the interpreter below PyO3's safe surface")]
mod python;
mod sync;
