//! Cancellation tokens: a tree in which cancelling one cancels all below it.
//!
//! A child holds its parent; a parent knows its children weakly, and a child that goes takes itself
//! off the parent's list. So a token dropped in the middle of the tree still passes a cancel on,
//! and a long-lived parent costs nothing for the children that came and went.
//!
//! Each token has one lock, and no two are ever held at once. Cancelling walks the tree twice, both
//! times without recursion: first every token below is flagged, then the threads that watch them
//! are woken and the closures run, with no lock held. Hence a closure may use any token, cancel it
//! too.

use crate::engine::clock::Tick;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::Thread;
use crate::sync::{Arc, Mutex, Weak};
use std::collections::BTreeMap;

/// A cancellation token with an optional deadline. Clones are the same token.
///
/// It reads no clock: a deadline that passes shows in [`is_cancelled`](Token::is_cancelled), but
/// wakes no thread and runs nothing. The thread that keeps the time calls [`cancel`](Token::cancel)
/// for that.
#[derive(Clone)]
pub struct Token {
    node: Arc<Node>,
}

struct Node {
    /// Written once, to true, by the thread that cancels, under the lock of `state`; read with and
    /// without it. Release and acquire, so that a thread that sees the flag sees what the
    /// canceller did before.
    cancelled: AtomicBool,
    /// Fixed at birth.
    deadline: Option<Tick>,
    /// Fixed at birth and taken by `drop`, which is alone with the node. `None` for a root, and
    /// for a token born cancelled, which no parent has to tell.
    parent_link: Option<ParentLink>,
    state: Mutex<NodeState>,
}

/// Where a child is on its parent's list.
struct ParentLink {
    parent: Arc<Node>,
    key: u64,
}

#[derive(Default)]
struct NodeState {
    /// Written with the flag.
    reason: Option<Arc<str>>,
    /// The key of the next entry of either map: keys are never used twice, and sorted by age.
    next_key: u64,
    /// The living children. Taken with the flag, empty from then on.
    children: BTreeMap<u64, Weak<Node>>,
    /// What to do on cancel. Only the thread that set the flag takes entries, one by one; the
    /// owner of a reaction removes its own at any time. Nothing is added once the flag is set.
    reactions: BTreeMap<u64, Reaction>,
}

/// What is called on cancel.
type Reaction = Box<dyn FnOnce() + Send>;

impl Token {
    /// A root: not cancelled, no deadline.
    pub fn new() -> Self {
        Self { node: Arc::new(Node::new(None, None, NodeState::default(), false)) }
    }

    /// A token that is cancelled with this one. Its deadline is the earlier of `deadline` and this
    /// one's. The child of a cancelled token is born cancelled, for the same reason.
    #[must_use = "nothing else refers to the new token"]
    pub fn child(&self, deadline: Option<Tick>) -> Self {
        let parent = &self.node;
        let deadline = parent.deadline.into_iter().chain(deadline).min();
        let mut state = parent.state.lock();
        if parent.is_flagged() {
            let inherited = NodeState { reason: state.reason.clone(), ..NodeState::default() };
            return Self { node: Arc::new(Node::new(deadline, None, inherited, true)) };
        }
        let key = state.take_key();
        let parent_link = ParentLink { parent: Arc::clone(parent), key };
        let node = Arc::new(Node::new(deadline, Some(parent_link), NodeState::default(), false));
        state.children.insert(key, Arc::downgrade(&node));
        Self { node }
    }

    /// Cancels this token and all below it, and tells whether this call did it.
    ///
    /// The first reason stays. When closures run and threads wake, everything below is flagged,
    /// except what another call of `cancel` is busy flagging, further down, at this very moment.
    #[expect(clippy::needless_pass_by_value, reason = "callers make one for this call")]
    pub fn cancel(&self, reason: Option<Arc<str>>) -> bool {
        let mut flagged = Vec::new();
        let mut open = vec![Arc::clone(&self.node)];
        while let Some(node) = open.pop() {
            if let Some(children) = node.flag(reason.as_ref()) {
                open.extend(children.into_values().filter_map(|child| child.upgrade()));
                flagged.push(node);
            }
        }
        for node in &flagged {
            node.react();
        }
        !flagged.is_empty()
    }

