//! `Results`, the iterator behind `map`: reads the input, queues it in batches, hands the outcomes out.
//!
//! The input is read only here, in the thread that asks for the next result, and no further ahead than the look-ahead
//! allows. Handing out a value that is there takes one look at one slot. Everything else (reading on, waiting, errors,
//! the end) is [`Reading::next`], for which the reading is taken out of the object: whoever comes meanwhile finds
//! nothing, and is told so.

pub(super) mod batch;
pub(super) mod failure;

use self::batch::{Batch, Berth, Course, Load, Make};
use self::failure::Failures;
use super::context::snapshot::Snapshot;
use super::context::variables;
use super::error;
use super::future::{Future, Outcome, run_instead};
use super::guarded::Guarded;
use super::host::door;
use super::host::seat;
use super::host::{Task, discard};
use super::runner::Runner;
use super::verbs::core::{Call, Core, CoreRef};
use super::verbs::options::{Options, Submitter};
use super::wait::{self, Limit};
use crate::engine::clock::Tick;
use crate::engine::queue::lanes::Class;
use crate::sync::Arc;
use pyo3::exceptions::{PyException, PyOverflowError, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyRange, PyTuple};
use pyo3::{Borrowed, PyTraverseError, PyTypeInfo, PyVisit};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// As much work as a batch is meant to be, and as is queued ahead unless the caller says how many items.
const AHEAD: Tick = 1_000_000;
/// How often the look-ahead may double before a reader that has to wait does so.
const DOUBLINGS: u32 = 3;
/// The input is read on when there is room for so much work: the workers are to find enough, and not each item alone.
const ENOUGH: Tick = 500_000;
/// The reading of a slow input stops after this, so that what is there is queued.
const PATIENCE: Duration = Duration::from_micros(100);
/// How long a reader waits before it looks whether a worker is stuck: at first, then, then always, in seconds.
const LOOKS: [f64; 3] = [0.001, 0.005, 0.05];
/// What an item is taken to last that a reader found a worker stuck in.
const STUCK: Tick = 1_000_000;

/// The results of a `map`, in the order of its input or as they come.
#[pyclass(frozen, weakref, generic, module = "tasker")]
pub(super) struct Results {
    core: Py<Core>,
    /// Whose it is stays alive, as for a view.
    runner: Py<Runner>,
    course: Arc<Course>,
    queued: Queued,
    /// `None` while it is taken out, and at the end.
    reading: Guarded<Option<Box<Reading>>>,
}

/// The batches under way, by the numbers of their first items, with their tickets. Apart from the reading, which is
/// taken out while a thread waits for a result: another one that closes the results cancels them all the same.
type Queued = Guarded<BTreeMap<u64, (Py<Batch>, Option<Py<Future>>)>>;

/// A batch under way.
struct Flight {
    batch: Py<Batch>,
    /// `None` where each item is a task of its own.
    ticket: Option<Py<Future>>,
    /// How many outcomes were handed out, where they are handed out as they come.
    handed: usize,
}

/// Items that were read together and are not queued yet.
#[derive(Default)]
struct Held {
    items: Vec<Py<PyAny>>,
    context: Option<Snapshot>,
}

/// How far the reading has come.
struct Reading {
    /// The batch whose values are handed out, in order; the place of the next, and the place before which the
    /// reading has to go on.
    front: Option<Flight>,
    at: usize,
    until: usize,
    /// The other batches under way, by the numbers of their first items.
    flights: BTreeMap<u64, Flight>,
    /// The number of the next item to be queued.
    next: u64,
    /// Outcomes handed out, but for those of `front`.
    handed: u64,
    /// Results in all, if that is known.
    total: Option<u64>,
    look_ahead: u64,
    grows: bool,
    /// So many items are queued one by one while nothing is known of them.
    alone: u64,
    /// Where the items come from; empty at the end of the input.
    inputs: Vec<Py<PyAny>>,
    /// Reading them runs no code of the user's.
    inert: bool,
    /// There are several: an item is a tuple of arguments.
    spread: bool,
    held: Held,
    /// An item read in another context than those held, with that.
    odd: Option<(Py<PyAny>, Option<Snapshot>)>,
    /// What the input raised, or why an item was refused: raised after everything before.
    failure: Option<Py<PyAny>>,
    function: Py<PyAny>,
    options: Option<Arc<Options>>,
    /// Seconds that an item may take.
    limit: Option<f64>,
    failures: Failures,
}

