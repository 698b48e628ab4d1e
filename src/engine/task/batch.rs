//! Many small tasks behind one entry of a lane, dealt out one by one to every worker that has time.
//!
//! A batch has a word like any task. It is *waiting* or *again* while its entry stands in a lane, *running* while
//! workers deal its items out and no entry is there, and *finished* once nobody can claim an item any more. Putting
//! the entry back invites one more worker. An item counts as a task of its own from the submit on: in the gate, in the
//! bound, in the tallies. What is not plain about an item (a retry, a judgement) the host makes a task of.

use super::{Claim, Taken};
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::figures::Counter;
use crate::engine::host::Host;
use crate::engine::queue::Closed;
use crate::engine::queue::lanes::{Class, Seen};
use crate::engine::worker::badge::Running;
use crate::engine::worker::desk::Desk;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;

/// A worker writes down what it did about this often.
const STRIDE: Tick = 20_000;
/// It does so after so many items even if they are quicker than anything.
const LONGEST_STRIDE: u64 = 256;
/// After an item that took so long lately the worker looks at the clock: the next may take longer.
const NOTICEABLE: Tick = 1_000;
/// After so many quicker ones it does so too. After each it would cost a fifth of what is done for one.
const QUICK_ITEMS: u64 = 8;
/// Items that take longer are worth the company of other workers, few as they may be,
const LONG: Tick = 5_000;
/// and so are so many short ones as take this long. With an interpreter lock another worker would only wait for it.
const MUCH: Tick = if cfg!(Py_GIL_DISABLED) { 20_000 } else { 1_000_000 };

/// How long one of the items of a kind takes, lately. Shared by the batches of one call.
#[derive(Debug, Default)]
pub struct Pace {
    /// Nanoseconds; zero when nothing is known. Relaxed: an estimate, of which a lost update is no harm.
    span: AtomicU64,
}

impl Pace {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nanoseconds of one item, at least one.
    pub fn get(&self) -> Option<Tick> {
        Some(self.span.load(Ordering::Relaxed)).filter(|span| *span > 0)
    }

    /// Says that items take long, against what was measured: one of them does not come to an end.
    pub fn doubt(&self, span: Tick) {
        self.span.fetch_max(span, Ordering::Relaxed);
    }

    fn note(&self, span: Tick) {
        let next = self.get().map_or(span, |before| before.midpoint(span));
        self.span.store(next.max(1), Ordering::Relaxed);
    }
}

/// Who may start which item of a batch. A claimed item is its claimer's alone.
#[derive(Debug)]
pub struct Deal {
    /// Its number among the batches of its engine. Written by the submitter, before a worker knows of the batch.
    number: AtomicU64,
    /// The first item that nobody has claimed. Beyond `size` by as many as came too late.
    next: AtomicUsize,
    size: usize,
    /// Whoever claims or withdraws holds a lock of the host's, which is guard enough.
    guarded: bool,
    since: Tick,
    pace: Arc<Pace>,
}

impl Deal {
    /// The items of a batch that is queued now.
    pub fn new(size: usize, since: Tick, pace: Arc<Pace>) -> Self {
        let (number, next) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { number, next, size, guarded: false, since, pace }
    }

    /// The same where a scope of the host's is proof of holding a lock: no two threads claim at a time, and no atomic
    /// addition is needed, which would cost a quick item a tenth of all that is done for it.
    #[must_use]
    pub fn guarded(self) -> Self {
        Self { guarded: true, ..self }
    }

    /// How many items nobody has claimed.
    pub fn left(&self) -> usize {
        self.size.saturating_sub(self.next.load(Ordering::Acquire))
    }

    pub(in crate::engine) fn claim(&self) -> Option<usize> {
        // The look before keeps the number from growing without end.
        if self.left() == 0 {
            return None;
        }
        let item = if self.guarded {
            let item = self.next.load(Ordering::Relaxed);
            self.next.store(item + 1, Ordering::Release);
            item
        } else {
            self.next.fetch_add(1, Ordering::AcqRel)
        };
        (item < self.size).then_some(item)
    }

