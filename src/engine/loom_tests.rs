//! The engine's races, every interleaving of each; a test says which loss it excludes. Here: the
//! queue.
//!
//! loom itself finds a thread that is never woken: it reports the deadlock.

mod busy;
mod interrupt;
mod keys;
mod loans;
mod looks;
mod outcome;
mod whole;

use super::clock::Tick;
use super::queue::idle_workers::{IdleWorkers, Wakeable, Wakeup};
use super::queue::lanes::{Entry, Lanes};
use super::queue::permits::{Admission, Permit, Permits};
use super::queue::{Admitted, Queue};
use super::resource::epochs::{Eligibility, FailureEpoch, INITIAL_EPOCH};
use super::task::key::KeyNumber;
use super::task::priority::Priority;
use super::task::{NOT_ADMITTED, TaskWord};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::thread::{self, spawn};
use crate::sync::{Arc, model};

/// A worker that is woken for tasks alone.
const SLEEPER: Wakeable = Wakeable { number: 0, renews_from: u64::MAX, home: 0 };

/// What a worker does with a resource that is `known_good_since`: takes tasks, up to `most`, until
/// none can come any more.
fn work(queue: &Queue<u32>, known_good_since: FailureEpoch, most: usize) -> Vec<u32> {
    work_as(SLEEPER, queue, known_good_since, most)
}

fn work_as(
    wakeable: Wakeable,
    queue: &Queue<u32>,
    known_good_since: FailureEpoch,
    most: usize,
) -> Vec<u32> {
    let eligibility = || Eligibility { known_good_since, held_since: None };
    let (mut taken, mut wakeup) = (Vec::new(), Wakeup::NotNeeded);
    while taken.len() < most {
        if let Some(entry) = queue.take(wakeup, eligibility, |_| false) {
            wakeup = Wakeup::NotNeeded;
            taken.push(entry.task);
        } else if queue.is_drained() {
            break;
        } else {
            queue.key_homes.come(wakeable.home);
            wakeup = queue.wait_for_task(wakeable, true, || None, eligibility, || false);
        }
    }
    taken
}

fn push<T>(queue: &Queue<T>, task: T) -> bool {
    push_with(queue, task, KeyNumber::NONE)
}

fn push_with<T>(queue: &Queue<T>, task: T, key: KeyNumber) -> bool {
    let permit = Permit::unbounded(1);
    queue.push((Priority::Normal, key), task, 0, permit, Admitted::Queued, || ()).is_ok()
}

/// A task accepted and left behind by the drain, or one that comes in after it.
#[test]
fn loom_what_the_gate_lets_in_is_there_when_it_has_closed() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let submitters = [1, 2].map(|task| {
            let queue = Arc::clone(&queue);
            spawn(move || push(&queue, task))
        });
        queue.close();
        assert!(queue.gate.is_sealed());
        let drained = std::iter::from_fn(|| queue.lanes.pop(|| Eligibility::ANY)).count();
        let accepted = submitters.map(|one| usize::from(one.join().unwrap()));
        assert_eq!(drained, accepted.into_iter().sum());
        assert_eq!(queue.gate.accepted(), drained as u64);
        assert!(queue.lanes.is_empty());
    });
}

/// A task that no worker is left for, unnoticed. Its submitter does not see it, since workers still
/// sleep that are about to be woken for other tasks; nor does the last of these workers.
#[test]
fn loom_a_task_that_nobody_is_left_for_is_noticed() {
    model(|| {
        let (queue, noticed) =
            (Arc::new(Queue::new(None, Tick::MAX)), Arc::new(AtomicBool::new(false)));
        let workers = [(); 2].map(|()| {
            let (queue, noticed) = (Arc::clone(&queue), Arc::clone(&noticed));
            spawn(move || {
                let mut wakeup = Wakeup::NotNeeded;
                loop {
                    let taken = queue.take(wakeup, || Eligibility::ANY, |_| false).is_some();
                    if wakeup.is_owed() && queue.leaves_tasks_waiting() {
                        noticed.store(true, Ordering::SeqCst);
                    }
                    if taken {
                        break;
                    }
                    let any = || Eligibility::ANY;
                    wakeup = queue.wait_for_task(SLEEPER, true, || None, any, || false);
                }
            })
        });
        for task in 0..3 {
            assert!(push(&queue, task));
            if queue.idle_workers.sleepers() == 0 {
                noticed.store(true, Ordering::SeqCst);
            }
        }
        for worker in workers {
            worker.join().unwrap();
        }
        assert!(noticed.load(Ordering::SeqCst));
    });
}

