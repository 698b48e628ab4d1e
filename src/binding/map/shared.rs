//! What the batches of one `map` and the reader of its results share: how workers wake the reader,
//! and how it stops them.

use crate::binding::current;
use crate::binding::options::TaskOptions;
use crate::binding::wakes;
use crate::engine::metrics::by_name::NameRow;
use crate::engine::relay::Waiter;
use crate::engine::task::item_cursor::ItemCost;
use crate::engine::task::priority::Priority;
use crate::engine::task::token::Token;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use crate::sync::channel::{Receiver, Sender, unbounded};
use crate::sync::{Arc, Mutex, OnceLock};

/// No outcome is waited for.
const NONE_WANTED: u64 = u64::MAX;
/// Whatever ends next is waited for.
const ANY_WANTED: u64 = u64::MAX - 1;
/// How many chunks a waiting reader's wake-up is put off at most while there is more to do: some
/// 0.2 ms.
const MAX_DEFERRED_CHUNKS: u32 = 10;

/// See the module's documentation. No Python object is in it but what the options ask for keys.
pub(super) struct MapShared {
    pub(super) cost: Arc<ItemCost>,
    pub(super) options: Option<Arc<TaskOptions>>,
    /// An item is a tuple of arguments.
    pub(super) spread: bool,
    /// So many items are run by one call: those of a batcher.
    pub(super) group: Option<usize>,
    /// The row of their name in the figures, once one has run.
    pub(super) row: OnceLock<NameRow>,
    /// Cancelled when running items are told to give up. Their contexts are below it.
    pub(super) token: Token,
    /// The number of the item that the reader waits for, or one of the marks above. `SeqCst`
    /// against the slots: the reader writes this and looks at a slot, a worker writes a slot and
    /// looks at this.
    wanted: AtomicU64,
    /// The thread that waits. It and the mark are set and taken together under this lock.
    reader: Mutex<Option<Arc<Waiter>>>,
    /// Chunks that the reader's wake-up has been put off for.
    deferred: AtomicU32,
    /// The numbers of items as they end, where they are handed out so.
    finished: Option<(Sender<u64>, Receiver<u64>)>,
    /// Nothing more is read.
    closed: AtomicBool,
}

impl MapShared {
    pub(super) fn new(
        options: Option<Arc<TaskOptions>>,
        spread: bool,
        ordered: bool,
        group: Option<usize>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cost: Arc::new(ItemCost::new()),
            options,
            spread,
            group,
            row: OnceLock::new(),
            token: Token::new(),
            wanted: AtomicU64::new(NONE_WANTED),
            reader: Mutex::new(None),
            deferred: AtomicU32::new(0),
            finished: (!ordered).then(unbounded),
            closed: AtomicBool::new(false),
        })
    }

    pub(super) fn priority(&self) -> Priority {
        TaskOptions::priority_of(self.options.as_deref())
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.finished.is_none()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends the reading, and wakes a reader that waits.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake(|_| true, |reader| reader.wake());
    }

    /// Notes that an item has its outcome.
    #[inline]
    pub(super) fn note_finished(&self, number: u64) {
        if let Some((numbers, _)) = &self.finished {
            // Both ends live here, so the channel cannot be disconnected.
            let sent = numbers.send(number);
            debug_assert!(sent.is_ok());
        }
    }

    /// The next item that ended.
    pub(super) fn next_finished(&self) -> Option<u64> {
        self.finished.as_ref()?.1.try_recv().ok()
    }

    pub(super) fn has_finished(&self) -> bool {
        self.finished.as_ref().is_some_and(|(_, numbers)| !numbers.is_empty())
    }

    /// Has this thread woken when the item is done, or any, where items are handed out as they end.
    pub(super) fn listen(&self, number: u64) {
        let wanted = if self.is_ordered() { number } else { ANY_WANTED };
        self.deferred.store(0, Ordering::Relaxed);
        {
            let mut reader = self.reader.lock();
            *reader = Some(wakes::this_thread());
            self.wanted.store(wanted, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
    }

    pub(super) fn stop_listening(&self) {
        self.wanted.store(NONE_WANTED, Ordering::SeqCst);
    }

    /// Wakes the reader, if the item that it waits for `is_done` now, by a worker whose batch has
    /// `more` items.
    pub(super) fn wake_reader(&self, more: bool, is_done: impl Fn(u64) -> bool) {
        let is_there = |wanted| match wanted {
            NONE_WANTED => false,
            ANY_WANTED => self.has_finished(),
            number => is_done(number),
        };
        fence(Ordering::SeqCst);
        if !is_there(self.wanted.load(Ordering::SeqCst)) {
            return;
        }
        if more
            && self.cost.get().is_some_and(|span| span < current::QUICK_TASK)
            && self.deferred.fetch_add(1, Ordering::Relaxed) < MAX_DEFERRED_CHUNKS
        {
            // More is to come in a moment: the reader is to find it all at once.
            return;
        }
        self.wake(is_there, |reader| if more { reader.wake() } else { wakes::wake_later(reader) });
    }

    /// Wakes the reader, if what it waits for now `is_there`: without an interpreter's lock it may
    /// have gone on to another item since the caller looked, and a wake-up used up for nothing
    /// would be missing for that one.
    fn wake(&self, is_there: impl FnOnce(u64) -> bool, how: impl FnOnce(Arc<Waiter>)) {
        let reader = {
            let mut reader = self.reader.lock();
            let wanted = self.wanted.load(Ordering::SeqCst);
            if wanted == NONE_WANTED || !is_there(wanted) {
                return;
            }
            self.wanted.store(NONE_WANTED, Ordering::SeqCst);
            reader.take()
        };
        if let Some(reader) = reader {
            how(reader);
        }
    }
}
