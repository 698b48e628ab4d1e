//! How tasks come in: accepted or refused in one step, whatever the task is.

use super::clock::Tick;
use super::engine::Engine;
use super::host::Host;
use super::queue::accumulator::Member;
use super::queue::permits::{Permit, Permits};
use super::queue::{Admitted, Rejected};
use super::roster::loans::Loan;
use super::scaling::threads::Threads;
use super::task::priority::Priority;
use super::task::{BATCH, JOINT, NOT_ADMITTED, RESERVED, SERIAL, TaskWord};
use super::worker::serve_loan::{LoanOf, LoanWaiter};
use crate::sync::Arc;

/// Why a task is not served.
pub enum SubmitError<'p, H: Host> {
    /// The runner is closing, or the task was settled before it was let in.
    Rejected(Rejected<'p, H::Task>),
    /// There is no worker, and no thread for one.
    NoThread(H::Fault),
}

impl<H: Host> Engine<H> {
    /// Takes permits for up to `most` tasks of the main queue, as many as are free; `None`: none
    /// is. Without a bound that is all of them.
    pub fn try_permits(&self, most: usize) -> Option<Permit<'_>> {
        match &self.main.permits {
            None => Some(Permit::unbounded(most)),
            Some(permits) => permits.try_take(most),
        }
    }

    /// The bound on waiting tasks, to wait for room with.
    pub fn permits(&self) -> Option<&Permits> {
        self.main.permits.as_ref()
    }

    /// Accepts a `run_task` that the caller is going to run itself, if a loan is idle and the
    /// runner open.
    pub fn accept_on_loan(&self, since: Tick) -> Option<LoanOf<H>> {
        self.advance_window(since);
        self.loans.accept(|| self.is_closing())
    }

    /// Accepts a `run_task` that the caller is going to run itself, in the task that is kept with
    /// the loan, if the longest idle loan keeps one and is as good as any, and the runner is open.
    /// It is running from here on.
    pub fn accept_at_once(&self, since: Tick) -> Option<LoanOf<H>> {
        self.advance_window(since);
        let generation = self.generations.current();
        let fits = |loan: &Loan<_, _>| {
            loan.lent.as_ref().is_some_and(|(owned_resource, _)| {
                !owned_resource.usage().is_worn(|| since, generation)
            })
        };
        self.loans.accept_kept(since, || self.is_closing(), fits)
    }

    /// Accepts a `run_task` for which [`accept_on_loan`](Self::accept_on_loan) found no loan, and
    /// that the caller is going to run itself when it has one, unless the runner is closing.
    pub fn accept_loan_waiter(&self) -> Option<LoanWaiter<'_, H>> {
        self.reserved.gate.enter(1).map(|_pass| LoanWaiter::new(self, false))
    }

    /// Accepts a `run_task` that is called inside a task. The worker of that task stays until both
    /// are over. False when the runner is closing.
    pub fn accept_inside(&self, since: Tick) -> bool {
        self.advance_window(since);
        self.reserved.gate.enter(1).is_some()
    }
}

