//! Who is hired, and when: at the start, on demand, for a burst, for `run_task`, in place of somebody else.

pub mod launch;
pub mod roster;
pub mod scaler;

use self::roster::Headcount;
use self::scaler::Load;
use super::clock::Tick;
use super::engine::Engine;
use super::figures::Counter;
use super::host::Host;
use super::queue::Closed;
use super::queue::lanes::Entry;
use super::resource::proof;
use super::settings::Settings;
use super::worker::Life;
use super::worker::badge::{Badge, Post};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// Totals at one look of the scaler.
#[derive(Debug, Default)]
pub(super) struct Sample {
    pub(super) at: Tick,
    pub(super) arrived: u64,
    pub(super) ended: u64,
    pub(super) run_time: Tick,
}

/// How a worker's good resource is renewed.
pub(super) enum Relief<H: Host> {
    /// Destroyed and made anew on its own thread.
    OnTheSpot,
    /// By a fresh worker, when that one has its resource.
    By(Arc<Badge<H>>),
}

impl<H: Host> Engine<H> {
    /// Hires the first workers. [`Launch::wait`](self::launch::Launch::wait) tells when all have their resource.
    ///
    /// # Errors
    ///
    /// Why a thread could not be started; the caller kills the engine then.
    pub fn launch_workers(self: &Arc<Self>, scope: H::Scope<'_>) -> Result<(), H::Fault> {
        let Settings { reserve_at_start, .. } = self.settings;
        let base = self.settings.base_at_start();
        for (post, count) in [(Post::Base, base), (Post::Reserved, reserve_at_start)] {
            for _ in 0..count {
                self.hire(scope, post, true, |_| true)?;
            }
        }
        Ok(())
    }

    /// Hires one worker if `allowed` agrees; `Ok(false)` when it did not.
    pub(super) fn hire(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        post: Post,
        launching: bool,
        allowed: impl FnOnce(Headcount) -> bool,
    ) -> Result<bool, H::Fault> {
        let Some(badge) = self.roster.hire(&self.settings, post, false, allowed) else {
            return Ok(false);
        };
        self.start(scope, badge, launching)?;
        Ok(true)
    }

    /// Starts the thread of somebody hired.
    pub(super) fn start(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        badge: Arc<Badge<H>>,
        launching: bool,
    ) -> Result<(), H::Fault> {
        self.host.spawn(scope, Life::new(Arc::clone(self), badge, launching))
    }

    /// Whether a base worker may have to be hired for the next task.
    pub(super) fn has_vacancies(&self) -> bool {
        self.vacancies.load(Ordering::Relaxed) > 0
    }

    /// Hires a base worker if more tasks wait than workers are free, and there is a place.
    pub(super) fn staff_base(self: &Arc<Self>, scope: H::Scope<'_>) {
        if let Some(badge) = self.base_place()
            && let Err(fault) = self.start_base(scope, badge)
        {
            self.host.report_no_thread(scope, fault);
        }
    }

    pub(super) fn base_place(&self) -> Option<Arc<Badge<H>>> {
        if !self.has_vacancies() {
            return None;
        }
        self.roster.hire(&self.settings, Post::Base, false, |heads| {
            // Who took an entry engages itself and then looks for more, so nothing is overlooked in between.
            let engaged = self.engaged.load(Ordering::SeqCst);
            self.main.lanes.len() > heads.main.saturating_sub(engaged)
                && heads.main < self.settings.worker_count
        })
    }

    /// Starts somebody hired on demand. The error: there is no thread, nor another worker.
    pub(super) fn start_base(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        badge: Arc<Badge<H>>,
    ) -> Result<(), H::Fault> {
        match self.start(scope, badge, false) {
            Ok(()) => {
                self.vacancies.fetch_sub(1, Ordering::Relaxed);
            }
            // Its unlived life has given the place back.
            Err(fault) if self.roster.headcount().main == 0 => return Err(fault),
            Err(fault) => self.host.report_no_thread(scope, fault),
        }
        Ok(())
    }

    /// Has the keeper think about burst workers when everybody is busy.
    pub(super) fn load_grew(&self, now: Tick) {
        if self.bursts() && self.main.bell.sleepers() == 0 {
            self.think_about_scaling(now);
        }
    }