/// What a reading works with, beside itself.
#[derive(Clone, Copy)]
struct Desk<'a, 'py> {
    py: Python<'py>,
    core: &'a Py<Core>,
    course: &'a Arc<Course>,
    queued: &'a Queued,
}

impl<'a> Desk<'a, '_> {
    fn core(&self) -> CoreRef<'a> {
        CoreRef(self.core)
    }

    /// Puts a batch down that is queued now, and cancels it if the results were closed meanwhile.
    fn note(&self, batch: &Py<Batch>, ticket: Option<&Py<Future>>) {
        let py = self.py;
        let known = (batch.clone_ref(py), ticket.map(|ticket| ticket.clone_ref(py)));
        self.queued.with(py, |queued| queued.insert(batch.get().first(), known));
        if self.course.is_closed() {
            self.cancel();
        }
    }

    /// All of a batch was handed out.
    fn forget(&self, batch: &Py<Batch>) {
        let known = self.queued.with(self.py, |queued| queued.remove(&batch.get().first()));
        drop(known);
    }

    /// Cancels what has not started.
    fn cancel(&self) {
        let (py, engine) = (self.py, &self.core.get().engine);
        let queued = self.queued.with(py, std::mem::take);
        for (batch, ticket) in queued.into_values() {
            if !engine.is_forsaken() {
                if let Some(ticket) = &ticket {
                    let task = Task::new(ticket.clone_ref(py));
                    let items = engine.cancel_items(py, &task);
                    batch.get().drop_items(py, items);
                    discard(py, task);
                }
                for task in batch.get().tasks(py) {
                    Future::cancel(task.bind(py));
                }
            }
            door::release_some(py, ticket);
            door::release(py, batch.into_any());
        }
    }
}

impl Reading {
    /// The next value, if it is there and nothing else is due.
    fn ready(&mut self) -> Option<door::Object> {
        if self.at >= self.until {
            return None;
        }
        let value = self.front.as_ref()?.batch.get().take_value(self.at)?;
        self.at += 1;
        Some(value)
    }

    /// The next result; `None` at the end. An error ends it too.
    fn next(&mut self, desk: Desk<'_, '_>) -> PyResult<Option<Py<PyAny>>> {
        let mut doublings = 0..DOUBLINGS;
        loop {
            self.read_on(desk)?;
            if let Some((number, outcome)) = self.take(desk) {
                return match outcome {
                    Outcome::Value(value) => Ok(Some(value)),
                    Outcome::Error(error) => self.failed(desk.py, number, error).map(Some),
                    Outcome::None => Ok(Some(desk.py.None())),
                };
            }
            if self.ahead() == 0 {
                return match self.failure.take() {
                    Some(error) => Err(error::raise(desk.py, error)),
                    None => Ok(None),
                };
            }
            if doublings.next().is_some() && self.grow(desk) {
                continue;
            }
            self.wait(desk).inspect_err(|_| self.tell(desk))?;
            if desk.course.is_closed() {
                return Ok(None);
            }
        }
    }

    // ---- reading the input ------------------------------------------------------------------------

    /// Items read and not handed out.
    fn ahead(&self) -> u64 {
        self.in_flight() + self.held.items.len() as u64 + u64::from(self.odd.is_some())
    }

    /// Items queued and not handed out.
    fn in_flight(&self) -> u64 {
        self.next - self.handed - self.at as u64
    }

    /// Items that have an outcome, those handed out included.
    fn done(&self) -> u64 {
        let front = self.front.as_ref().map_or(0, |front| front.batch.get().done_from(self.at));
        let others =
            self.flights.values().map(|flight| flight.batch.get().done_from(0)).sum::<u64>();
        self.handed + self.at as u64 + front + others
    }

    fn room(&self) -> u64 {
        self.look_ahead.saturating_sub(self.ahead())
    }

    /// How many items so much work is.
    fn worth(desk: Desk<'_, '_>, work: Tick) -> u64 {
        desk.course.pace.get().map_or(1, |span| (work / span).max(1))
    }

