//! The engine's races, every interleaving of each; a test says which loss it excludes. Here: the queue.
//!
//! loom finds a thread that nobody wakes by itself: it reports the deadlock.

mod interrupt;
mod outcome;
mod whole;

use super::clock::Tick;
use super::queue::Queue;
use super::queue::bell::{Bell, Woken};
use super::queue::lanes::{Class, Entry, Lanes};
use super::queue::permits::{Permits, Verdict};
use super::resource::proof::{Failure, LONG_AGO, Proof};
use super::task::{OUTSIDE, TaskWord};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::thread::{self, spawn};
use crate::sync::{Arc, model};

/// What a worker does whose resource is `proven`: takes tasks, up to `most`, until none can come any more.
fn work(queue: &Queue<u32>, proven: Failure, most: usize) -> Vec<u32> {
    let proof = || Proof { proven, held_since: None };
    let (mut taken, mut rung) = (Vec::new(), false);
    while taken.len() < most {
        if let Some(entry) = queue.take(rung, proof) {
            rung = false;
            taken.push(entry.task);
        } else if queue.is_drained() {
            break;
        } else {
            rung = queue.rest(true, || None, proof, || false) == Woken::Rung;
        }
    }
    taken
}

/// A task accepted and left behind by the drain, or one that comes in after it.
#[test]
fn loom_what_the_gate_lets_in_is_there_when_it_has_closed() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let submitters = [1, 2].map(|task| {
            let queue = Arc::clone(&queue);
            spawn(move || queue.push(Class::Normal, task, 0).is_ok())
        });
        queue.close();
        assert!(queue.gate.is_sealed());
        let drained = std::iter::from_fn(|| queue.lanes.pop(|| Proof::ANY)).count();
        let accepted = submitters.map(|one| usize::from(one.join().unwrap()));
        assert_eq!(drained, accepted.into_iter().sum());
        assert_eq!(queue.gate.accepted(), drained as u64);
        assert!(queue.lanes.is_empty());
    });
}

/// A task that nobody is left for, which neither its submitter sees, since workers still sleep that are about to be
/// woken for others, nor the last of these.
#[test]
fn loom_a_task_that_nobody_is_left_for_is_noticed() {
    model(|| {
        let (queue, noticed) =
            (Arc::new(Queue::new(None, Tick::MAX)), Arc::new(AtomicBool::new(false)));
        let workers = [(); 2].map(|()| {
            let (queue, noticed) = (Arc::clone(&queue), Arc::clone(&noticed));
            spawn(move || {
                let mut rung = false;
                loop {
                    let taken = queue.take(rung, || Proof::ANY).is_some();
                    if rung && queue.leaves_tasks_waiting() {
                        noticed.store(true, Ordering::SeqCst);
                    }
                    if taken {
                        break;
                    }
                    rung = queue.rest(true, || None, || Proof::ANY, || false) == Woken::Rung;
                }
            })
        });
        for task in 0..3 {
            queue.push(Class::Normal, task, 0).unwrap();
            if queue.bell.sleepers() == 0 {
                noticed.store(true, Ordering::SeqCst);
            }
        }
        for worker in workers {
            worker.join().unwrap();
        }
        assert!(noticed.load(Ordering::SeqCst));
    });
}

/// A submitter that finds nobody asleep, while a worker that found nothing falls asleep.
#[test]
fn loom_a_task_wakes_a_worker_that_is_falling_asleep() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let worker = {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, LONG_AGO, 1))
        };
        queue.push(Class::Normal, 7, 0).unwrap();
        assert_eq!(worker.join().unwrap(), [7]);
    });
}

/// The same, with a queue that orders nothing by itself: the bell's fences are enough.
#[test]
fn loom_the_bell_orders_a_task_against_falling_asleep() {
    model(|| {
        let (bell, task) = (Arc::new(Bell::new()), Arc::new(AtomicBool::new(false)));
        let worker = {
            let (bell, task) = (Arc::clone(&bell), Arc::clone(&task));
            spawn(move || {
                while !task.load(Ordering::Relaxed) {
                    bell.sleep(None, || !task.load(Ordering::Relaxed));
                }
            })
        };
        task.store(true, Ordering::Relaxed);
        bell.ring();
        worker.join().unwrap();
    });
}