    /// Claims all that is left, so that nobody starts it.
    pub(in crate::engine) fn withdraw(&self) -> Range<usize> {
        let first = self.next.swap(usize::MAX / 2, Ordering::AcqRel);
        first.min(self.size)..self.size
    }

    fn stride(&self) -> u64 {
        self.pace.get().map_or(1, |span| (STRIDE / span).clamp(1, LONGEST_STRIDE))
    }

    /// After how many items the clock is looked at.
    fn between_looks(&self) -> u64 {
        if self.pace.get().is_none_or(|span| span >= NOTICEABLE) { 1 } else { QUICK_ITEMS }
    }
}

/// Every batch of an engine that a worker may still claim an item of, wherever it is: in a lane, at a worker, or on its
/// way from one to the other. So a kill that answers what waits misses none.
#[derive(Debug)]
pub(in crate::engine) struct Batches<T> {
    state: Mutex<Known<T>>,
}

#[derive(Debug)]
struct Known<T> {
    /// How many ever were: it numbers the next one.
    count: u64,
    tasks: BTreeMap<u64, T>,
}

impl<T> Batches<T> {
    pub(in crate::engine) fn new() -> Self {
        Self { state: Mutex::new(Known { count: 0, tasks: BTreeMap::new() }) }
    }

    /// Puts a batch down with a handle of this list's own.
    fn add(&self, deal: &Deal, task: T) {
        let mut state = self.state.lock();
        state.count += 1;
        let number = state.count;
        // Relaxed: the batch is handed on by the lanes, or found here under the lock.
        deal.number.store(number, Ordering::Relaxed);
        state.tasks.insert(number, task);
    }

    fn remove(&self, deal: &Deal) -> Option<T> {
        self.state.lock().tasks.remove(&deal.number.load(Ordering::Relaxed))
    }

    /// Handles, made by `share`, which does no more, on those that `is_meant` says.
    fn all(&self, is_meant: impl Fn(&T) -> bool, share: impl Fn(&T) -> T) -> Vec<T> {
        let state = self.state.lock();
        state.tasks.values().filter(|task| is_meant(task)).map(share).collect()
    }
}

/// Some items that a worker runs one after the other, with a few loads in between: until they are enough, take longer
/// than they were taken to, or the worker has something better to do. Whatever ends a batch ends a stride of it.
#[derive(Debug)]
pub struct Stride {
    most: u64,
    ran: Cell<u64>,
    begin: Tick,
    /// After how many items in all the clock is looked at next, and after how many more each time.
    look: Cell<u64>,
    between: u64,
    class: Class,
    /// What waited when the worker looked whether that is for it: a look at a clock and under locks, for the whole
    /// stride.
    seen: Seen,
    /// The runner's generation then.
    generation: u64,
}

impl Stride {
    /// How many items were started.
    pub fn ran(&self) -> u64 {
        self.ran.get()
    }
}

impl<H: Host> Engine<H> {
    /// Accepts a batch. The caller holds a permit for each item. Not where workers are hired on demand: one that deals
    /// items out is not counted as engaged.
    ///
    /// # Errors
    ///
    /// The runner is closing: the batch comes back, the permits are given back.
    pub fn submit_batch(
        &self,
        scope: H::Scope<'_>,
        class: Class,
        task: H::Task,
        since: Tick,
        items: usize,
    ) -> Result<(), Closed<H::Task>> {
        debug_assert!(!self.settings.on_demand, "nobody would be hired for it");
        self.note(since);
        // Inside the gate: a kill that closes it and then looks there finds what was accepted, and nothing else.
        let note = |task: &_| {
            if let Some(deal) = self.host.deal(task) {
                self.batches.add(deal, self.host.share(scope, task));
            }
        };
        let pushed = self.main.push_batch(class, task, since, items, note).inspect_err(|_| {
            if let Some(permits) = &self.main.permits {
                (0..items).for_each(|_| permits.give_back());
            }
        });
        self.load_grew(since);
        pushed
    }

