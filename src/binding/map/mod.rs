//! `map`, in parts: the [`results`] have a [`reader`], which reads the input within its
//! [`look_ahead`] and queues it in batches; these are [`pending`] until they are handed out.
//! Workers [`run`] the items of a [`batch`], whose outcomes they put into a [`slot`] each. What
//! reader and workers [share](shared) is in one place.

pub(super) mod batch;
pub(super) mod item_error;
pub(super) mod look_ahead;
mod pending;
pub(super) mod reader;
pub(super) mod results;
pub(super) mod run;
mod shared;
mod slot;