    /// [`load_grew`](Self::load_grew) for a worker that was woken: submitters which came before it was up counted it as
    /// asleep.
    pub(super) fn load_is_left(&self) {
        if self.bursts() && self.main.leaves_tasks_waiting() {
            self.think_about_scaling(self.clock.now());
        }
    }

    /// Whether there may be burst workers.
    pub fn bursts(&self) -> bool {
        self.settings.max_worker_count > self.settings.worker_count
    }

    pub(super) fn think_about_scaling(&self, now: Tick) {
        // Relaxed: one submitter more or less that wakes the keeper makes no difference.
        if !self.scaling.load(Ordering::Relaxed) && !self.scaling.swap(true, Ordering::Relaxed) {
            self.deadlines.scale_at(now.saturating_add(self.settings.burst_interval));
        }
    }

    /// Hires burst workers for the load there is. Called by the keeper.
    pub(super) fn scale(self: &Arc<Self>, scope: H::Scope<'_>) {
        self.scaling.store(false, Ordering::Relaxed);
        // Not the length of the lanes: one entry of a batch stands for many items.
        let withdrawn = self.main.withdrawals() + self.express.withdrawals();
        let (now, totals) = (self.clock.now(), self.ledger.totals());
        let elsewhere = self.express.waiting() + self.loans.seekers() as u64;
        let waiting = self.queued(withdrawn, &totals).saturating_sub(elsewhere);
        let load = {
            let mut sample = self.sample.lock();
            let next = Sample {
                at: now,
                arrived: self.main.gate.accepted(),
                ended: totals[Counter::Ended],
                run_time: totals[Counter::ExecutionTime],
            };
            let last = std::mem::replace(&mut *sample, next);
            Load {
                elapsed: now.saturating_sub(last.at),
                // A submitter that comes too late is counted for a moment.
                arrived: sample.arrived.saturating_sub(last.arrived),
                ended: sample.ended - last.ended,
                run_time: sample.run_time.saturating_sub(last.run_time),
                waiting,
                workers: self.roster.headcount().main,
                most: self.settings.max_worker_count,
                target_wait: self.settings.burst_interval,
            }
        };
        if waiting == 0 || self.is_closing() {
            return;
        }
        // Looked at again for as long as anything waits.
        self.think_about_scaling(now);
        if self.backoff.is_in_trouble() {
            return;
        }
        for _ in load.workers..scaler::wanted(load) {
            // Asked under the roster's lock: once the runner has ended nobody is hired.
            let allowed = |heads: Headcount| !self.is_closing() && heads.main < load.most;
            match self.hire(scope, Post::Burst, false, allowed) {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => {
                    self.host.report_no_thread(scope, fault);
                    break;
                }
            }
        }
    }

    /// Hires a worker for `run_task` if more tasks wait than workers are free, and the limit allows.
    pub fn staff_express(self: &Arc<Self>, scope: H::Scope<'_>) {
        if let Some(badge) = self.express_place(false) {
            self.start_express(scope, badge);
        }
    }

    /// [`staff_express`](Self::staff_express), for a caller that waits for a loan for this task.
    pub fn staff_for(self: &Arc<Self>, scope: H::Scope<'_>, entry: &Entry<H::Task>) {
        if let Some(badge) = self.express_place(entry.failed != proof::NONE) {
            self.start_express(scope, badge);
        }
    }

    /// `choosy`: idle loans will not do.
    pub(super) fn express_place(&self, choosy: bool) -> Option<Arc<Badge<H>>> {
        let Settings { keep_reserved, thread_bound, reserve_limit, .. } = self.settings;
        let post = if keep_reserved { Post::Reserved } else { Post::Temporary };
        self.roster.hire(&self.settings, post, false, |heads| {
            let (wanted, free) = if thread_bound {
                // Who took an entry engages itself and then looks for more, so nothing is overlooked
                // in between.
                let engaged = self.engaged.load(Ordering::SeqCst);
                (self.express.lanes.len(), heads.express.saturating_sub(engaged))
            } else if choosy {
                (self.loans.choosy(), heads.express_bare)
            } else {
                (self.loans.seekers(), self.loans.idle() + heads.express_bare)
            };
            wanted > free && heads.express < reserve_limit
        })
    }

    pub(super) fn start_express(self: &Arc<Self>, scope: H::Scope<'_>, badge: Arc<Badge<H>>) {
        if let Err(fault) = self.start(scope, badge, false) {
            self.host.report_no_thread(scope, fault);
            self.lost_worker(scope, Post::Reserved);
        }
    }

