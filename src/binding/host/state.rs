//! What a runner's threads share: the user's callables, the log, the threads, and what a kill hands
//! back.

use super::error_types::ErrorTypes;
use super::guarded_call;
use super::hooks::{GivenHooks, SharedHooks, UserHooks};
use super::observer::Observer;
use super::task_names::TaskNames;
use super::task_record::TaskFacts;
use super::thread;
use crate::binding::interrupt::call::{CancelCall, HelperJob};
use crate::binding::log::Logger;
use crate::binding::options::{Asked, TaskOptions};
use crate::binding::py_imports::PyReports;
use crate::binding::serial_keys::SerialKeys;
use crate::engine::metrics::by_name::NameRow;
use crate::engine::metrics::ledger::Ledger;
use crate::engine::task::helper_pool::Helpers;
use crate::engine::worker::session::WorkerSession;
use crate::engine::{Engine, Mode};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use std::collections::VecDeque;

/// With fewer threads it never looks which of them have ended.
const LEAST_TO_SWEEP: usize = 64;

/// A task that a kill settled before it ever ran.
pub(in crate::binding) struct Dropped {
    pub(in crate::binding) function: Option<Py<PyAny>>,
    pub(in crate::binding) args: Option<Py<PyTuple>>,
    pub(in crate::binding) kwargs: Option<Py<PyDict>>,
    /// `None`: the runner's defaults.
    pub(in crate::binding) options: Option<Arc<TaskOptions>>,
    /// It is to be called without the resource.
    pub(in crate::binding) bare: bool,
}

/// What a runner keeps for its events. Relaxed: each number stands for itself.
#[derive(Default)]
pub(super) struct EventState {
    /// Tasks that were numbered.
    pub(super) tasks: AtomicU64,
    /// Calls of the hook.
    pub(super) calls: AtomicU64,
    /// Those that raised.
    pub(super) failures: AtomicU64,
    /// What is still to be told: of tasks that waited for room and were refused.
    pub(super) refusals: Mutex<VecDeque<UntoldRefusal>>,
}

/// The refusal of a task that waited for room, which is published and not told of yet.
pub(super) struct UntoldRefusal {
    pub(super) engine: Arc<Engine<PyHost>>,
    pub(super) facts: TaskFacts,
    pub(super) context: Option<Py<PyAny>>,
    pub(super) error: Py<PyAny>,
}

/// See the module's documentation. Each lock here is held for a few instructions while attached,
/// never with a call into the interpreter inside, and no two at once.
pub(in crate::binding) struct PyHost {
    /// The runner's, for the log.
    pub(in crate::binding) name: Arc<str>,
    pub(in crate::binding) hooks: SharedHooks,
    pub(in crate::binding) logger: Logger,
    pub(super) max_retries: u32,
    pub(in crate::binding) given: GivenHooks,
    pub(super) events: EventState,
    pub(in crate::binding) observer: Observer,
    /// The helpers that interrupt.
    pub(in crate::binding) helpers: Arc<Helpers<HelperJob>>,
    /// Calls under way on resources, by the names of their workers, whose callers were interrupted
    /// themselves.
    under_way: Mutex<Vec<(String, Arc<CancelCall>)>>,
    /// The `threading.Thread` objects of live workers, to be joined.
    pub(super) threads: Mutex<Vec<Py<PyAny>>>,
    /// With so many of them whoever adds one looks which have ended: twice as many as lived at the
    /// last look, so that many that start together are looked at about once each. Relaxed: a look
    /// too many or one that comes late costs no more than its time.
    next_sweep: AtomicUsize,
    dropped: Mutex<Vec<Dropped>>,
    pub(super) last_fault: Mutex<Option<Py<PyAny>>>,
    /// What is remembered of earlier looks at what is wrong. Made by the first.
    memory: PyOnceLock<Py<PyAny>>,
    names: TaskNames,
    /// The keys whose tasks run one after the other.
    pub(in crate::binding) serial_keys: SerialKeys,
    pub(in crate::binding) errors: ErrorTypes,
    /// The last thread could not be started, and the log says so.
    threadless: AtomicBool,
    /// A stop timed out or a kill was called: the exit of the interpreter does not wait for what
    /// runs.
    left_behind: AtomicBool,
    /// The engine is a standard executor's: there is no resource, hooks are called without one,
    /// and refusals are the standard's.
    pub(in crate::binding) standard: bool,
    /// An initializer of a standard executor failed.
    pub(super) uninitialised: AtomicBool,
}