/// A task that found a wake-up under way, by a worker that has looked for more already: again by the
/// fences alone.
#[test]
fn loom_the_bell_orders_a_task_against_the_end_of_a_wake_up() {
    model(|| {
        let (bell, task) = (Arc::new(Bell::new()), Arc::new(AtomicBool::new(false)));
        assert!(bell.look_again(|| false), "the mark is this thread's");
        let sleeper = {
            let (bell, task) = (Arc::clone(&bell), Arc::clone(&task));
            spawn(move || {
                while !task.load(Ordering::Relaxed) {
                    bell.sleep(None, || !task.load(Ordering::Relaxed));
                }
            })
        };
        let submitter = {
            let (bell, task) = (Arc::clone(&bell), Arc::clone(&task));
            spawn(move || {
                task.store(true, Ordering::Relaxed);
                bell.ring();
            })
        };
        bell.answered(|| task.load(Ordering::Relaxed));
        sleeper.join().unwrap();
        submitter.join().unwrap();
    });
}

/// A second task that found a wake-up under way, and a second worker that nobody wakes for it; also
/// when the first looked once more before it slept, and gave up.
#[test]
fn loom_two_tasks_reach_two_workers_by_one_chain() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let workers = [(); 2].map(|()| {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, LONG_AGO, 1))
        });
        for task in [1, 2] {
            queue.push(Class::Normal, task, 0).unwrap();
        }
        let taken = workers.map(|worker| worker.join().unwrap());
        assert!(taken.iter().all(|one| one.len() == 1), "{taken:?}");
    });
}

/// A worker that sleeps through the end: because a submitter that came too late, only to be refused,
/// looked like a task under way, or because the closer woke nobody.
#[test]
fn loom_a_close_lets_every_worker_go_whatever_a_late_submitter_does() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let worker = {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, LONG_AGO, usize::MAX))
        };
        let submitter = {
            let queue = Arc::clone(&queue);
            spawn(move || queue.push(Class::Normal, 7, 0).is_ok())
        };
        queue.close();
        let taken = worker.join().unwrap();
        assert_eq!(taken.len(), usize::from(submitter.join().unwrap()));
    });
}

/// A second worker that sleeps through the end: the closer wakes one, and each the next.
#[test]
fn loom_a_close_wakes_every_worker_by_one_chain() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let workers = [(); 2].map(|()| {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, LONG_AGO, usize::MAX))
        });
        queue.push(Class::Normal, 7, 0).unwrap();
        queue.close();
        let taken = workers.map(|worker| worker.join().unwrap().len());
        assert_eq!(taken.into_iter().sum::<usize>(), 1);
    });
}

/// A wake-up spent on a worker that was leaving by itself, or a sleeper counted twice.
#[test]
fn loom_a_ring_and_a_sleeper_that_gives_up_agree() {
    model(|| {
        let bell = Arc::new(Bell::new());
        let sleeper = {
            let bell = Arc::clone(&bell);
            spawn(move || bell.sleep(None, || false))
        };
        let rang = bell.ring();
        let woken = sleeper.join().unwrap();
        assert_eq!(rang, woken == Woken::Rung);
        assert_eq!(bell.sleepers(), 0);
    });
}

/// A live task in the hands of a sift while the lanes look empty, so that a drain ends without it.
#[test]
fn loom_a_drain_waits_for_what_a_sift_holds() {
    model(|| {
        let lanes = Arc::new(Lanes::new());
        for task in [1, 2] {
            lanes.push(Class::Normal, task, 0);
        }
        let sifter = {
            let lanes = Arc::clone(&lanes);
            spawn(move || lanes.sift(Class::Normal, |task, _| *task == 2))
        };
        let mut drained = Vec::new();
        while !lanes.is_empty() {
            drained.extend(lanes.pop(|| Proof::ANY).map(|entry| entry.task));
        }
        let dead = sifter.join().unwrap();
        assert!(drained.contains(&2) && lanes.is_empty());
        assert_eq!(drained.len() + dead.len(), 2);
    });
}

/// A retry taken by a worker that it is not for, or a worker that sleeps on, for its sake, when its own worker has
/// taken it as the last of a closing queue.
#[test]
fn loom_a_held_retry_is_left_to_its_worker_and_keeps_nobody_asleep() {
    model(|| {
        let queue = Arc::new(Queue::new(None, Tick::MAX));
        let other = {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, LONG_AGO, usize::MAX))
        };
        let failed = LONG_AGO + 1;
        queue.push_again(Class::Normal, Entry { task: 7, since: 0, failed });
        // Meanwhile it would make a new resource.
        queue.close();
        assert_eq!(work(&queue, failed, usize::MAX), [7]);
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
            spawn(move || work(&queue, LONG_AGO, 1))
        };
        let failed = LONG_AGO + 1;
        queue.push_again(Class::Normal, Entry { task: 7, since: 0, failed });
        queue.open(failed);
        assert_eq!(other.join().unwrap(), [7]);
    });
}

