//! The races over one task: which worker starts it, which thread gives it its outcome, and which
//! waiters learn of it.

use crate::engine::task::item_cursor::{ItemCost, ItemCursor};
use crate::engine::task::priority::Priority;
use crate::engine::task::task_group::TaskGroup;
use crate::engine::task::{BATCH, Claim, HAS_CONDITION, OBSERVED, Phase, Taken, TaskWord};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::thread::spawn;
use crate::sync::{Arc, Condvar, Mutex, model};
use std::time::Duration;

/// A task both cancelled and started, or neither.
#[test]
fn loom_a_task_is_cancelled_or_claimed() {
    model(|| {
        let word = Arc::new(TaskWord::new(Priority::Normal, 0));
        let worker = {
            let word = Arc::clone(&word);
            spawn(move || word.claim())
        };
        let cancelled = word.cancel(|_| true).is_some();
        let claim = worker.join().unwrap();
        assert_eq!(claim, if cancelled { Claim::Lost } else { Claim::First });
        assert_eq!(word.phase() == Phase::Cancelled, cancelled);
    });
}

/// Two outcomes, none, or one that is published before it is written.
#[test]
fn loom_a_time_limit_and_a_result_make_one_outcome() {
    model(|| {
        let word = Arc::new(TaskWord::new(Priority::Normal, 0));
        let outcome = Arc::new(AtomicU32::new(0));
        assert_eq!(word.claim(), Claim::First);
        let settle = |number, word: &TaskWord, outcome: &AtomicU32| {
            // Relaxed: the word publishes it.
            assert_eq!(outcome.swap(number, Ordering::Relaxed), 0);
            assert!(word.publish(|_| true).is_some());
        };
        let runner = {
            let (word, outcome) = (Arc::clone(&word), Arc::clone(&outcome));
            spawn(move || {
                let mine = word.settle_running();
                if mine {
                    settle(1, &word, &outcome);
                }
                mine
            })
        };
        let expired = word.expire();
        if expired.is_some() {
            settle(2, &word, &outcome);
        }
        if word.is_done() {
            assert_ne!(outcome.load(Ordering::Relaxed), 0);
        }
        assert!(runner.join().unwrap() != expired.is_some());
        assert!(word.is_done());
    });
}

/// A task queued for a retry that has its outcome, or one that is neither queued nor settled.
#[test]
fn loom_a_time_limit_finds_a_failed_task_before_or_after_its_requeueing() {
    model(|| {
        let word = Arc::new(TaskWord::new(Priority::Normal, 0));
        assert_eq!(word.claim(), Claim::First);
        let runner = {
            let word = Arc::clone(&word);
            spawn(move || word.requeue())
        };
        let taken = word.expire().unwrap();
        let again = runner.join().unwrap();
        assert_eq!(taken, if again { Taken::Retrying } else { Taken::Running });
        assert_eq!(word.claim(), Claim::Lost);
    });
}

/// An observer that the publisher did not see, and that did not see the outcome.
#[test]
fn loom_an_observer_is_served_or_sees_the_outcome() {
    model(|| {
        let word = Arc::new(TaskWord::new(Priority::Normal, 0));
        let slot = Arc::new(Mutex::new(None));
        assert!(word.claim() == Claim::First && word.settle_running());
        let publisher = {
            let (word, slot) = (Arc::clone(&word), Arc::clone(&slot));
            spawn(move || {
                let flags = word.publish(|_| true).unwrap();
                (flags & OBSERVED != 0).then(|| slot.lock().take()).flatten()
            })
        };
        let done = {
            let mut slot = slot.lock();
            let done = word.set(OBSERVED) == Phase::Finished;
            if !done {
                *slot = Some("observer");
            }
            done
        };
        assert_eq!(publisher.join().unwrap().is_none(), done);
    });
}

/// A waiter that looks at the state under the condition's lock, sees no outcome, and is not
/// notified.
#[test]
fn loom_who_waits_on_the_condition_is_told() {
    model(|| {
        let word = Arc::new(TaskWord::new(Priority::Normal, 0));
        let condition = Arc::new((Mutex::new(()), Condvar::new()));
        assert!(word.claim() == Claim::First && word.settle_running());
        let publisher = {
            let (word, condition) = (Arc::clone(&word), Arc::clone(&condition));
            spawn(move || {
                if word.publish(|flags| flags & HAS_CONDITION == 0).is_none() {
                    let held = condition.0.lock();
                    word.publish(|_| true).unwrap();
                    condition.1.notify_all();
                    drop(held);
                }
            })
        };
        word.set(HAS_CONDITION | OBSERVED);
        let running = |(): &mut ()| !word.is_done();
        drop(condition.1.wait_while(condition.0.lock(), Duration::MAX, running));
        publisher.join().unwrap();
    });
}

/// An entry of a batch that goes back to its lane while another worker claims the last item. A
/// worker that finds the entry dead must find it counted as a tombstone, once.
#[test]
fn loom_an_invitation_to_a_batch_that_is_dealt_out_is_a_tombstone() {
    model(|| {
        let word = Arc::new(TaskWord::new(Priority::Normal, BATCH));
        assert_eq!(word.claim(), Claim::First);
        let inviter = {
            let word = Arc::clone(&word);
            spawn(move || word.requeue())
        };
        let taken = word.settle_by_hand().expect("nobody else ends it");
        word.publish(|_| true);
        let counted_dead = u32::from(taken != Taken::Running);
        let pushed = u32::from(inviter.join().unwrap());
        assert_eq!(counted_dead, pushed);
        assert_eq!(word.claim(), Claim::Lost);
    });
}

/// An item that two workers start, or that is started although it was taken back.
#[test]
fn loom_each_item_of_a_batch_is_claimed_by_one() {
    model(|| {
        let cursor = Arc::new(ItemCursor::new(3, 0, Arc::new(ItemCost::new())));
        let worker = {
            let cursor = Arc::clone(&cursor);
            spawn(move || [cursor.claim(), cursor.claim()])
        };
        let mut claimed: Vec<_> = cursor.claim().into_iter().collect();
        claimed.extend(cursor.claim_rest());
        claimed.extend(worker.join().unwrap().into_iter().flatten());
        claimed.sort_unstable();
        assert_eq!(claimed, [0, 1, 2]);
        assert_eq!(cursor.claim(), None);
    });
}

/// A thread that waits for a group for ever, as its last task ends or its last submitter is refused
/// meanwhile; or that returns while a task is not over.
#[test]
fn loom_who_waits_for_a_group_is_told_of_its_end() {
    model(|| {
        let (group, over) = (Arc::new(TaskGroup::new()), Arc::new(AtomicU32::new(0)));
        let tasks = [true, false].map(|accepted| {
            let (group, over) = (Arc::clone(&group), Arc::clone(&over));
            spawn(move || {
                let Some(joining) = group.join() else {
                    return 0;
                };
                if !accepted {
                    return 0;
                }
                joining.stay();
                // Relaxed: the group publishes it.
                over.fetch_add(1, Ordering::Relaxed);
                group.leave();
                1
            })
        });
        group.close();
        group.wait_over(Duration::MAX);
        let seen = over.load(Ordering::Relaxed);
        let accepted: u32 = tasks.map(|task| task.join().unwrap()).into_iter().sum();
        assert_eq!(seen, accepted);
    });
}