impl PyHost {
    pub(in crate::binding) fn new(
        name: &str,
        hooks: UserHooks,
        logger: Logger,
        max_retries: u32,
    ) -> Self {
        Self {
            name: name.into(),
            given: hooks.given(),
            events: EventState::default(),
            observer: Observer::default(),
            helpers: Arc::new(Helpers::new()),
            under_way: Mutex::new(Vec::new()),
            hooks: SharedHooks::new(hooks),
            logger,
            max_retries,
            threads: Mutex::new(Vec::new()),
            next_sweep: AtomicUsize::new(LEAST_TO_SWEEP),
            dropped: Mutex::new(Vec::new()),
            last_fault: Mutex::new(None),
            memory: PyOnceLock::new(),
            names: TaskNames::new(),
            serial_keys: SerialKeys::default(),
            errors: ErrorTypes::default(),
            threadless: AtomicBool::new(false),
            left_behind: AtomicBool::new(false),
            standard: false,
            uninitialised: AtomicBool::new(false),
        }
    }

    /// The host of a standard executor. The hooks are its initializer, `None` if it has none, and
    /// its finalizer.
    pub(in crate::binding) fn standard(name: &str, hooks: UserHooks, logger: Logger) -> Self {
        Self { standard: true, ..Self::new(name, hooks, logger, 0) }
    }

    /// Where the records of a host go, and those of tasks that have none.
    pub(in crate::binding) fn logger_of(host: Option<&Self>) -> &Logger {
        host.map_or(&Logger::Package, |host| &host.logger)
    }

    /// Has a task that begins counted by its name.
    pub(in crate::binding) fn name_task(
        &self,
        py: Python<'_>,
        session: &WorkerSession<'_, Self>,
        task: Asked<'_>,
    ) {
        session.name_task(self.row(py, session.engine.ledger(), task));
    }

    /// Where the figures by name count a task. A standard executor shows none.
    #[inline]
    pub(in crate::binding) fn row(
        &self,
        py: Python<'_>,
        ledger: &Ledger,
        task: Asked<'_>,
    ) -> NameRow {
        if self.standard { NameRow::NONE } else { self.names.row(py, ledger, task) }
    }

    /// Counts a task that was given a result by hand, by name.
    pub(in crate::binding) fn count_completed_by_hand(
        &self,
        py: Python<'_>,
        ledger: &Ledger,
        task: Asked<'_>,
    ) {
        if !self.standard {
            ledger.name_completed(self.names.row(py, ledger, task));
        }
    }

    /// Counts a task that failed, by name and by error. It is about to be published.
    pub(in crate::binding) fn count_failed(
        &self,
        py: Python<'_>,
        ledger: &Ledger,
        task: Asked<'_>,
        error: &Py<PyAny>,
    ) {
        if !self.standard {
            ledger.name_failed(self.names.row(py, ledger, task));
            self.errors.count(py, error);
        }
    }

    /// Leaves calls to the worker of a resource, which waits for them before it destroys it.
    pub(in crate::binding) fn leave_under_way(&self, worker: &str, calls: &[Arc<CancelCall>]) {
        let calls = calls.iter().map(|call| (worker.to_owned(), Arc::clone(call)));
        self.under_way.lock().extend(calls);
    }

    /// Takes those calls.
    pub(super) fn take_under_way(&self, worker: &str) -> Vec<Arc<CancelCall>> {
        let is_its = |(name, _): &mut (String, _)| name == worker;
        self.under_way.lock().extract_if(.., is_its).map(|(_, call)| call).collect()
    }