    /// Reads and queues items: all there is room for when nothing can be handed out, else when there is enough room.
    fn read_on(&mut self, desk: Desk<'_, '_>) -> PyResult<()> {
        let enough = Self::worth(desk, ENOUGH).min(self.look_ahead / 2).max(1);
        while !desk.course.is_closed() {
            if self.held.items.is_empty() {
                let least = if self.is_ready(desk) { enough } else { 1 };
                if self.room() < least || self.failure.is_some() {
                    break;
                }
                self.pull(desk)?;
            }
            if self.held.items.is_empty() || !self.queue(desk)? {
                break;
            }
        }
        // Handed out without a look until so much room is there again.
        let free = enough.saturating_sub(self.room()).max(1);
        let is_over = self.inputs.is_empty() && self.held.items.is_empty() && self.odd.is_none();
        let free = if is_over { usize::MAX } else { usize::try_from(free).unwrap_or(usize::MAX) };
        self.until = self.at.saturating_add(free);
        Ok(())
    }

    /// Reads items for a batch.
    fn pull(&mut self, desk: Desk<'_, '_>) -> PyResult<()> {
        let py = desk.py;
        // Each item with a time limit becomes a task of its own.
        let most = match desk.course.pace.get() {
            _ if self.limit.is_some() => 1,
            Some(span) => (AHEAD / span).max(1),
            // Nothing is known of the items: alone at first, then more and more together.
            None => (self.in_flight() / self.alone).max(1),
        };
        let most = most.min(self.room());
        let copies = desk.core.get().copy_contextvars;
        let began = (!self.inert).then(Instant::now);
        if let Some((item, context)) = self.odd.take() {
            self.held = Held { items: vec![item], context };
        }
        while (self.held.items.len() as u64) < most {
            let item = match self.pull_one(py) {
                Ok(Some(item)) => item,
                Ok(None) => {
                    self.inputs.clear();
                    break;
                }
                Err(error) => {
                    self.fail(py, error)?;
                    break;
                }
            };
            if copies && !self.inert || self.held.items.is_empty() {
                let context = copies.then(|| Snapshot::take(py)).transpose()?;
                if self.held.items.is_empty() {
                    self.held.context = context;
                } else if !is_same(py, context.as_ref(), self.held.context.as_ref()) {
                    self.odd = Some((item, context));
                    break;
                }
            }
            self.held.items.push(item);
            if began.is_some_and(|began| began.elapsed() > PATIENCE) {
                break;
            }
        }
        Ok(())
    }

    /// Reads the arguments of one item.
    fn pull_one(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let next = |input| door::next(py, input).map_err(|error| error::raise(py, error));
        match &self.inputs[..] {
            [] => Ok(None),
            [input] => next(input),
            inputs => {
                let mut item = Vec::with_capacity(inputs.len());
                for input in inputs {
                    match next(input)? {
                        Some(argument) => item.push(argument),
                        None => return Ok(None),
                    }
                }
                Ok(Some(PyTuple::new(py, item)?.into_any().unbind()))
            }
        }
    }

    /// Ends the input by an error, which is raised at its place: after everything before it.
    fn fail(&mut self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        self.inputs.clear();
        if !error.is_instance_of::<PyException>(py) {
            return Err(error);
        }
        self.failure = Some(error.into_value(py).into_any());
        Ok(())
    }

    /// Queues what is held, or as much of it as the bounded queue has room for; false when that is nothing.
    fn queue(&mut self, desk: Desk<'_, '_>) -> PyResult<bool> {
        let (py, core) = (desk.py, desk.core());
        let class = self.options.as_ref().map_or(Class::Normal, |options| options.class);
        let held = self.held.items.len();
        let granted = match core.engine.permits() {
            None => held,
            Some(permits) => match permits.take_up_to(held) {
                // What is in flight makes room, or at least a result to hand out.
                0 if self.in_flight() > 0 => return Ok(false),
                0 => match core.room(py, class, Limit::after(self.limit)) {
                    Ok(()) => 1,
                    Err(error) => return self.refused(py, error),
                },
                some => some,
            },
        };
        let rest = self.held.items.split_off(granted);
        let context = self.held.context.as_mut().map(|context| context.open(py, rest.is_empty()));
        let context = context.transpose()?;
        let items = std::mem::replace(&mut self.held.items, rest);
        let make = Make {
            core: desk.core,
            course: desk.course,
            options: self.options.as_ref(),
            spread: self.spread,
            first: self.next,
            load: Load { function: self.function.clone_ref(py), context },
        };
        let batch = Batch::make(py, make, items.into_iter())?;
        let accepted = if self.limit.is_some() {
            self.queue_tasks(desk, &batch).map(|()| None)
        } else {
            core.submit_batch(py, class, &batch).map(Some)
        };
        match accepted {
            Ok(ticket) => {
                desk.note(&batch, ticket.as_ref());
                self.flights.insert(self.next, Flight { batch, ticket, handed: 0 });
                self.next += granted as u64;
                Ok(true)
            }
            Err(error) => self.refused(py, error),
        }
    }

