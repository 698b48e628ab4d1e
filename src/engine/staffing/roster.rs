//! Who works here: every worker from the decision to start it until its resource is destroyed.
//!
//! A place is taken *before* the thread is started and given back only after the resource is gone. So the
//! count may exceed the number of running threads but never falls below it: no limit is overrun, and an
//! empty roster means that nothing of ours is left.

use crate::engine::host::Host;
use crate::engine::settings::Settings;
use crate::engine::worker::badge::{Badge, Post};
use crate::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// See the module's documentation.
pub struct Roster<H: Host> {
    state: Mutex<State<H>>,
    changed: Condvar,
}

struct State<H: Host> {
    members: Vec<Arc<Badge<H>>>,
    /// How many were ever hired: it numbers the next one's name.
    hired: u64,
    /// Threads that are not workers but are busy closing, answering or moving tasks.
    visitors: usize,
}

impl<H: Host> State<H> {
    fn is_empty(&self) -> bool {
        self.members.is_empty() && self.visitors == 0
    }
}

/// Keeps a roster from being empty; see [`Roster::visit`].
pub(in crate::engine) struct Visit<'r, H: Host>(&'r Roster<H>);

/// Live workers by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headcount {
    /// Base workers that have begun, without those lost to an overdue task.
    pub base: usize,
    /// Burst workers that have begun.
    pub burst: usize,
    /// Base and burst workers whose first resource is still being made.
    pub starting: usize,
    /// Base workers, beginning ones included, without those lost to an overdue task.
    pub base_places: usize,
    /// Workers with a resource, of `base` and `burst`.
    pub ready: usize,
    /// Workers with a resource, of `main`.
    pub equipped: usize,
    /// Base and burst workers that do not count as workers until an overdue task ends.
    pub overdue: usize,
    /// Base and burst workers, all of them, with those that relieve one.
    pub main: usize,
    /// Reserved and temporary workers, beginning ones included.
    pub express: usize,
    /// Those among them that have no resource at the moment.
    pub express_bare: usize,
}

impl<H: Host> Roster<H> {
    pub(in crate::engine) fn new() -> Self {
        let state = State { members: Vec::new(), hired: 0, visitors: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Takes a place, if `allowed` agrees to one more. A `relief` counts as base or burst worker only when
    /// the one that it relieves is dismissed: two of them fill one place.
    pub(in crate::engine) fn hire(
        &self,
        settings: &Settings,
        post: Post,
        relief: bool,
        allowed: impl FnOnce(Headcount) -> bool,
    ) -> Option<Arc<Badge<H>>> {
        let mut state = self.state.lock();
        if !allowed(count(&state.members)) {
            return None;
        }
        let name = settings.worker_name(post, state.hired);
        state.hired += 1;
        let badge = Arc::new(Badge::new(name, post, relief));
        state.members.push(Arc::clone(&badge));
        Some(badge)
    }

    /// Strikes a worker that holds no resource off the count, unless it `stays`; its place is given back
    /// by [`leave`](Self::leave). Tells whether it was the last of its kind, `None` when it stays.
    ///
    /// A base worker stays too if fewer than `to_remain` would be left. It may have decided to go because another one
    /// took its place, who has decided the same since.
    ///
    /// `stays` looks for tasks under the lock that [`hire`](Self::hire) counts under, and tasks are pushed
    /// before somebody is hired for them: either the worker sees the task, or the submitter no worker.
    pub(in crate::engine) fn dismiss(
        &self,
        badge: &Arc<Badge<H>>,
        relief: Option<&Badge<H>>,
        to_remain: usize,
        stays: impl FnOnce() -> bool,
    ) -> Option<bool> {
        let state = self.state.lock();
        if stays() {
            return None;
        }
        let relief = relief.filter(|new| !new.is_dismissed());
        if badge.post() == Post::Base {
            let counts = !badge.is_overdue() && !badge.is_relief();
            let comes = relief.is_some_and(|new| new.is_relief() && !new.is_overdue());
            let left = count(&state.members).base_places + usize::from(comes);
            if left < to_remain + usize::from(counts) {
                badge.clear_overdue();
                badge.take_over();
                return None;
            }
        }
        badge.set_dismissed();
        if let Some(new) = relief {
            new.take_over();
        }
        let is_main = badge.post().is_main();
        Some(!state.members.iter().any(|b| b.post().is_main() == is_main && !b.is_dismissed()))
    }

    /// Gives a place back.
    pub(in crate::engine) fn leave(&self, badge: &Arc<Badge<H>>) {
        self.change(|state| state.members.retain(|other| !Arc::ptr_eq(other, badge)));
    }

    /// An overdue task ended: its worker counts again, unless it is a base worker and a stand-in took its
    /// place. False then.
    pub(in crate::engine) fn take_back(&self, badge: &Badge<H>, worker_count: usize) -> bool {
        let state = self.state.lock();
        if badge.post() == Post::Base && count(&state.members).base_places >= worker_count {
            return false;
        }
        badge.clear_overdue();
        true
    }

    /// A relief counts from now on, as the one that it relieves does not any more.
    pub(in crate::engine) fn take_over(&self, relief: &Badge<H>) {
        let _state = self.state.lock();
        relief.take_over();
    }

    /// Counts a thread in that is busy at the end of the runner and is no worker.
    pub(in crate::engine) fn visit(&self) -> Visit<'_, H> {
        self.state.lock().visitors += 1;
        Visit(self)
    }

    /// Whether nobody is left.
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.state.lock().is_empty()
    }