    /// Notes a thread, to be joined at the end.
    pub(in crate::binding) fn add_thread(&self, py: Python<'_>, thread: Py<PyAny>) {
        // Helpers and temporary workers come and go, and their threads with them.
        let known = {
            let mut threads = self.threads.lock();
            threads.push(thread);
            threads.len()
        };
        if known >= self.next_sweep.load(Ordering::Relaxed) {
            let mut ended = self.threads(py);
            ended.retain(|thread| !thread::is_alive(py, thread));
            let is_ended = |thread: &mut Py<PyAny>| ended.iter().any(|other| other.is(&*thread));
            let (forgotten, left) = {
                let mut threads = self.threads.lock();
                let forgotten: Vec<_> = threads.extract_if(.., is_ended).collect();
                (forgotten, threads.len())
            };
            self.next_sweep.store(LEAST_TO_SWEEP.max(2 * left), Ordering::Relaxed);
            drop(forgotten);
        }
    }

    pub(in crate::binding) fn is_uninitialised(&self) -> bool {
        self.uninitialised.load(Ordering::SeqCst)
    }

    /// A worker's thread has come up.
    pub(super) fn has_threads(&self) {
        self.threadless.store(false, Ordering::Relaxed);
    }

    /// No thread could be started. True when the last one could.
    pub(super) fn has_no_threads(&self) -> bool {
        !self.threadless.swap(true, Ordering::Relaxed)
    }

    pub(in crate::binding) fn is_left_behind(&self) -> bool {
        self.left_behind.load(Ordering::SeqCst)
    }

    pub(in crate::binding) fn leave_behind(&self) {
        self.left_behind.store(true, Ordering::SeqCst);
    }

    /// The threads it knows of.
    pub(in crate::binding) fn threads(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.threads.lock().iter().map(|thread| thread.clone_ref(py)).collect()
    }

    pub(in crate::binding) fn take_threads(&self) -> Vec<Py<PyAny>> {
        std::mem::take(&mut *self.threads.lock())
    }

    pub(in crate::binding) fn take_dropped(&self) -> Vec<Dropped> {
        std::mem::take(&mut *self.dropped.lock())
    }

    pub(in crate::binding) fn fault(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.last_fault.lock().as_ref().map(|fault| fault.clone_ref(py))
    }

    /// Lets go of the last fault, which is over: its traceback leads to what the user's callables
    /// were called on, the owner of the `Runner` mostly, and no collector sees what is kept here.
    pub(in crate::binding) fn forget_fault(&self, py: Python<'_>) {
        let former = self.last_fault.lock().take();
        guarded_call::release_some(py, former);
    }

    /// Lets go of what only a running engine needs. A standard executor whose initializer failed
    /// tells why for as long as it is asked.
    pub(in crate::binding) fn release_own(&self, py: Python<'_>) {
        self.hooks.release_own(py);
        if !self.standard {
            self.forget_fault(py);
        }
    }

    /// What it remembers of earlier looks at what is wrong with it.
    pub(in crate::binding) fn memory(&self, py: Python<'_>) -> PyResult<&Py<PyAny>> {
        self.memory.get_or_try_init(py, || PyReports::get(py)?.memory.call0(py))
    }

    /// Keeps a task that a kill hands back.
    pub(in crate::binding) fn add_dropped(&self, dropped: Dropped) {
        self.dropped.lock().push(dropped);
    }
}

/// Lets go of the engine's own callables, of its last fault and of its observer, if nothing is left
/// that could call one. Called by each thread that may be the last to leave: perhaps no thread waits
/// for the end.
pub(in crate::binding) fn release_if_over(py: Python<'_>, engine: &Engine<PyHost>) {
    if engine.mode() == Mode::Stopped {
        engine.host.release_own(py);
        engine.host.observer.replace(py, None);
    }
}