/// A submitter that finds no worker asleep, while a worker that found nothing falls asleep.
#[test]
fn loom_a_task_wakes_a_worker_that_is_falling_asleep() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let worker = {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, INITIAL_EPOCH, 1))
        };
        assert!(push(&queue, 7));
        assert_eq!(worker.join().unwrap(), [7]);
    });
}

/// The same, with a queue that orders nothing by itself: the fences of the idle workers' word are
/// enough.
#[test]
fn loom_the_idle_workers_order_a_task_against_falling_asleep() {
    model(|| {
        let (idle_workers, task) = (Arc::new(IdleWorkers::new()), Arc::new(AtomicBool::new(false)));
        let worker = {
            let (idle_workers, task) = (Arc::clone(&idle_workers), Arc::clone(&task));
            spawn(move || {
                while !task.load(Ordering::Relaxed) {
                    idle_workers.sleep(SLEEPER, None, || !task.load(Ordering::Relaxed));
                }
            })
        };
        task.store(true, Ordering::Relaxed);
        idle_workers.wake_one();
        worker.join().unwrap();
    });
}

/// A task that found a wake-up under way, by a worker that has looked for more already: again by
/// the fences alone.
#[test]
fn loom_the_idle_workers_order_a_task_against_the_end_of_a_wake_up() {
    model(|| {
        let (idle_workers, task) = (Arc::new(IdleWorkers::new()), Arc::new(AtomicBool::new(false)));
        assert!(idle_workers.yield_for_work(|| false), "the mark is this thread's");
        let sleeper = {
            let (idle_workers, task) = (Arc::clone(&idle_workers), Arc::clone(&task));
            spawn(move || {
                while !task.load(Ordering::Relaxed) {
                    idle_workers.sleep(SLEEPER, None, || !task.load(Ordering::Relaxed));
                }
            })
        };
        let submitter = {
            let (idle_workers, task) = (Arc::clone(&idle_workers), Arc::clone(&task));
            spawn(move || {
                task.store(true, Ordering::Relaxed);
                idle_workers.wake_one();
            })
        };
        idle_workers.wake_another(Wakeup::Woken, || task.load(Ordering::Relaxed));
        sleeper.join().unwrap();
        submitter.join().unwrap();
    });
}

/// A second task that found a wake-up under way, and a second worker that is not woken for it; also
/// when the first worker looked once more before it slept, and gave up.
#[test]
fn loom_two_tasks_reach_two_workers_by_one_chain() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let workers = [(); 2].map(|()| {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, INITIAL_EPOCH, 1))
        });
        for task in [1, 2] {
            assert!(push(&queue, task));
        }
        let taken = workers.map(|worker| worker.join().unwrap());
        assert!(taken.iter().all(|one| one.len() == 1), "{taken:?}");
    });
}

/// A worker that sleeps through the end: because a submitter that came too late, only to be
/// refused, looked like a task under way, or because the closing thread woke no worker.
#[test]
fn loom_a_close_lets_every_worker_go_whatever_a_late_submitter_does() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let worker = {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, INITIAL_EPOCH, usize::MAX))
        };
        let submitter = {
            let queue = Arc::clone(&queue);
            spawn(move || push(&queue, 7))
        };
        queue.close();
        let taken = worker.join().unwrap();
        assert_eq!(taken.len(), usize::from(submitter.join().unwrap()));
    });
}

/// A second worker that sleeps through the end: the closing thread wakes one worker, and each
/// worker the next.
#[test]
fn loom_a_close_wakes_every_worker_by_one_chain() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let workers = [(); 2].map(|()| {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, INITIAL_EPOCH, usize::MAX))
        });
        assert!(push(&queue, 7));
        queue.close();
        let taken = workers.map(|worker| worker.join().unwrap().len());
        assert_eq!(taken.into_iter().sum::<usize>(), 1);
    });
}

/// A wake-up spent on a worker that was leaving by itself, or a sleeper counted twice.
#[test]
fn loom_a_wake_up_and_a_sleeper_that_gives_up_agree() {
    model(|| {
        let idle_workers = Arc::new(IdleWorkers::new());
        let sleeper = {
            let idle_workers = Arc::clone(&idle_workers);
            spawn(move || idle_workers.sleep(SLEEPER, None, || false))
        };
        let woke = idle_workers.wake_one();
        let woken = sleeper.join().unwrap();
        assert_eq!(woke, woken == Wakeup::Woken);
        assert_eq!(idle_workers.sleepers(), 0);
    });
}