    /// Whether the token is cancelled or its deadline has come by `now`.
    pub fn is_cancelled(&self, now: Tick) -> bool {
        self.cancelled_flag() || self.node.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Whether the token or one above it was cancelled, whatever the deadline. One load.
    pub fn cancelled_flag(&self) -> bool {
        self.node.is_flagged()
    }

    /// The reason given to the `cancel` that reached this token, if any was.
    pub fn reason(&self) -> Option<Arc<str>> {
        self.node.state.lock().reason.clone()
    }

    /// The earliest deadline from here up to the root.
    pub fn deadline(&self) -> Option<Tick> {
        self.node.deadline
    }

    /// Has `thread` unparked on cancel, at once if that has been, until the watch is dropped.
    ///
    /// The watching thread looks at the token after it began to watch and after each wake-up, as an
    /// unpark can come from anywhere.
    pub fn watch(&self, thread: Thread) -> CancelRegistration {
        self.on_cancel(Box::new(move || thread.unpark()))
    }

    /// Runs `call` once, on cancel, in the thread that cancels; at once, here, if that has been.
    ///
    /// Once the hook is dropped a call that has not begun never begins; one that has may still be
    /// running, in another thread. The call must not panic, nor block: the closures and threads
    /// after it wait for it. It must not own this very token, which would then keep itself alive.
    pub fn on_cancel(&self, call: Box<dyn FnOnce() + Send>) -> CancelRegistration {
        CancelRegistration { key: self.react(call), token: self.clone() }
    }

    /// [`on_cancel`](Self::on_cancel) for a call that stays registered for as long as the token
    /// lives, or until it is [deregistered](Self::deregister).
    pub fn react(&self, call: Box<dyn FnOnce() + Send>) -> ReactionKey {
        let mut state = self.node.state.lock();
        let key = state.take_key();
        if self.node.is_flagged() {
            drop(state);
            call();
        } else {
            state.reactions.insert(key, call);
        }
        ReactionKey(key)
    }

    /// Deregisters a call: if it has not begun it never begins.
    pub fn deregister(&self, ReactionKey(key): ReactionKey) {
        // The call outlives the lock: dropping a closure may run anything.
        let removed = self.node.state.lock().reactions.remove(&key);
        drop(removed);
    }
}

impl Node {
    fn new(
        deadline: Option<Tick>,
        parent_link: Option<ParentLink>,
        state: NodeState,
        cancelled: bool,
    ) -> Self {
        let cancelled = AtomicBool::new(cancelled);
        Self { cancelled, deadline, parent_link, state: Mutex::new(state) }
    }

    fn is_flagged(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Flags the node and hands out its children; `None` when it was flagged before.
    fn flag(&self, reason: Option<&Arc<str>>) -> Option<BTreeMap<u64, Weak<Node>>> {
        let mut state = self.state.lock();
        if self.is_flagged() {
            return None;
        }
        state.reason = reason.cloned();
        self.cancelled.store(true, Ordering::Release);
        Some(std::mem::take(&mut state.children))
    }

    /// Runs the reactions, oldest first, one by one: an earlier one may deregister a later one.
    fn react(&self) {
        loop {
            // A statement of its own, so that the lock is free again when the reaction runs.
            let next = self.state.lock().reactions.pop_first();
            let Some((_, reaction)) = next else { return };
            reaction();
        }
    }
}

impl Drop for Node {
    /// Takes the node off its parent's list, then the parent off its own if this was the last to
    /// hold it, and so on: a chain of any length goes without recursion.
    fn drop(&mut self) {
        let mut next = self.parent_link.take();
        while let Some(ParentLink { parent, key }) = next {
            parent.state.lock().children.remove(&key);
            next = Arc::into_inner(parent).and_then(|mut node| node.parent_link.take());
        }
    }
}

impl NodeState {
    fn take_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }
}

/// Keeps a closure registered, or a thread; see [`Token::on_cancel`] and [`Token::watch`].
#[must_use = "it is deregistered when this is dropped"]
pub struct CancelRegistration {
    token: Token,
    key: ReactionKey,
}

/// A call registered with [`Token::react`].
#[derive(Debug, Clone, Copy)]
pub struct ReactionKey(u64);

impl Drop for CancelRegistration {
    fn drop(&mut self) {
        self.token.deregister(self.key);
    }
}

#[cfg(all(test, not(loom)))]
#[expect(clippy::disallowed_methods, reason = "tests start threads of their own")]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    /// Longer than any of these tests takes; a wait that ends by it was not woken.
    const FOREVER: Duration = Duration::from_secs(60);