impl<H: Threads> Engine<H> {
    /// Accepts a task, or a batch with a permit for each of its items. Its `word` says what it is,
    /// how urgent, and which queue it is for; the reserved queue has no bound. The submitter starts
    /// a base worker that is missing since there was no thread for it. Where workers are started on
    /// demand it starts one if one is needed, but not for a batch: a worker that claims items is
    /// not counted as busy.
    ///
    /// # Errors
    ///
    /// The task comes back when the runner is closing, or when it waited for room and was settled
    /// meanwhile. The other error: there is no worker, and no thread for one.
    #[inline]
    pub fn submit<'p>(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        word: &TaskWord,
        task: H::Task,
        since: Tick,
        permit: Permit<'p>,
    ) -> Result<(), SubmitError<'p, H>> {
        let flags = word.flags();
        let is_reserved = flags & RESERVED != 0;
        debug_assert!(
            flags & BATCH == 0 || !self.settings.on_demand,
            "no worker is started for it"
        );
        debug_assert!(flags & BATCH != 0 || permit.count() == 1);
        self.advance_window(since);
        let admit = |task: H::Task| {
            if flags & (BATCH | JOINT | NOT_ADMITTED | SERIAL) == 0 {
                return Admitted::Queued(task);
            }
            // Inside the gate: a kill closes the gate and then looks at the batches, and so finds
            // what was accepted, and nothing else.
            if flags & BATCH != 0
                && let Some(cursor) = self.host.cursor(&task)
            {
                self.batches.add(cursor, self.host.share(scope, &task));
            }
            if flags & NOT_ADMITTED != 0 && !word.admit() {
                return Admitted::Settled(task);
            }
            if flags & SERIAL != 0 {
                self.line_up(scope, task, since)
            } else if flags & JOINT != 0 {
                self.accumulate(scope, task, since)
            } else {
                Admitted::Queued(task)
            }
        };
        // Inside the gate: once the queue is sealed, an accepted task has a worker.
        let add_worker = || {
            match flags {
                _ if is_reserved => self.add_reserved_if_needed(false),
                // The thread that lets it in may hold the claim of another task, or be closing.
                _ if flags & NOT_ADMITTED != 0 => None,
                _ => self.add_base_if_needed(),
            }
        };
        // In the reserved queue nothing overtakes.
        let priority = if is_reserved { Priority::Normal } else { word.priority() };
        let key = self.host.key(&task);
        let queue = if is_reserved { &self.reserved } else { &self.main };
        let added = queue
            .push((priority, key), task, since, permit, admit, add_worker)
            .map_err(SubmitError::Rejected);
        if !is_reserved {
            self.load_grew(since);
        }
        if self.fails_fast() {
            self.fail_pushed(scope, flags);
        }
        let Some(worker) = added? else {
            return Ok(());
        };
        if is_reserved {
            self.start_reserved(scope, worker);
            return Ok(());
        }
        match self.start_base(scope, worker) {
            Err(fault) if self.withdraw_without_worker(scope, key, word) => {
                Err(SubmitError::NoThread(fault))
            }
            // Or another thread has taken the task meanwhile.
            _ => Ok(()),
        }
    }
}

impl<H: Host> Engine<H> {
    /// Puts a task that is being accepted where joint calls find it. It lingers if there is
    /// something to wait for: in a full call there is not, and what is urgent does not wait.
    #[cold]
    fn accumulate(&self, scope: H::Scope<'_>, task: H::Task, since: Tick) -> Admitted<H::Task> {
        let (host, main) = (&self.host, &self.main);
        // Of its own: once the task lingers, another thread may end it, and with it what it came with.
        let Some(accumulator) = host.accumulator(&task).map(Arc::clone) else {
            return Admitted::Queued(task);
        };
        let (word, settings) = (host.word(&task), *accumulator.settings());
        if settings.max_size == 1 {
            return Admitted::Queued(task);
        }
        let priority = word.priority();
        let waits = settings.max_wait > 0 && priority != Priority::High;
        let due = since.saturating_add(settings.max_wait);
        let linger = waits.then(|| main.lingering.key(due));
        let member = Member { task: host.share(scope, &task), since, linger };
        if let Some(key) = linger {
            // Before the call may be found full: that releases it.
            main.linger(key, priority, host.share(scope, &task), since);
        }
        match accumulator.add(member, |task| host.word(task)) {
            Ok(full) => main.release(full),
            Err(member) => self.discard_gone(scope, member),
        }
        if linger.is_none() {
            return Admitted::Queued(task);
        }
        self.deadlines.release_at(due);
        host.discard(scope, task);
        Admitted::Lingers
    }
}

impl<H: Host> std::fmt::Debug for SubmitError<'_, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rejected(_) => "Rejected",
            Self::NoThread(_) => "NoThread",
        })
    }
}