/// A worker that falls asleep as a retry comes that is not for it, and does not know how long it may sleep.
#[test]
fn loom_who_sleeps_while_a_retry_is_held_knows_of_it() {
    let mut model = model::Builder::new();
    // One more than elsewhere: the sleeper gives its core away once before it comes to the point.
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
            // It does not come back before the close: who does not know sleeps on until then.
            spawn(move || queue.rest(true, limit, || Proof::NONE, || false))
        };
        let failed = LONG_AGO + 1;
        queue.push_again(Class::Normal, Entry { task: 7, since: 0, failed });
        while !knows.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        assert!(queue.take_any().is_some());
        queue.close();
        sleeper.join().unwrap();
    });
}

/// A permit given to somebody who has just left the line, or to two.
#[test]
fn loom_a_permit_handed_over_is_not_lost_by_leaving() {
    model(|| {
        let permits = Arc::new(Permits::new(0));
        let submitter = {
            let permits = Arc::clone(&permits);
            let ticket = permits.take_or_queue(Class::Normal).unwrap_err();
            spawn(move || permits.leave(&ticket))
        };
        permits.give_back();
        let granted = submitter.join().unwrap() == Verdict::Granted;
        assert_eq!(permits.try_take(), !granted);
        assert!(!permits.try_take());
    });
}

/// A submitter that waits for room for ever, because the runner closed as it got into line.
#[test]
fn loom_a_close_turns_a_blocked_submitter_away() {
    model(|| {
        let queue = Arc::new(Queue::<u32>::new(Some(0), Tick::MAX));
        let submitter = {
            let queue = Arc::clone(&queue);
            spawn(move || {
                let permits = queue.permits.as_ref().unwrap();
                let ticket = permits.take_or_queue(Class::Normal).unwrap_err();
                while ticket.verdict() == Verdict::Blocked {
                    thread::park();
                }
                ticket.verdict()
            })
        };
        queue.close();
        assert_eq!(submitter.join().unwrap(), Verdict::Closed);
    });
}

/// A permit lost between a task that stands in line by itself and the cancel that takes it away, or a task counted
/// as accepted that is not.
#[test]
fn loom_a_permit_for_a_task_in_line_is_used_or_free() {
    model(|| {
        let queue = Arc::new(Queue::new(Some(0), Tick::MAX));
        let word = Arc::new(TaskWord::new(Class::Normal, OUTSIDE));
        let permits = queue.permits.as_ref().unwrap();
        let answer = {
            let (queue, word) = (Arc::clone(&queue), Arc::clone(&word));
            move |verdict| {
                assert_eq!(verdict, Verdict::Granted);
                queue.push_if(Class::Normal, word, 0, |word| word.admit()).is_ok()
            }
        };
        let ticket = permits.take_or_answer(Class::Normal, answer).unwrap_err();
        let canceller = {
            let queue = Arc::clone(&queue);
            spawn(move || {
                let flags = word.cancel(|_| true).unwrap();
                let inside = flags & OUTSIDE == 0;
                if inside {
                    queue.withdrawn(&word, true);
                } else {
                    queue.permits.as_ref().unwrap().leave(&ticket);
                }
                inside
            })
        };
        permits.give_back();
        let inside = canceller.join().unwrap();
        assert!(permits.try_take() && !permits.try_take());
        let left = std::iter::from_fn(|| queue.lanes.pop(|| Proof::ANY)).count();
        assert_eq!((queue.gate.accepted(), left), (u64::from(inside), usize::from(inside)));
    });
}

/// A task that gets into line as the runner closes, and that nobody tells, or two.
#[test]
fn loom_a_task_that_lines_up_as_the_runner_closes_is_told_once() {
    model(|| {
        let (queue, told) =
            (Arc::new(Queue::<u32>::new(Some(0), Tick::MAX)), Arc::new(AtomicUsize::new(0)));
        let submitter = {
            let (queue, told) = (Arc::clone(&queue), Arc::clone(&told));
            spawn(move || {
                let answer = move |_| told.fetch_add(1, Ordering::Relaxed) > 0;
                queue.permits.as_ref().unwrap().take_or_answer(Class::Normal, answer).unwrap_err();
            })
        };
        queue.close();
        submitter.join().unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 1);
    });
}