    /// Blocks until nobody is left, and `done`, or the limit passes; true in the first case. Who makes it
    /// `done` calls [`changed`](Self::changed).
    pub(in crate::engine) fn wait_empty(&self, limit: Duration, done: impl Fn() -> bool) -> bool {
        let more = |state: &mut State<H>| !(state.is_empty() && done());
        !more(&mut self.changed.wait_while(self.state.lock(), limit, more))
    }

    fn change(&self, change: impl FnOnce(&mut State<H>)) {
        let empty = {
            let mut state = self.state.lock();
            change(&mut state);
            state.is_empty()
        };
        // Not for each that leaves: those who wait would come up as often, and take the core from the others.
        if empty {
            self.changed.notify_all();
        }
    }

    /// Has those who wait look again.
    pub(in crate::engine) fn changed(&self) {
        // Under the lock, or a waiter that has just looked would miss it.
        drop(self.state.lock());
        self.changed.notify_all();
    }

    /// How many there are at this moment.
    pub(in crate::engine) fn len(&self) -> usize {
        self.state.lock().members.len()
    }

    /// Everybody, at this moment.
    pub(in crate::engine) fn members(&self) -> Vec<Arc<Badge<H>>> {
        self.state.lock().members.clone()
    }

    /// Live workers by kind, at this moment.
    pub(in crate::engine) fn headcount(&self) -> Headcount {
        count(&self.state.lock().members)
    }
}

impl<H: Host> Drop for Visit<'_, H> {
    fn drop(&mut self) {
        self.0.change(|state| state.visitors -= 1);
    }
}

impl<H: Host> std::fmt::Debug for Roster<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("headcount", &self.headcount()).finish()
    }
}

fn count<H: Host>(members: &[Arc<Badge<H>>]) -> Headcount {
    let mut heads = Headcount::default();
    for badge in members.iter().filter(|badge| !badge.is_dismissed()) {
        let equipped = badge.is_equipped();
        if !badge.post().is_main() {
            heads.express += 1;
            heads.express_bare += usize::from(!equipped);
            continue;
        }
        heads.main += 1;
        heads.equipped += usize::from(equipped);
        if badge.is_overdue() {
            heads.overdue += 1;
            continue;
        }
        if badge.is_relief() {
            continue;
        }
        heads.base_places += usize::from(badge.post() == Post::Base);
        if !badge.has_begun() {
            heads.starting += 1;
            continue;
        }
        heads.ready += usize::from(equipped);
        match badge.post() {
            Post::Base => heads.base += 1,
            _ => heads.burst += 1,
        }
    }
    heads
}
