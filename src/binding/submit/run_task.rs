//! `run_task`: past the queue, by a reserved worker, in the caller's thread on a *loan* (a reserved
//! worker's resource), or inside the task that calls it.

use super::verbs::outcome;
use crate::binding::context::clock;
use crate::binding::current;
use crate::binding::engine_handle::EngineHandleRef;
use crate::binding::error;
use crate::binding::future::draft::TaskCall;
use crate::binding::future::{Future, freelist, settle};
use crate::binding::host::guarded_call;
use crate::binding::host::stacks;
use crate::binding::host::state::PyHost;
use crate::binding::wait::{self, Limit};
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::queue::lanes::Entry;
use crate::engine::queue::permits::Permit;
use crate::engine::task::{RESERVED, TIMED};
use crate::engine::worker::attempt::Attempts;
use crate::engine::worker::serve_loan::{CallWait, Claiming, LoanOf, LoanWaiter, Unserved};
use crate::sync::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

impl EngineHandleRef<'_> {
    /// `Runner.run_task`.
    pub(in crate::binding) fn run_task(&self, call: TaskCall<'_>) -> PyResult<Py<PyAny>> {
        let py = call.function.py();
        self.check_open(&call.function, call.options.as_deref())?;
        let inside = current::session_of(py, &self.engine, |_| ()).is_some();
        let here = inside || !self.engine.settings.thread_bound;
        if here
            && !inside
            && let Some(accepted) = self.accept_at_once(&call)?
        {
            return self.run_at_once(call, accepted);
        }
        let due = self.due_from_now(py, call.options.as_deref())?;
        let future = self.new_task(call, due, RESERVED)?;
        if inside {
            if let Err(refusal) = self.run_inside(py, &future) {
                // Guarded: this is a worker's thread, and the arguments may die with the future.
                guarded_call::release(py, future);
                return Err(refusal);
            }
        } else if here {
            self.run_on_loan(py, &future)?;
        } else {
            self.accept(py, &future, Permit::unbounded(1))?;
        }
        let outcome = outcome(future.bind(py));
        freelist::recycle(py, future);
        outcome
    }

    /// Runs a task inside the task that calls `run_task`, on that task's resource.
    fn run_inside(&self, py: Python<'_>, future: &Py<Future>) -> PyResult<()> {
        if !self.engine.accept_inside(self.engine.clock.now()) {
            return Err(self.refuse_task(py, future));
        }
        self.watch(py, future);
        let (engine, since) = (&self.engine, self.engine.clock.now());
        let _enrolled = engine.host.given.tells.then(|| Enrolled::new(py, engine, future, since));
        self.tell_arrival(py, future);
        // The hook forked, and this is the child: nothing here is its own.
        self.check_alive()?;
        let task = future.clone_ref(py);
        current::same_session_of(&self.engine, |session| session.serve_inside(py, &task, false));
        guarded_call::release(py, task);
        Ok(())
    }

    /// Runs a task in this thread, on resources that reserved workers lend.
    fn run_on_loan(&self, py: Python<'_>, future: &Py<Future>) -> PyResult<()> {
        let engine = &self.engine;
        let since = engine.clock.now();
        let mut loan = engine.accept_on_loan(since);
        let mut loan_waiter = None;
        if loan.is_none() {
            if current::works_for(engine) {
                return Err(PyRuntimeError::new_err(error::WOULD_DEADLOCK));
            }
            loan_waiter = engine.accept_loan_waiter();
            if loan_waiter.is_none() {
                return Err(self.refuse_task(py, future));
            }
        }
        self.watch(py, future);
        // A kill also settles the tasks of callers that wait while their resource is validated, or
        // while the user is told of their arrival.
        let waits = loan.is_none()
            || engine.settings.policy.validate_after.is_some()
            || engine.host.given.tells;
        let mut enrolled = waits.then(|| Enrolled::new(py, engine, future, since));
        self.tell_arrival(py, future);
        let mut claim = if waits || future.get().word.has(TIMED) {
            Claiming::Shared
        } else {
            Claiming::Unshared
        };
        let mut entry = Entry::fresh(future.clone_ref(py), since);
        loop {
            if engine.is_left_by_fork() {
                // The hook forked, and this is the child: nothing here is its own.
                std::mem::forget((loan, loan_waiter));
                return Err(self.closed_error());
            }
            let found = loan.take().map(|loan| (Some(loan), Ok(())));
            let (found, ended) =
                found.unwrap_or_else(|| self.find_loan(py, &entry, &mut loan_waiter));
            let found = match (found, ended) {
                (Some(found), Ok(())) => found,
                (unused, ended) => {
                    // Not started, or between two attempts: no other thread would settle it.
                    engine.abandon_loan_call(py, entry.task);
                    // After it: the loan keeps the runner from ending.
                    if let Some(loan) = unused {
                        engine.give_back_loan(loan);
                    }
                    return ended;
                }
            };
            drop(loan_waiter.take());
            stacks::note_caller(py, &found);
            let serve = || engine.serve_on_loan(py, found, entry, claim);
            let (again, interrupt) = current::as_borrower(engine, serve);
            if let Some(interrupt) = interrupt {
                if let Some(Unserved { entry, wait: _wait, .. }) = again {
                    engine.abandon_loan_call(py, entry.task);
                }
                return Err(error::raise(py, interrupt));
            }
            let Some(Unserved { entry: again, wait, retry }) = again else {
                return Ok(());
            };
            (entry, claim) = (again, Claiming::Shared);
            enrolled.get_or_insert_with(|| Enrolled::new(py, engine, future, since));
            if let Some(retry) = retry {
                engine.host.retried(py, retry);
            }
            loan_waiter = match wait {
                CallWait::Loan(waiter) => Some(waiter),
                CallWait::Pause(until) => {
                    if let Err(interrupted) = self.sit_out(py, &entry, until) {
                        settle::call_off_retry(py, &entry.task);
                        guarded_call::release(py, entry.task);
                        return Err(interrupted);
                    }
                    let waiter = engine.end_call_pause(&future.get().word);
                    if waiter.is_none() {
                        guarded_call::release(py, entry.task);
                        return Ok(());
                    }
                    waiter
                }
            };
        }
    }

    /// Blocks until the pause of a call's task is over, or the runner closes, or another thread
    /// settles the task.
    fn sit_out(&self, py: Python<'_>, entry: &Entry<Py<Future>>, until: Tick) -> PyResult<bool> {
        let (engine, word) = (&self.engine, &entry.task.get().word);
        let left = clock::seconds(until.saturating_sub(engine.clock.now()));
        let ends = || !word.is_paused() || engine.is_closing();
        wait::polling(py, left, ends)
    }

    /// Finds a loan for the caller of `run_task`, waiting if need be. There is none when none will
    /// come, when the task has been settled meanwhile, or when the wait was interrupted.
    fn find_loan<'e>(
        &'e self,
        py: Python<'_>,
        entry: &Entry<Py<Future>>,
        loan_waiter: &mut Option<LoanWaiter<'e, PyHost>>,
    ) -> (Option<LoanOf<PyHost>>, PyResult<()>) {
        // Short: a worker that could not be started is asked for again.
        const LOAN_POLL_SECONDS: f64 = 0.05;
        let engine = &self.engine;
        let mut found = engine.try_take_loan(entry);
        while found.is_none() && !entry.task.get().word.is_done() && engine.may_lend() {
            // The hook may have been interrupted, and what starts a thread makes nothing of that.
            if engine.host.given.tells
                && wait::on_main_thread(py)
                && let Err(interrupted) = wait::check_signals(py)
            {
                return (None, Err(interrupted));
            }
            engine.start_reserved_for(py, entry);
            let taken = Mutex::new((None, loan_waiter.take()));
            let waited = wait::until(
                py,
                Limit::after(Some(LOAN_POLL_SECONDS)),
                || taken.lock().0.is_some(),
                |slice| {
                    let loan = engine.take_loan(entry, slice);
                    let mut taken = taken.lock();
                    // At once, and not after the wait for the interpreter: other threads would
                    // start a worker for this waiter.
                    let loan_waiter = if loan.is_some() { taken.1.take() } else { None };
                    taken.0 = loan;
                    drop(taken);
                    drop(loan_waiter);
                },
            );
            let mut taken = taken.lock();
            (found, *loan_waiter) = (taken.0.take(), taken.1.take());
            drop(taken);
            if let Err(interrupted) = waited {
                return (found, Err(interrupted));
            }
        }
        (found, Ok(()))
    }
}

/// The task of a call that is in no lane, to be found by a kill that settles what waits: it waits
/// for a loan, or for what the user does when told of its arrival.
struct Enrolled<'a, 'py> {
    py: Python<'py>,
    engine: &'a Engine<PyHost>,
    key: u64,
}

impl<'a, 'py> Enrolled<'a, 'py> {
    fn new(py: Python<'py>, engine: &'a Engine<PyHost>, future: &Py<Future>, since: Tick) -> Self {
        let key = engine.loans.add_waiting_call(future.clone_ref(py), since);
        // After it is to be found, as after a push.
        if engine.fails_fast() {
            engine.fail_waiting(py);
        }
        Self { py, engine, key }
    }
}

impl Drop for Enrolled<'_, '_> {
    fn drop(&mut self) {
        // After a fork a thread that is gone may hold the lock.
        if !self.engine.is_left_by_fork()
            && let Some(task) = self.engine.loans.remove_waiting_call(self.key)
        {
            guarded_call::release(self.py, task);
        }
    }
}