    /// Asks one more worker to a batch that others deal out, if items are left and nobody is asked already.
    pub fn invite(&self, scope: H::Scope<'_>, task: &H::Task) {
        let word = self.host.word(task);
        if word.again() {
            self.main.rejoin(word.class(), self.host.share(scope, task), self.clock.now());
        }
    }

    /// Takes back what nobody has started, books it as cancelled, and leaves it to the caller to drop.
    pub fn cancel_items(&self, scope: H::Scope<'_>, task: &H::Task) -> Range<usize> {
        let items = self.host.deal(task).map_or(0..0, Deal::withdraw);
        self.main.items_withdrawn(self.host.word(task), items.len());
        self.book_cancelled(items.len());
        self.dealt_out(scope, task);
        items
    }

    /// Answers what nobody has started of a batch whose items must not run any more.
    pub(in crate::engine) fn answer_items(&self, scope: H::Scope<'_>, task: &H::Task) {
        let items = self.host.deal(task).map_or(0..0, Deal::withdraw);
        self.refuse_items(scope, task, items);
        self.dealt_out(scope, task);
    }

    /// Takes back what no worker has started of the batches submitted up to then, books it as dropped, and leaves it to
    /// `settle`.
    pub(in crate::engine) fn withdraw_items(
        &self,
        scope: H::Scope<'_>,
        then: Tick,
        mut settle: impl FnMut(&H::Task, Range<usize>),
    ) {
        for task in self.batches_until(scope, then) {
            let items = self.host.deal(&task).map_or(0..0, Deal::withdraw);
            if !items.is_empty() {
                self.main.items_withdrawn(self.host.word(&task), items.len());
                (0..items.len()).for_each(|_| self.book_refusal(true));
                settle(&task, items);
            }
            self.dealt_out(scope, &task);
            self.host.discard(scope, task);
        }
    }

    fn batches_until(&self, scope: H::Scope<'_>, then: Tick) -> Vec<H::Task> {
        let is_meant = |task: &_| self.host.deal(task).is_some_and(|deal| deal.since <= then);
        self.batches.all(is_meant, |task| self.host.share(scope, task))
    }

    fn forget_batch(&self, scope: H::Scope<'_>, task: &H::Task) {
        let known = self.host.deal(task).and_then(|deal| self.batches.remove(deal));
        if let Some(known) = known {
            self.host.discard(scope, known);
        }
    }

    fn refuse_items(&self, scope: H::Scope<'_>, task: &H::Task, items: Range<usize>) {
        if items.is_empty() {
            return;
        }
        self.main.items_withdrawn(self.host.word(task), items.len());
        (0..items.len()).for_each(|_| self.book_refusal(true));
        self.host.refuse_items(scope, task, items, self.refusal());
    }

    /// Answers the batch of an entry taken out of a lane; false for a tombstone.
    pub(in crate::engine) fn answer_batch(&self, scope: H::Scope<'_>, task: &H::Task) -> bool {
        let live = self.host.word(task).claim() != Claim::Lost;
        if live {
            self.answer_items(scope, task);
        }
        live
    }

    /// Answers the batches that stand in no lane, as workers deal them out or are about to.
    pub(in crate::engine) fn answer_batches(&self, scope: H::Scope<'_>) {
        for task in self.batches_until(scope, Tick::MAX) {
            self.answer_items(scope, &task);
            self.host.discard(scope, task);
        }
    }

    /// Nobody can claim an item any more: an entry that is still in a lane is a tombstone from here on.
    fn dealt_out(&self, scope: H::Scope<'_>, task: &H::Task) {
        let word = self.host.word(task);
        let Some(taken) = word.settle_by_hand() else {
            return;
        };
        word.publish(|_| true);
        self.forget_batch(scope, task);
        if taken != Taken::Running {
            self.bury(scope, &self.main);
        }
    }
}