    /// Makes a task of each item.
    fn queue_tasks(&self, desk: Desk<'_, '_>, batch: &Py<Batch>) -> PyResult<()> {
        for index in 0..batch.get().len() {
            let (function, args, context) = batch.get().unload(desk.py, index)?;
            let call = Call {
                function: function.into_bound(desk.py),
                args: Some(args.into_bound(desk.py)),
                kwargs: None,
            };
            let mark = |future: &Py<Future>| Berth::mark(batch.bind(desk.py), index, future);
            desk.core().submit_item(call, context, self.options.as_ref(), mark)?;
        }
        Ok(())
    }

    fn refused(&mut self, py: Python<'_>, error: PyErr) -> PyResult<bool> {
        self.held = Held::default();
        self.odd = None;
        self.fail(py, error).map(|()| false)
    }

    // ---- handing out ------------------------------------------------------------------------------

    fn is_ready(&mut self, desk: Desk<'_, '_>) -> bool {
        if !desk.course.is_ordered() {
            return desk.course.has_finished();
        }
        self.step(desk);
        self.front.as_ref().is_some_and(|front| front.batch.get().is_done(self.at))
    }

    /// Goes on to the next batch when the front one is handed out.
    fn step(&mut self, desk: Desk<'_, '_>) {
        if self.front.as_ref().is_none_or(|front| self.at == front.batch.get().len()) {
            if let Some(front) = &self.front {
                desk.forget(&front.batch);
            }
            self.handed += self.at as u64;
            self.at = 0;
            self.until = 0;
            self.front = self.flights.pop_first().map(|(_, flight)| flight);
        }
    }

    /// Takes the next outcome out with the number of its item, if it is there.
    fn take(&mut self, desk: Desk<'_, '_>) -> Option<(u64, Outcome)> {
        if desk.course.is_ordered() {
            self.step(desk);
            let batch = self.front.as_ref()?.batch.get();
            let outcome = batch.take(desk.py, self.at)?;
            let number = batch.first() + self.at as u64;
            self.at += 1;
            return Some((number, outcome));
        }
        let number = desk.course.next_finished()?;
        let mut flight = self.flights.range_mut(..=number).next_back()?;
        let (first, flight) = (*flight.0, &mut flight.1);
        let index = usize::try_from(number - first).ok()?;
        let outcome = flight.batch.get().take(desk.py, index);
        flight.handed += 1;
        if flight.handed == flight.batch.get().len() {
            desk.forget(&flight.batch);
            self.flights.remove(&first);
        }
        self.handed += 1;
        outcome.map(|outcome| (number, outcome))
    }

    /// The error of an item, raised or in place of its result.
    fn failed(&self, py: Python<'_>, number: u64, error: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let is_handed_out = failure::is_handed_out(py, &error, number)?;
        if is_handed_out && self.failures == Failures::HandedOut {
            return Ok(error);
        }
        Err(error::raise(py, error))
    }

    // ---- waiting ----------------------------------------------------------------------------------

    /// Looks ahead further, when the reader has to wait although items are quick.
    fn grow(&mut self, desk: Desk<'_, '_>) -> bool {
        let grows = self.grows
            && !self.inputs.is_empty()
            && self.room() == 0
            && desk
                .course
                .pace
                .get()
                .is_some_and(|span| span.saturating_mul(self.look_ahead) < AHEAD)
            && !seat::works_for(&desk.core.get().engine);
        if grows {
            self.look_ahead *= 2;
        }
        grows
    }