/// A worker that is called and sleeps on: the one before it did not pass the call on, as it came by
/// itself, or had a task to see to first.
#[test]
fn loom_a_call_reaches_each_worker_it_is_meant_for_by_one_chain() {
    model(|| {
        let queue = Arc::new(Queue::<u32>::new(None, Tick::MAX));
        let called = Arc::new(AtomicBool::new(false));
        let workers = [1, 2].map(|number| {
            let (queue, called) = (Arc::clone(&queue), Arc::clone(&called));
            spawn(move || {
                let is_called = || called.load(Ordering::Relaxed);
                let (mut taken, mut wakeup) = (0, Wakeup::NotNeeded);
                loop {
                    taken +=
                        usize::from(queue.take(wakeup, || Eligibility::ANY, |_| false).is_some());
                    if is_called() {
                        return taken;
                    }
                    let wakeable = Wakeable { number, ..SLEEPER };
                    let any = || Eligibility::ANY;
                    wakeup = queue.wait_for_task(wakeable, false, || None, any, is_called);
                }
            })
        });
        assert!(push(&queue, 7));
        called.store(true, Ordering::Relaxed);
        queue.idle_workers.call(|_| true);
        let taken = workers.map(|worker| worker.join().unwrap());
        assert!(taken.into_iter().sum::<usize>() <= 1);
        assert_eq!(queue.idle_workers.sleepers(), 0);
    });
}

/// A live task in the hands of a compaction while the lanes look empty, so that a drain ends
/// without it.
#[test]
fn loom_a_drain_waits_for_what_a_compaction_holds() {
    model(|| {
        let lanes = Arc::new(Lanes::new());
        for task in [1, 2] {
            lanes.push(Priority::Normal, task, 0);
        }
        let compactor = {
            let lanes = Arc::clone(&lanes);
            spawn(move || lanes.compact(Priority::Normal, |task, _| *task == 2))
        };
        let mut drained = Vec::new();
        while !lanes.is_empty() {
            drained.extend(lanes.pop(|| Eligibility::ANY).map(|entry| entry.task));
        }
        let dead = compactor.join().unwrap();
        assert!(drained.contains(&2) && lanes.is_empty());
        assert_eq!(drained.len() + dead.len(), 2);
    });
}

/// A task lost, or taken twice, by a look at the oldest one, which moves it; or a worker that
/// sleeps on or through the end for it.
#[test]
fn loom_a_look_at_the_oldest_task_takes_it_from_no_worker() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let worker = {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, INITIAL_EPOCH, usize::MAX))
        };
        let looker = {
            let queue = Arc::clone(&queue);
            spawn(move || queue.oldest(|_| true, |_| true))
        };
        assert!(push(&queue, 7));
        queue.close();
        let (oldest, dead) = looker.join().unwrap();
        assert!(matches!(oldest, None | Some(0)) && dead.is_empty());
        assert_eq!(worker.join().unwrap(), [7]);
    });
}

/// A task lost, or out of order, between a look at the oldest one and a worker that takes all.
#[test]
fn loom_a_look_at_the_oldest_task_finds_it_or_a_later_one() {
    model(|| {
        let lanes = Arc::new(Lanes::new());
        for task in [1_u32, 2] {
            lanes.push(Priority::Normal, task, Tick::from(task));
        }
        let looker = {
            let lanes = Arc::clone(&lanes);
            spawn(move || lanes.oldest(|task| *task != 1, |_| true))
        };
        let mut taken = Vec::new();
        while !lanes.is_empty() {
            taken.extend(lanes.pop(|| Eligibility::ANY).map(|entry| entry.task));
        }
        let (oldest, dead) = looker.join().unwrap();
        assert!(matches!(oldest, None | Some(2)), "{oldest:?}");
        taken.extend(dead);
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
        assert!(lanes.is_empty());
    });
}

