//! `run_task` without a thread hop: a reserved worker lends its resource to the calling thread.
//!
//! The resource is made and destroyed on its worker's thread. In between it lies in a channel of idle
//! loans; a caller takes one, runs its task, and puts it back, or sends it home when the resource went bad
//! or the runner is closing. Holding the loan is holding the resource: nobody else can reach it.

use super::engine::Engine;
use super::figures::Recorder;
use super::host::Host;
use super::lanes::Entry;
use super::worker::{Badge, Desk, Next, Post};
use crate::sync::Arc;
use crate::sync::channel::{Receiver, Sender, unbounded};
use std::time::Duration;

/// A resource away from its worker, with what its use is written down in.
pub struct Loan<H: Host> {
    resource: H::Resource,
    recorder: Recorder,
    badge: Arc<Badge<H>>,
    home: Sender<Homecoming<H>>,
}

struct Homecoming<H: Host> {
    resource: H::Resource,
    recorder: Recorder,
}

/// The idle loans of one engine.
pub struct Loans<H: Host> {
    sender: Sender<Loan<H>>,
    receiver: Receiver<Loan<H>>,
}

impl<H: Host> Loans<H> {
    pub(super) fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }

    pub(super) fn idle(&self) -> usize {
        self.receiver.len()
    }
}

impl<H: Host> std::fmt::Debug for Loans<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loans").field("idle", &self.idle()).finish()
    }
}

impl<H: Host> std::fmt::Debug for Loan<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loan").field("badge", &self.badge).finish_non_exhaustive()
    }
}

/// A worker's part: lends its resource until it comes home, for good or to be renewed.
pub(super) fn lend<H: Host>(
    engine: &Arc<Engine<H>>,
    scope: H::Scope<'_>,
    badge: &Arc<Badge<H>>,
    resource: H::Resource,
    recorder: Recorder,
) -> (H::Resource, Recorder, Next) {
    let (home, door) = unbounded();
    engine.loans.put(engine, Loan { resource, recorder, badge: Arc::clone(badge), home });
    let back = engine.host.park(scope, || {
        loop {
            // The sender travels with the loan, and a loan is lost only by a thread that was torn down in
            // the middle of its task: its resource is lost with it, and nothing is left to do here.
            if let Ok(back) = door.recv() {
                break back;
            }
            crate::sync::thread::park();
        }
    });
    let leave = engine.is_closing() || badge.post() == Post::Temporary;
    (back.resource, back.recorder, if leave { Next::Leave } else { Next::Renew })
}

impl<H: Host> Loans<H> {
    /// Takes an idle loan, waiting up to `limit` for one.
    pub fn take(&self, limit: Duration) -> Option<Loan<H>> {
        self.receiver.recv_timeout(limit).ok()
    }

    /// Takes an idle loan if there is one.
    pub fn try_take(&self) -> Option<Loan<H>> {
        self.receiver.try_recv().ok()
    }

    fn put(&self, engine: &Engine<H>, loan: Loan<H>) {
        let sent = self.sender.send(loan);
        debug_assert!(sent.is_ok());
        // After the send: whoever closes sets the mode first and then calls everything home, so one of
        // the two sees the other.
        if engine.is_closing() {
            self.recall();
        }
    }

    /// Sends every idle loan home.
    pub(super) fn recall(&self) {
        while let Some(loan) = self.try_take() {
            loan.go_home();
        }
    }
}

impl<H: Host> Loan<H> {
    fn go_home(self) {
        let sent = self.home.send(Homecoming { resource: self.resource, recorder: self.recorder });
        debug_assert!(sent.is_ok(), "its worker waits at the other end");
    }

    /// Runs one task on it in the calling thread, then gives the loan back. The task comes back when it
    /// is to be tried again.
    pub fn serve(
        self,
        engine: &Arc<Engine<H>>,
        scope: H::Scope<'_>,
        task: H::Task,
        since: u64,
    ) -> Option<H::Task> {
        let desk = Desk::new(engine, &self.badge, &self.resource, &self.recorder);
        let again = desk.serve(scope, Entry { task, since });
        let spoiled = desk.is_spoiled();
        if spoiled || self.badge.post() == Post::Temporary {
            self.go_home();
        } else {
            engine.loans.put(engine, self);
        }
        again
    }
}