    /// Waits until an outcome can be handed out, or the reading is closed.
    fn wait(&mut self, desk: Desk<'_, '_>) -> PyResult<()> {
        let (py, core, course) = (desk.py, desk.core(), desk.course);
        let engine = &core.engine;
        if seat::works_for(engine) {
            if seat::stands_still(py, engine) {
                return Err(PyRuntimeError::new_err(error::STANDSTILL));
            }
            if self.run_instead(desk) {
                return Ok(());
            }
        }
        let front = self.front.as_ref().map(|front| front.batch.get());
        let at = self.at;
        let is_there = || match front {
            Some(batch) => batch.is_done(at),
            None => course.has_finished(),
        };
        let over = || is_there() || course.is_closed() || engine.is_broken();
        if !wait::offer(py, Limit::after(None), over) {
            let mut left = self.left();
            let mut looks = LOOKS.into_iter();
            let mut slice = Some(0.0);
            loop {
                slice = looks.next().or(slice);
                course.listen(front.map_or(0, |batch| batch.first() + at as u64));
                let waited = wait::parked_until(py, Limit::after(slice), over);
                course.stop_listening();
                if waited? {
                    break;
                }
                let still_left = self.left();
                if still_left == left {
                    self.ask_others(desk);
                }
                left = still_left;
            }
        }
        if is_there() || !engine.is_broken() { Ok(()) } else { Err(core.refusal()) }
    }

    /// How many items nobody has started.
    fn left(&self) -> usize {
        self.all().filter(|flight| flight.ticket.is_some()).map(|f| f.batch.get().deal.left()).sum()
    }

    fn all(&self) -> impl Iterator<Item = &Flight> {
        self.front.iter().chain(self.flights.values())
    }

    /// Nothing was started for a while: whoever deals the items out is stuck in one of them.
    fn ask_others(&self, desk: Desk<'_, '_>) {
        for flight in self.all() {
            if let Some(ticket) = &flight.ticket
                && flight.batch.get().deal.left() > 0
            {
                desk.course.pace.doubt(STUCK);
                let task = Task::new(ticket.clone_ref(desk.py));
                desk.core.get().engine.invite(desk.py, &task);
                discard(desk.py, task);
            }
        }
    }

    /// A worker that waits for an item that nobody has started runs one.
    fn run_instead(&self, desk: Desk<'_, '_>) -> bool {
        let py = desk.py;
        let engine = &desk.core.get().engine;
        for flight in self.all() {
            if let Some(ticket) = &flight.ticket {
                let task = Task::new(ticket.clone_ref(py));
                let ran = seat::desk_of(py, engine, |desk| desk.serve_item_inside(py, &task));
                discard(py, task);
                if ran == Some(true) {
                    return true;
                }
            }
            if flight.batch.get().tasks(py).iter().any(|task| run_instead(task.bind(py))) {
                return true;
            }
        }
        false
    }

    /// The wait for a result was interrupted: what runs is told.
    fn tell(&self, desk: Desk<'_, '_>) {
        let reason = "the call that waited for it was interrupted";
        desk.course.tell(reason);
        for flight in self.all() {
            for task in flight.batch.get().tasks(desk.py) {
                Future::request_cancel(task.bind(desk.py), Some(reason.into()));
            }
        }
    }

    // ---- the end ----------------------------------------------------------------------------------

    /// Cancels what has not started, and lets go of everything.
    fn close(self, desk: Desk<'_, '_>) {
        desk.cancel();
        self.release(desk.py);
    }

    /// Drops all by the door: this may be a worker.
    fn release(self, py: Python<'_>) {
        let Self { front, flights, inputs, held, odd, failure, function, .. } = self;
        for Flight { batch, ticket, .. } in front.into_iter().chain(flights.into_values()) {
            door::release_some(py, ticket);
            door::release(py, batch.into_any());
        }
        for object in inputs.into_iter().chain(held.items).chain(failure).chain([function]) {
            door::release(py, object);
        }
        if let Some((item, context)) = odd {
            door::release(py, item);
            drop(context);
        }
        drop(held.context);
    }
}

impl Results {
    fn desk<'a, 'py>(&'a self, py: Python<'py>) -> Desk<'a, 'py> {
        Desk { py, core: &self.core, course: &self.course, queued: &self.queued }
    }

