//! Run functions on worker threads that each own a resource.
//!
//! Two halves: [`engine`] knows no Python and no `unsafe`; `binding` is the binding to Python,
//! behind the default feature `python`. `sync` is the only door to threads, locks, atomics and
//! channels.

#[cfg(feature = "python")]
#[expect(unsafe_code, reason = "the binding reaches the interpreter below PyO3's safe surface")]
mod binding;
#[expect(
    missing_debug_implementations,
    reason = "the host, and so what is generic over it, has none"
)]
pub mod engine;
mod sync;