/// A tombstone given to both a compaction and a look at the oldest task, or a live task to neither.
#[test]
fn loom_a_compaction_and_a_look_at_the_oldest_task_agree() {
    model(|| {
        let lanes = Arc::new(Lanes::new());
        for task in [1_u32, 2] {
            lanes.push(Priority::Normal, task, Tick::from(task));
        }
        let compactor = {
            let lanes = Arc::clone(&lanes);
            spawn(move || lanes.compact(Priority::Normal, |task, _| *task == 2))
        };
        let (oldest, mut dead) = lanes.oldest(|task| *task == 2, |_| true);
        dead.extend(compactor.join().unwrap());
        assert_eq!((oldest, dead), (Some(2), vec![1]));
        assert_eq!(lanes.pop(|| Eligibility::ANY).map(|entry| entry.task), Some(2));
        assert!(lanes.is_empty());
    });
}

/// A retry taken by a worker that it is not for. Or a worker that sleeps on, for the sake of a
/// retry, when the retry's own worker has taken it as the last of a closing queue.
#[test]
fn loom_a_held_retry_is_left_to_its_worker_and_keeps_nobody_asleep() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let other = {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, INITIAL_EPOCH, usize::MAX))
        };
        let failure_epoch = INITIAL_EPOCH + 1;
        queue.push_retry(
            Priority::Normal,
            Priority::Normal,
            Entry { task: 7, since: 0, failure_epoch },
        );
        // Meanwhile the retry's worker would make a new resource.
        queue.close();
        assert_eq!(work(&queue, failure_epoch, usize::MAX), [7]);
        assert!(other.join().unwrap().is_empty());
    });
}

/// A worker that sleeps on when the retry that was not for it is left behind by its own worker.
#[test]
fn loom_a_retry_left_behind_wakes_a_worker_that_is_falling_asleep() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let other = {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, INITIAL_EPOCH, 1))
        };
        let failure_epoch = INITIAL_EPOCH + 1;
        queue.push_retry(
            Priority::Normal,
            Priority::Normal,
            Entry { task: 7, since: 0, failure_epoch },
        );
        queue.release_retry(failure_epoch);
        assert_eq!(other.join().unwrap(), [7]);
    });
}

/// A retry comes that is not for a worker that falls asleep, and this worker does not know how long
/// it may sleep.
#[test]
fn loom_who_sleeps_while_a_retry_is_held_knows_of_it() {
    let mut model = model::Builder::new();
    // One more than elsewhere: the sleeper yields once before it parks.
    model.preemption_bound = Some(3);
    model.check(|| {
        let queue = Arc::new(Queue::<u32>::new(None, Tick::MAX));
        let knows = Arc::new(AtomicBool::new(false));
        let sleeper = {
            let (queue, knows) = (Arc::clone(&queue), Arc::clone(&knows));
            let limit = {
                let queue = Arc::clone(&queue);
                move || {
                    if queue.lanes.oldest_retry().is_some() {
                        knows.store(true, Ordering::SeqCst);
                    }
                    None
                }
            };
            // The sleeper does not return before the close: one that does not know sleeps on until
            // then.
            spawn(move || queue.wait_for_task(SLEEPER, true, limit, || Eligibility::NONE, || false))
        };
        let failure_epoch = INITIAL_EPOCH + 1;
        queue.push_retry(
            Priority::Normal,
            Priority::Normal,
            Entry { task: 7, since: 0, failure_epoch },
        );
        while !knows.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        assert!(queue.take_any().is_some());
        queue.close();
        sleeper.join().unwrap();
    });
}

/// A permit given to a submitter that has just left the queue of waiters, or to two submitters.
#[test]
fn loom_a_permit_handed_over_is_not_lost_by_leaving() {
    model(|| {
        let permits = Arc::new(Permits::new(0));
        let submitter = {
            let permits = Arc::clone(&permits);
            let waiter = permits.take_or_queue(Priority::Normal, 0).unwrap_err();
            // The submitter drops the permit that it gets.
            spawn(move || drop(permits.leave(waiter)))
        };
        permits.give_back();
        submitter.join().unwrap();
        assert!(permits.try_take(2).is_some_and(|permit| permit.count() == 1));
    });
}

/// A submitter that waits for room for ever, because the runner closed as it joined the queue of
/// waiters.
#[test]
fn loom_a_close_turns_a_blocked_submitter_away() {
    model(|| {
        let queue = Arc::new(Queue::<u32>::new(Some(0), Tick::MAX));
        let submitter = {
            let queue = Arc::clone(&queue);
            spawn(move || {
                let permits = queue.permits.as_ref().unwrap();
                let waiter = permits.take_or_queue(Priority::Normal, 0).unwrap_err();
                while waiter.admission() == Admission::Blocked {
                    thread::park();
                }
                waiter.admission()
            })
        };
        queue.close();
        assert_eq!(submitter.join().unwrap(), Admission::Closed);
    });
}