    /// The long way to the next result.
    fn advance(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(mut reading) = self.reading.with(py, Option::take) else {
            if self.course.is_closed() {
                return Ok(None);
            }
            return Err(PyRuntimeError::new_err(
                "these results are being read already: by another thread, or by their own input",
            ));
        };
        let next = reading.next(self.desk(py));
        let goes_on = matches!(next, Ok(Some(_)));
        let over = self.reading.with(py, |place| {
            // In here: whoever closes marks that first and then looks into the place, so that one of the two ends it.
            if !goes_on || self.course.is_closed() {
                return Some(reading);
            }
            *place = Some(reading);
            None
        });
        if let Some(reading) = over {
            self.course.close();
            reading.close(self.desk(py));
        }
        next
    }
}

#[pymethods]
impl Results {
    #[new]
    #[pyo3(signature = (runner, view, r#fn, iterables, buffersize, ordered, return_exceptions))]
    fn new(
        runner: &Bound<'_, Runner>,
        view: Option<&Bound<'_, Submitter>>,
        r#fn: &Bound<'_, PyAny>,
        iterables: &Bound<'_, PyTuple>,
        buffersize: Option<u64>,
        ordered: bool,
        return_exceptions: bool,
    ) -> PyResult<Self> {
        let py = runner.py();
        let core = runner.get().core();
        let options = view.map(|view| Arc::clone(&view.get().options));
        core.check_open(r#fn)?;
        let limit = core.limit(py, options.as_ref())?;
        let total = shortest(iterables)?;
        let inputs = iterables
            .iter()
            .map(|input| Ok(input.try_iter()?.into_any().unbind()))
            .collect::<PyResult<Vec<_>>>()?;
        let workers = core.engine.settings.max_worker_count as u64;
        let mut reading = Box::new(Reading {
            front: None,
            at: 0,
            until: 0,
            flights: BTreeMap::new(),
            next: 0,
            handed: 0,
            total,
            look_ahead: buffersize.unwrap_or(2 * workers),
            grows: buffersize.is_none(),
            alone: 2 * workers,
            inert: inputs.iter().all(|input| is_inert(py, input)),
            spread: inputs.len() > 1,
            inputs,
            held: Held::default(),
            odd: None,
            failure: None,
            function: r#fn.clone().unbind(),
            options,
            limit,
            failures: if return_exceptions { Failures::HandedOut } else { Failures::Raised },
        });
        let (course, queued) = (Course::new(ordered), Guarded::new(BTreeMap::new()));
        let desk = Desk { py, core: core.0, course: &course, queued: &queued };
        let begun = reading.read_on(desk).and_then(|()| match reading.failure.take() {
            // Nothing comes before it.
            Some(error) if reading.ahead() == 0 => Err(error::raise(py, error)),
            failure => {
                reading.failure = failure;
                Ok(())
            }
        });
        if let Err(error) = begun {
            reading.close(desk);
            return Err(error);
        }
        let core = core.0.clone_ref(py);
        let runner = runner.clone().unbind();
        Ok(Self { core, runner, course, queued, reading: Guarded::new(Some(reading)) })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.advance(py)
    }

    /// Ends the iteration and cancels what has not started; may be called again.
    fn close(&self, py: Python<'_>) {
        self.course.close();
        let desk = self.desk(py);
        match self.reading.with(py, Option::take) {
            Some(reading) => reading.close(desk),
            // Another thread reads on or waits, which may be long in coming.
            None => desk.cancel(),
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _exc_type: &Bound<'_, PyAny>,
        _exc: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        self.close(py);
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let counts = self.reading.with(py, |reading| {
            let reading = reading.as_deref()?;
            let done = reading.done();
            let read = reading.handed + reading.at as u64 + reading.ahead();
            Some((done, read.saturating_sub(done)))
        });
        let state = match counts {
            Some((done, waiting)) => format!("{done} items done, {waiting} waiting"),
            None if self.course.is_closed() => "closed".to_owned(),
            None => "being read".to_owned(),
        };
        format!("<Results of runner '{}': {state}>", self.core.get().engine.settings.name)
    }

    /// Results still to come, when every input has a length.
    fn __length_hint__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let left = self.reading.with(py, |reading| match reading {
            Some(reading) => {
                reading.total.map(|total| total.saturating_sub(reading.handed + reading.at as u64))
            }
            None => self.course.is_closed().then_some(0),
        });
        match left {
            Some(left) => Ok(left.into_pyobject(py)?.into_any().unbind()),
            None => Ok(py.NotImplemented()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.runner)?;
        self.queued.with_world_stopped(|queued| {
            queued.values().try_for_each(|(batch, ticket)| {
                visit.call(batch)?;
                visit.call(ticket)
            })
        })?;
        self.reading.with_world_stopped(|reading| {
            let Some(reading) = reading.as_deref() else {
                return Ok(());
            };
            for flight in reading.all() {
                visit.call(&flight.batch)?;
                visit.call(&flight.ticket)?;
            }
            let Held { items, context } = &reading.held;
            reading.inputs.iter().chain(items).try_for_each(|object| visit.call(object))?;
            visit.call(context.as_ref().and_then(Snapshot::peek))?;
            if let Some((item, context)) = &reading.odd {
                visit.call(item)?;
                visit.call(context.as_ref().and_then(Snapshot::peek))?;
            }
            visit.call(&reading.failure)?;
            visit.call(&reading.function)
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        self.close(py);
    }
}

/// Has the interpreter call [`next`] for the next result, which is quicker than `PyO3`'s slot by half of its cost.
pub(super) fn install(py: Python<'_>) -> PyResult<()> {
    let class = Results::type_object(py);
    // SAFETY: a live type that has this slot, before any object of it exists.
    let slot = unsafe { &mut (*class.as_type_ptr()).tp_iternext };
    let long_way = slot.ok_or_else(|| PyRuntimeError::new_err("Results has lost its slot"))?;
    LONG_WAY.get_or_init(py, || long_way);
    *slot = Some(next);
    Ok(())
}

static LONG_WAY: PyOnceLock<ffi::iternextfunc> = PyOnceLock::new();

/// What the interpreter calls.
unsafe extern "C" fn next(of: door::Object) -> door::Object {
    // SAFETY: the interpreter calls its slots attached, with an object of the type.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: as above, borrowed for the call.
    let this = unsafe { Borrowed::from_ptr(py, of).cast_unchecked::<Results>() };
    if let Some(value) = this.get().reading.with(py, |reading| reading.as_deref_mut()?.ready()) {
        return value;
    }
    match LONG_WAY.get(py) {
        // SAFETY: the slot that was there, called as the interpreter would.
        Some(long_way) => unsafe { long_way(of) },
        None => std::ptr::null_mut(),
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        // SAFETY: as for a batch: where objects die, a thread is attached.
        self.close(unsafe { Python::assume_attached() });
    }
}

/// The length of the shortest input, if all have one.
fn shortest(inputs: &Bound<'_, PyTuple>) -> PyResult<Option<u64>> {
    let py = inputs.py();
    let mut shortest = None;
    for input in inputs {
        match input.len() {
            Ok(length) => {
                shortest = Some(shortest.unwrap_or(u64::MAX).min(length as u64));
            }
            Err(error)
                if error.is_instance_of::<PyTypeError>(py)
                    || error.is_instance_of::<PyOverflowError>(py) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(shortest)
}

/// Whether reading an iterator on runs no code but the interpreter's own, which changes no context variable.
fn is_inert(py: Python<'_>, iterator: &Py<PyAny>) -> bool {
    static TYPES: PyOnceLock<Vec<Py<PyAny>>> = PyOnceLock::new();
    let types = TYPES.get_or_try_init(py, || {
        let range = PyRange::new(py, 0, 0)?.into_any();
        let list = PyList::empty(py).into_any();
        let tuple = PyTuple::empty(py).into_any();
        let mut types = Vec::new();
        for input in [range, list, tuple] {
            types.push(input.try_iter()?.get_type().into_any().unbind());
        }
        PyResult::Ok(types)
    });
    let Ok(types) = types else {
        return false;
    };
    types.iter().any(|known| known.is(iterator.bind(py).get_type()))
}

/// Whether an item was read in the context that others were.
fn is_same(py: Python<'_>, one: Option<&Snapshot>, other: Option<&Snapshot>) -> bool {
    match (one.and_then(Snapshot::peek), other.and_then(Snapshot::peek)) {
        (Some(one), Some(other)) => variables::are_same(py, one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}