    /// A worker that was hired had no thread, or one that ended before it came up: what counted on it goes elsewhere.
    /// Callers that wait for a loan ask for another worker themselves.
    pub(super) fn lost_worker(&self, scope: H::Scope<'_>, post: Post) {
        let heads = self.roster.headcount();
        if !post.is_main() && heads.express == 0 && self.settings.thread_bound {
            // No thread to be had (the interpreter is ending, or the system is full): the base
            // workers take it, before everything else.
            self.move_express_to_main(scope);
        }
        if post.is_main() && self.settings.on_demand {
            self.vacancies.fetch_add(1, Ordering::Relaxed);
            self.answer_unserved(scope);
        }
    }

    pub(super) fn move_express_to_main(&self, scope: H::Scope<'_>) {
        let visit = self.roster.visit();
        while let Some(entry) = self.express.take_any() {
            if let Err(Closed(task)) = self.main.adopt(entry) {
                self.decline(scope, task);
            }
        }
        drop(visit);
        self.finish_if_over();
    }

    /// Renews every resource, one after the other. Tasks are accepted and run meanwhile.
    pub fn recycle(&self) {
        self.renewal.recycle();
        self.ring_everybody();
    }

    pub(super) fn ring_everybody(&self) {
        self.main.bell.ring_all();
        self.express.bell.ring_all();
    }

    /// Whether a good resource may be renewed: every other worker has one.
    pub(super) fn may_renew(&self) -> bool {
        let heads = self.roster.headcount();
        heads.equipped == heads.main
    }

    /// A worker wants to renew its good resource. `None`: it is not its turn yet.
    pub(super) fn begin_renewal(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        badge: &Arc<Badge<H>>,
    ) -> Option<Relief<H>> {
        if !self.renewal.take_turn(badge, || self.may_renew()) {
            return None;
        }
        if !badge.post().is_main() {
            return Some(Relief::OnTheSpot);
        }
        let most = self.settings.max_worker_count;
        let spare = |heads: Headcount| heads.main < most;
        let Some(new) = self.roster.hire(&self.settings, badge.post(), true, spare) else {
            return Some(Relief::OnTheSpot);
        };
        new.inherit(badge);
        self.renewal.relieved_by(Arc::clone(&new));
        match self.start(scope, Arc::clone(&new), false) {
            Ok(()) => Some(Relief::By(new)),
            Err(fault) => {
                self.host.report_no_thread(scope, fault);
                // Its unlived life has ended the turn.
                let turn = self.renewal.take_turn(badge, || self.may_renew());
                turn.then_some(Relief::OnTheSpot)
            }
        }
    }

    /// A renewal is over, if this worker had the turn; see [`end_turn`](super::resource::renewal::Renewal::end_turn).
    pub(super) fn renewal_ended(&self, badge: &Arc<Badge<H>>, for_good: bool) {
        self.renewal.end_turn(badge, for_good);
        if self.renewal.is_wanted() {
            self.ring_everybody();
        }
    }

    /// A worker has its resource: whoever it relieves may go.
    pub(super) fn equipped(&self, badge: &Arc<Badge<H>>) {
        self.renewal_ended(badge, false);
        if self.renewal.relieves(badge) {
            self.ring_everybody();
        }
    }

    /// Puts another worker in the place of the one whose task (told by `is`) outlived its limit.
    pub fn stand_in(self: &Arc<Self>, scope: H::Scope<'_>, is: impl Fn(&H::Task) -> bool) {
        let members = self.roster.members();
        let Some(badge) = members.iter().find(|badge| badge.mark_overdue(&is)) else {
            return;
        };
        if badge.post() != Post::Base || self.is_closing() {
            return;
        }
        if let Some(relief) = self.renewal.relief_of(badge) {
            // Somebody is on the way already.
            self.roster.take_over(&relief);
            return;
        }
        let Settings { worker_count, max_worker_count, .. } = self.settings;
        let hired = self.hire(scope, Post::Base, false, |heads| {
            // Asked under the roster's lock: once the runner has ended nobody is hired.
            !self.is_closing() && heads.base_places < worker_count && heads.main < max_worker_count
        });
        match hired {
            Ok(true) => {}
            Ok(false) => self.host.report_overdue(scope, badge),
            Err(fault) => {
                self.host.report_no_thread(scope, fault);
                self.host.report_overdue(scope, badge);
            }
        }
    }
}