    #[expect(clippy::unnecessary_wraps, reason = "what `cancel` takes and `reason` gives")]
    fn why(text: &str) -> Option<Arc<str>> {
        Some(Arc::from(text))
    }

    /// A counter and a closure that raises it.
    fn counting() -> (Arc<AtomicUsize>, Box<dyn FnOnce() + Send>) {
        let count = Arc::new(AtomicUsize::new(0));
        let inner = Arc::clone(&count);
        (count, Box::new(move || _ = inner.fetch_add(1, Ordering::SeqCst)))
    }

    fn sizes(token: &Token) -> (usize, usize) {
        let state = token.node.state.lock();
        (state.children.len(), state.reactions.len())
    }

    #[test]
    fn can_be_shared_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<Token>();
        check::<CancelRegistration>();
    }

    #[test]
    fn the_first_cancel_wins_and_its_reason_stays() {
        let token = Token::new();
        assert!(!token.cancelled_flag());
        assert!(!token.is_cancelled(Tick::MAX));
        assert_eq!(token.reason(), None);
        assert!(token.cancel(why("first")));
        assert!(!token.cancel(why("second")));
        assert!(token.cancelled_flag());
        assert!(token.is_cancelled(0));
        assert_eq!(token.reason(), why("first"));
    }

    #[test]
    fn a_cancel_without_reason_keeps_later_reasons_out() {
        let token = Token::new();
        assert!(token.cancel(None));
        token.cancel(why("late"));
        assert_eq!(token.reason(), None);
    }

    #[test]
    fn cancel_goes_down_and_nowhere_else() {
        let root = Token::new();
        let (left, right) = (root.child(None), root.child(None));
        let below = left.child(None);
        assert!(left.cancel(why("left")));
        for (token, cancelled) in [(&root, false), (&left, true), (&right, false), (&below, true)] {
            assert_eq!(token.cancelled_flag(), cancelled);
            assert_eq!(token.reason(), if cancelled { why("left") } else { None });
        }
    }

    #[test]
    fn a_child_cancelled_first_keeps_its_reason() {
        let root = Token::new();
        let child = root.child(None);
        let grandchild = child.child(None);
        child.cancel(why("own"));
        assert!(root.cancel(why("root")));
        assert_eq!(child.reason(), why("own"));
        assert_eq!(grandchild.reason(), why("own"));
    }

    #[test]
    fn a_token_dropped_in_the_middle_still_passes_a_cancel_on() {
        let root = Token::new();
        let leaf = root.child(None).child(None).child(None);
        root.cancel(why("root"));
        assert_eq!(leaf.reason(), why("root"));
    }

    #[test]
    fn a_child_of_a_cancelled_token_is_born_cancelled() {
        let root = Token::new();
        root.cancel(why("over"));
        let child = root.child(Some(5));
        assert!(child.cancelled_flag());
        assert!(!child.cancel(why("again")));
        assert_eq!(child.reason(), why("over"));
        assert_eq!(child.deadline(), Some(5));
        assert_eq!(sizes(&root), (0, 0));
    }

    #[test]
    fn a_child_takes_the_earlier_deadline() {
        for (above, own, expected) in [
            (None, None, None),
            (None, Some(7), Some(7)),
            (Some(7), None, Some(7)),
            (Some(3), Some(7), Some(3)),
            (Some(7), Some(3), Some(3)),
        ] {
            let child = Token::new().child(above).child(own);
            assert_eq!(child.deadline(), expected, "{above:?} {own:?}");
        }
    }

    #[test]
    fn a_deadline_counts_from_its_tick_on_and_sets_no_flag() {
        let token = Token::new().child(Some(100));
        assert_eq!([99, 100, 101].map(|now| token.is_cancelled(now)), [false, true, true]);
        assert!(!token.cancelled_flag());
        assert!(token.cancel(why("time limit")));
        assert!(token.is_cancelled(0));
    }

    #[test]
    fn cancel_wakes_a_watching_thread() {
        let root = Token::new();
        let token = root.child(None);
        let (ready, watching) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let begin = Instant::now();
            let watch = token.watch(thread::current());
            ready.send(()).expect("the test waits");
            while !token.cancelled_flag() && begin.elapsed() < FOREVER {
                thread::park_timeout(FOREVER);
            }
            drop(watch);
            begin.elapsed()
        });
        watching.recv().expect("the waiter lives");
        root.cancel(None);
        assert!(waiter.join().expect("no panic") < FOREVER);
    }

    #[test]
    fn watching_a_cancelled_token_wakes_at_once() {
        let token = Token::new();
        token.cancel(None);
        let begin = Instant::now();
        let _watch = token.watch(thread::current());
        thread::park_timeout(FOREVER);
        assert!(begin.elapsed() < FOREVER);
        assert_eq!(sizes(&token), (0, 0));
    }

    #[test]
    fn a_dropped_watch_or_hook_leaves_nothing_behind() {
        let token = Token::new();
        let (count, call) = counting();
        let watch = token.watch(thread::current());
        let hook = token.on_cancel(call);
        assert_eq!(sizes(&token), (0, 2));
        drop(watch);
        drop(hook);
        assert_eq!(sizes(&token), (0, 0));
        assert_eq!(Arc::strong_count(&count), 1, "the closure is gone");
        token.cancel(None);
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_hook_runs_once_and_oldest_first() {
        let token = Token::new();
        let (sender, ran) = mpsc::channel();
        let hooks: Vec<_> = (0..5)
            .map(|n| {
                let sender = sender.clone();
                token.on_cancel(Box::new(move || sender.send(n).expect("the test waits")))
            })
            .collect();
        token.cancel(None);
        token.cancel(None);
        drop(hooks);
        assert_eq!(ran.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_late_hook_runs_at_once_in_the_caller() {
        let token = Token::new();
        token.cancel(None);
        let (sender, ran) = mpsc::channel();
        let _hook = token.on_cancel(Box::new(move || {
            sender.send(thread::current().id()).expect("the test waits");
        }));
        assert_eq!(ran.try_recv(), Ok(thread::current().id()));
        assert_eq!(sizes(&token), (0, 0));
    }

    #[test]
    fn a_hook_may_use_the_tokens_and_sees_all_of_them_cancelled() {
        let root = Token::new();
        let child = root.child(None);
        let leaf = child.child(None);
        let (late, call) = counting();
        let (above, below) = (Arc::downgrade(&root.node), leaf.clone());
        let (count, done) = counting();
        let _hook = root.on_cancel(Box::new(move || {
            let root = Token { node: above.upgrade().expect("the test holds it") };
            assert!(below.cancelled_flag());
            assert!(!root.cancel(why("again")));
            assert!(root.child(None).cancelled_flag());
            drop(root.on_cancel(call));
            drop(root.watch(thread::current()));
            assert_eq!(root.reason(), why("once"));
            done();
        }));
        root.cancel(why("once"));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!(late.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_hook_may_drop_a_later_hook_of_the_same_cancel() {
        let token = Token::new();
        let (count, call) = counting();
        let slot = Arc::new(Mutex::new(None));
        let inner = Arc::clone(&slot);
        let _first = token.on_cancel(Box::new(move || drop(inner.lock().take())));
        *slot.lock() = Some(token.on_cancel(call));
        token.cancel(None);
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_token_takes_its_closures_with_it() {
        let token = Token::new();
        let (count, call) = counting();
        drop(token.on_cancel(call));
        assert_eq!(Arc::strong_count(&count), 1);
        let (count, call) = counting();
        let hook = token.on_cancel(call);
        drop(token);
        assert_eq!(Arc::strong_count(&count), 2, "the hook holds the token");
        drop(hook);
        assert_eq!(Arc::strong_count(&count), 1);
    }

    #[test]
    fn a_parent_does_not_grow_with_children_that_came_and_went() {
        let root = Token::new();
        let kept = root.child(None);
        let rounds = if cfg!(miri) { 1_000 } else { 1_000_000 };
        for _ in 0..rounds {
            let child = root.child(None);
            drop(child.watch(thread::current()));
            assert_eq!(root.node.state.lock().children.len(), 2);
        }
        assert_eq!(sizes(&root), (1, 0));
        root.cancel(None);
        assert!(kept.cancelled_flag());
        assert_eq!(sizes(&root), (0, 0));
    }

    /// Runs on a stack on which a frame for each level would not fit.
    fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
        let thread = thread::Builder::new().stack_size(128 * 1024).spawn(test);
        thread.expect("a thread").join().expect("no panic");
    }

    fn chain(root: &Token) -> Token {
        (0..100_000).fold(root.clone(), |token, _| token.child(None))
    }

    #[test]
    fn a_deep_tree_is_cancelled_and_dropped_without_recursion() {
        on_a_small_stack(|| {
            let root = Token::new();
            let leaf = chain(&root);
            assert!(root.cancel(why("deep")));
            assert_eq!(leaf.reason(), why("deep"));
            drop(leaf);
        });
    }

    #[test]
    fn a_deep_tree_is_dropped_from_either_end() {
        on_a_small_stack(|| {
            let root = Token::new();
            let leaf = chain(&root);
            drop(leaf);
            assert_eq!(sizes(&root), (0, 0));
            let leaf = chain(&root);
            drop(root);
            assert!(!leaf.cancelled_flag());
        });
    }

    #[test]
    fn of_many_cancels_at_once_one_wins_and_the_hook_runs_once() {
        const THREADS: usize = 3;
        for round in 0..if cfg!(miri) { 6 } else { 300 } {
            let root = Token::new();
            let token = root.child(None);
            let (count, call) = counting();
            let hook = token.on_cancel(call);
            let start = Barrier::new(THREADS + 1);
            let won = thread::scope(|scope| {
                let cancel = || {
                    start.wait();
                    usize::from(token.cancel(None))
                };
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(cancel)).collect();
                start.wait();
                // In odd rounds the cancel of the parent is in the race too, and may win it.
                let above = round % 2 == 1 && root.cancel(None);
                let won: usize = threads.into_iter().map(|t| t.join().expect("no panic")).sum();
                if above { 1.max(won) } else { won }
            });
            assert_eq!(won, 1, "round {round}");
            assert!(token.cancelled_flag());
            assert_eq!(count.load(Ordering::SeqCst), 1, "round {round}");
            drop(hook);
        }
    }

    #[test]
    fn no_child_slips_through_a_concurrent_cancel() {
        for _ in 0..if cfg!(miri) { 5 } else { 200 } {
            let root = Token::new();
            let start = Barrier::new(2);
            let children = thread::scope(|scope| {
                let maker = scope.spawn(|| {
                    start.wait();
                    let mut children = Vec::new();
                    while !root.cancelled_flag() {
                        let child = root.child(None);
                        children.push(child.child(None));
                        children.push(child);
                    }
                    children
                });
                start.wait();
                root.cancel(None);
                maker.join().expect("no panic")
            });
            assert!(children.iter().all(Token::cancelled_flag));
            drop(children);
            assert_eq!(sizes(&root), (0, 0));
        }
    }
}