impl<H: Host> Desk<'_, H> {
    /// Deals out items of a claimed batch until none is left, or this worker is wanted elsewhere.
    pub(in crate::engine) fn serve_batch(&self, scope: H::Scope<'_>, task: H::Task) {
        let (engine, host) = (self.engine(), &self.engine().host);
        if let Some(deal) = host.deal(&task) {
            let mut begin = self.last_or_now();
            let shown = host.share(scope, &task);
            self.badge().push_running(Running { task: shown, since: begin });
            let class = host.word(&task).class();
            let mut seen = engine.main.lanes.seen();
            // What came since the batch was taken out of its lane.
            let mut wanted = self.has_more_urgent(class);
            while deal.left() > 0 {
                // A kill answers them all, too; not one after the other, then.
                if engine.is_killed() {
                    engine.answer_items(scope, &task);
                    break;
                }
                if wanted {
                    break;
                }
                self.invite_others(scope, &task, deal);
                let most = if self.cares_for_each() { 1 } else { deal.stride() };
                let latest = engine.failures.latest();
                let stride = self.stride(deal, class, most, begin, seen);
                host.run_items(scope, self, &task, &stride);
                let ran = stride.ran();
                if engine.is_forsaken() {
                    return;
                }
                if ran > 0 && !self.is_spoiled() {
                    self.prove(latest);
                }
                self.book_items(scope, deal, begin, ran);
                begin = self.last_or_now();
                // Before the look at what is for this worker: what comes later is news.
                seen = engine.main.lanes.seen();
                wanted = self.is_wanted_elsewhere(class);
            }
            if let Some(shown) = self.badge().pop_running() {
                host.discard(scope, shown);
            }
            if deal.left() == 0 {
                engine.dealt_out(scope, &task);
            } else {
                engine.invite(scope, &task);
            }
        }
        host.discard(scope, task);
    }

    /// Runs one item of a batch, inside the task that would otherwise wait for it. False when none is left.
    pub fn serve_item_inside(&self, scope: H::Scope<'_>, task: &H::Task) -> bool {
        let host = &self.engine().host;
        let Some(deal) = host.deal(task) else {
            return false;
        };
        let begin = self.now();
        self.badge().push_running(Running { task: host.share(scope, task), since: begin });
        let stride =
            self.stride(deal, host.word(task).class(), 1, begin, self.engine().main.lanes.seen());
        host.run_items(scope, self, task, &stride);
        let ran = stride.ran();
        if let Some(shown) = self.badge().pop_running() {
            host.discard(scope, shown);
        }
        if ran > 0 {
            self.recorder().record(0, self.now().saturating_sub(begin));
        }
        if deal.left() == 0 {
            self.engine().dealt_out(scope, task);
        }
        ran > 0
    }

    fn stride(&self, deal: &Deal, class: Class, most: u64, begin: Tick, seen: Seen) -> Stride {
        let generation = self.engine().renewal.generation();
        let between = deal.between_looks();
        let (ran, look) = (Cell::new(0), Cell::new(between.min(most)));
        Stride { most, ran, begin, look, between, class, seen, generation }
    }

    /// Whether the stride goes on after the items that it ran. The first is run in any case: the one item that a
    /// worker is asked for inside a task has no other worker to run it.
    fn goes_on(&self, stride: &Stride) -> bool {
        let (engine, ran) = (self.engine(), stride.ran.get());
        if ran == 0 {
            return true;
        }
        if ran >= stride.look.get() {
            if ran >= stride.most || self.now().saturating_sub(stride.begin) >= STRIDE {
                return false;
            }
            stride.look.set((ran + stride.between).min(stride.most));
        }
        !self.is_spoiled()
            && !self.is_doubtful()
            && engine.renewal.generation() == stride.generation
            && !engine.main.lanes.has_news_above(stride.class, &stride.seen)
    }

    /// Starts the next item of a stride, unless that is over, none is left or the runner was killed. For
    /// [`Host::run_items`].
    pub fn start_item(
        &self,
        scope: H::Scope<'_>,
        task: &H::Task,
        deal: &Deal,
        stride: &Stride,
    ) -> Option<usize> {
        if !self.goes_on(stride) {
            return None;
        }
        let item = deal.claim()?;
        // After the claim, as for every task.
        if self.engine().is_killed() {
            if !self.engine().is_forsaken() {
                self.engine().refuse_items(scope, task, item..item + 1);
            }
            return None;
        }
        self.engine().main.taken(self.engine().host.word(task), true);
        self.recorder().count(Counter::Started);
        stride.ran.set(stride.ran.get() + 1);
        Some(item)
    }

    /// Books the outcome of an item, right before it is published.
    pub fn item_ended(&self, completed: bool) {
        self.recorder().count(if completed { Counter::Completed } else { Counter::Failed });
        self.recorder().count(Counter::Ended);
    }

    /// Decides on an error that an item ended with. The host made a running task of the item, which holds it.
    pub fn item_failed(&self, scope: H::Scope<'_>, task: H::Task) {
        // No retry from inside another task, as the resource is that one's too.
        let may_retry = !self.badge().runs_within();
        if self.judge_item(scope, &task, may_retry) {
            self.queue_again(task, self.now());
        } else {
            self.engine().host.discard(scope, task);
        }
    }

    fn book_items(&self, scope: H::Scope<'_>, deal: &Deal, begin: Tick, ran: u64) {
        let now = self.now();
        let span = now.saturating_sub(begin) / ran.max(1);
        if ran > 0 {
            deal.pace.note(span);
            self.engine().note(now);
            self.recorder().record_many(begin.saturating_sub(deal.since), span, ran);
        }
        self.served_items(scope, now, span, ran);
    }

    fn invite_others(&self, scope: H::Scope<'_>, task: &H::Task, deal: &Deal) {
        let others = deal.left().saturating_sub(1) as u64;
        if others == 0 {
            return;
        }
        // Also when nobody sleeps: who is just about to would not hear of it later.
        let worth = |span: Tick| span >= LONG || span.saturating_mul(others) >= MUCH;
        if deal.pace.get().is_none_or(worth) {
            self.engine().invite(scope, task);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn deal(size: usize) -> Deal {
        Deal::new(size, 0, Arc::new(Pace::new()))
    }

    #[test]
    fn an_item_is_claimed_once_and_what_is_withdrawn_never() {
        let deal = deal(4);
        assert_eq!([deal.claim(), deal.claim()], [Some(0), Some(1)]);
        assert_eq!(deal.left(), 2);
        assert_eq!(deal.withdraw(), 2..4);
        assert_eq!((deal.claim(), deal.left()), (None, 0));
        assert!(deal.withdraw().is_empty());
    }

    #[test]
    fn under_a_lock_of_the_hosts_items_are_claimed_once_too() {
        let deal = deal(3).guarded();
        assert_eq!([deal.claim(), deal.claim()], [Some(0), Some(1)]);
        assert_eq!(deal.withdraw(), 2..3);
        assert_eq!((deal.claim(), deal.left()), (None, 0));
    }

    #[test]
    fn a_stride_is_one_item_until_something_is_known_and_short_when_items_are_long() {
        let deal = deal(1_000);
        assert_eq!(deal.stride(), 1);
        deal.pace.note(1_000);
        assert_eq!(deal.stride(), 20);
        deal.pace.doubt(STRIDE);
        assert_eq!(deal.stride(), 1);
        for _ in 0..40 {
            deal.pace.note(1);
        }
        assert_eq!(deal.stride(), LONGEST_STRIDE);
    }
}