/// A permit lost, or there twice, between two submitters and a close: given back by a submit that
/// was too late and owned by an entry, handed to a submitter that does not wait any more, or kept
/// by a submitter that was turned away.
#[test]
fn loom_a_permit_is_owned_by_an_entry_or_free() {
    model(|| {
        let queue = Arc::new(Queue::<u32>::new(Some(1), Tick::MAX));
        let submitter = |task| {
            let queue = Arc::clone(&queue);
            move || {
                let permits = queue.permits.as_ref().unwrap();
                let permit = permits.take_or_queue(Priority::Normal, 0).or_else(|waiter| {
                    while waiter.admission() == Admission::Blocked {
                        thread::park();
                    }
                    permits.leave(waiter)
                });
                let push = |permit| {
                    queue.push(
                        (Priority::Normal, KeyNumber::NONE),
                        task,
                        0,
                        permit,
                        Admitted::Queued,
                        || (),
                    )
                };
                permit.is_ok_and(|permit| push(permit).is_ok())
            }
        };
        let others = [spawn(submitter(1)), spawn(submitter(2))];
        queue.close();
        let accepted = others.map(|one| usize::from(one.join().unwrap())).iter().sum::<usize>();
        let left = std::iter::from_fn(|| queue.take_any()).count();
        assert_eq!((queue.gate.accepted(), left), (accepted as u64, accepted));
        let free = || queue.permits.as_ref().unwrap().try_take(2).map(|permit| permit.count());
        assert_eq!(free(), (accepted == 0).then_some(1));
        (0..left).for_each(|_| queue.count_taken(&TaskWord::new(Priority::Normal, 0), true));
        assert_eq!(free(), Some(1));
    });
}

/// A permit lost between a task that is itself a waiter and the cancel that takes it away, or a
/// task counted as accepted that is not.
#[test]
fn loom_a_permit_for_a_task_in_line_is_used_or_free() {
    model(|| {
        let queue = Arc::new(Queue::new(Some(0), Tick::MAX));
        let word = Arc::new(TaskWord::new(Priority::Normal, NOT_ADMITTED));
        let permits = queue.permits.as_ref().unwrap();
        let waiter = {
            let (queue, word) = (Arc::clone(&queue), Arc::clone(&word));
            permits.take_or_call_back(Priority::Normal, 0, move |permit| {
                let permit = permit.expect("the runner does not close");
                let admit = |word: Arc<TaskWord>| match word.admit() {
                    true => Admitted::Queued(word),
                    false => Admitted::Settled(word),
                };
                let pushed =
                    queue.push((Priority::Normal, KeyNumber::NONE), word, 0, permit, admit, || ());
                pushed.err().map(|rejected| rejected.permit)
            })
        }
        .unwrap_err();
        let canceller = {
            let queue = Arc::clone(&queue);
            spawn(move || {
                let flags = word.cancel(|_| true).unwrap();
                let inside = flags & NOT_ADMITTED == 0;
                if inside {
                    queue.count_withdrawn(&word, true);
                } else {
                    queue.permits.as_ref().unwrap().remove(&waiter);
                }
                inside
            })
        };
        permits.give_back();
        let inside = canceller.join().unwrap();
        assert!(permits.try_take(2).is_some_and(|permit| permit.count() == 1));
        let left = std::iter::from_fn(|| queue.lanes.pop(|| Eligibility::ANY)).count();
        assert_eq!((queue.gate.accepted(), left), (u64::from(inside), usize::from(inside)));
    });
}

/// A task that becomes a waiter as the runner closes, and is never called back, or twice.
#[test]
fn loom_a_task_that_lines_up_as_the_runner_closes_is_told_once() {
    model(|| {
        let (queue, told) =
            (Arc::new(Queue::<u32>::new(Some(0), Tick::MAX)), Arc::new(AtomicUsize::new(0)));
        let submitter = {
            let (queue, told) = (Arc::clone(&queue), Arc::clone(&told));
            spawn(move || {
                let permits = queue.permits.as_ref().unwrap();
                let lined_up = permits.take_or_call_back(Priority::Normal, 0, move |permit| {
                    told.fetch_add(1, Ordering::Relaxed);
                    permit
                });
                lined_up.unwrap_err();
            })
        };
        queue.close();
        submitter.join().unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 1);
    });
}
