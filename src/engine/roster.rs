//! Who works here: every worker from the decision to start it until its resource is destroyed.
//!
//! A place is taken *before* the thread is started and given back only after the resource is gone. So the
//! count may exceed the number of running threads but never falls below it: no limit is overrun, and an
//! empty roster means that nothing of ours is left.

use super::host::Host;
use super::worker::{Badge, Post};
use crate::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// See the module's documentation.
pub struct Roster<H: Host> {
    state: Mutex<State<H>>,
    changed: Condvar,
}

struct State<H: Host> {
    members: Vec<Arc<Badge<H>>>,
    /// How many were ever hired: the number in the next one's name.
    hired: u64,
}

/// What was left behind by a worker that went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// No base or burst worker is left.
    pub last_of_main: bool,
    /// No worker that serves `run_task` is left.
    pub last_of_express: bool,
    /// Nobody at all is left.
    pub last: bool,
}

/// Live workers by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headcount {
    /// Base workers that have begun, without those lost to an overdue task.
    pub base: usize,
    /// Burst workers that have begun.
    pub burst: usize,
    /// Base and burst workers whose first resource is still being made.
    pub starting: usize,
    /// Workers with a resource, of base and burst.
    pub equipped: usize,
    /// Base and burst workers that do not count as workers until an overdue task ends.
    pub overdue: usize,
    /// Reserved and temporary workers, beginning ones included.
    pub express: usize,
}

impl<H: Host> Roster<H> {
    pub(super) fn new() -> Self {
        let state = State { members: Vec::new(), hired: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Takes a place, if `allowed` agrees to one more.
    pub(super) fn hire(
        &self,
        name: &str,
        post: Post,
        allowed: impl FnOnce(Headcount) -> bool,
    ) -> Option<Arc<Badge<H>>> {
        let mut state = self.state.lock();
        if !allowed(count(&state.members)) {
            return None;
        }
        state.hired += 1;
        let badge = Arc::new(Badge::new(format!("{name}-{}-{}", post.word(), state.hired), post));
        state.members.push(Arc::clone(&badge));
        Some(badge)
    }

    /// Gives a place back.
    pub(super) fn leave(&self, badge: &Arc<Badge<H>>) -> Left {
        let mut state = self.state.lock();
        state.members.retain(|other| !Arc::ptr_eq(other, badge));
        let any = |main| state.members.iter().any(|b| b.post().is_main() == main);
        let (main, express) = (any(true), any(false));
        drop(state);
        self.changed.notify_all();
        let is_main = badge.post().is_main();
        Left {
            last_of_main: is_main && !main,
            last_of_express: !is_main && !express,
            last: !main && !express,
        }
    }

    /// Blocks until nobody is left or the limit passes; true when nobody is.
    pub(super) fn wait_empty(&self, limit: Duration) -> bool {
        let state = self.state.lock();
        if state.members.is_empty() {
            return true;
        }
        self.changed.wait_timeout(state, limit).members.is_empty()
    }

    /// Everybody, at this moment.
    pub(super) fn members(&self) -> Vec<Arc<Badge<H>>> {
        self.state.lock().members.clone()
    }

    /// Live workers by kind, at this moment.
    pub(super) fn headcount(&self) -> Headcount {
        count(&self.state.lock().members)
    }
}

impl<H: Host> std::fmt::Debug for Roster<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("headcount", &self.headcount()).finish()
    }
}

fn count<H: Host>(members: &[Arc<Badge<H>>]) -> Headcount {
    let mut heads = Headcount::default();
    for badge in members {
        match badge.post() {
            Post::Reserved | Post::Temporary => heads.express += 1,
            _ if badge.is_overdue() => heads.overdue += 1,
            _ if !badge.has_begun() => heads.starting += 1,
            Post::Base => heads.base += 1,
            Post::Burst => heads.burst += 1,
        }
        heads.equipped += usize::from(badge.post().is_main() && badge.is_equipped());
    }
    heads
}
