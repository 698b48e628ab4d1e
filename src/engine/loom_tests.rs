//! The engine's races, every interleaving of each; a test says which loss it excludes.
//!
//! loom finds a thread that nobody wakes by itself: it reports the deadlock.

use super::backoff::Trouble;
use super::bell::{Bell, Woken};
use super::care::Policy;
use super::lanes::{Class, Entry, Lanes};
use super::permits::{Permits, Verdict};
use super::queue::Queue;
use super::task::{Claim, EXPRESS, OBSERVED, Phase, STANDARD, Taken, TaskWord};
use super::worker::{Badge, Desk, Life};
use super::{Engine, Host, Mode, Ran, Refusal, Settings, Verdict as Judgement};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::thread::{self, spawn};
use crate::sync::{Arc, Condvar, Mutex, model};
use std::time::Duration;

fn entry(task: u32) -> Entry<u32> {
    Entry { task, since: 0 }
}

/// What a worker does: takes tasks, up to `most`, until none can come any more.
fn work(queue: &Queue<u32>, most: usize) -> Vec<u32> {
    let (mut taken, mut rung) = (Vec::new(), false);
    while taken.len() < most {
        if let Some(entry) = queue.take(rung) {
            rung = false;
            taken.push(entry.task);
        } else if queue.is_drained() {
            break;
        } else {
            rung = queue.rest();
        }
    }
    taken
}

/// A task accepted and left behind by the drain, or one that comes in after it.
#[test]
fn loom_what_the_gate_lets_in_is_there_when_it_has_closed() {
    model(|| {
        let queue = Arc::new(Queue::new(None));
        let submitters = [1, 2].map(|task| {
            let queue = Arc::clone(&queue);
            spawn(move || queue.push(Class::Normal, task, 0).is_ok())
        });
        queue.close();
        assert!(queue.gate.is_sealed());
        let drained = std::iter::from_fn(|| queue.lanes.pop()).count();
        let accepted = submitters.map(|one| usize::from(one.join().unwrap()));
        assert_eq!(drained, accepted.into_iter().sum());
        assert_eq!(queue.gate.accepted(), drained as u64);
        assert!(queue.lanes.is_empty());
    });
}

/// A submitter that finds nobody asleep, while a worker that found nothing falls asleep.
#[test]
fn loom_a_task_wakes_a_worker_that_is_falling_asleep() {
    model(|| {
        let queue = Arc::new(Queue::new(None));
        let worker = {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, 1))
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
        let queue = Arc::new(Queue::new(None));
        let workers = [(); 2].map(|()| {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, 1))
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
        let queue = Arc::new(Queue::new(None));
        let worker = {
            let queue = Arc::clone(&queue);
            spawn(move || work(&queue, usize::MAX))
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
            lanes.push(Class::Normal, entry(task));
        }
        let sifter = {
            let lanes = Arc::clone(&lanes);
            spawn(move || lanes.sift(Class::Normal, |task| *task == 2))
        };
        let mut drained = Vec::new();
        while !lanes.is_empty() {
            drained.extend(lanes.pop().map(|entry| entry.task));
        }
        let dead = sifter.join().unwrap();
        assert!(drained.contains(&2) && lanes.is_empty());
        assert_eq!(drained.len() + dead.len(), 2);
    });
}

/// A task both cancelled and started, or neither.
#[test]
fn loom_a_task_is_cancelled_or_claimed() {
    model(|| {
        let word = Arc::new(TaskWord::new(Class::Normal, 0));
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
        let word = Arc::new(TaskWord::new(Class::Normal, 0));
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

/// A task queued for a retry that has its outcome, or one that nobody queues and nobody settles.
#[test]
fn loom_a_time_limit_finds_a_failed_task_before_or_after_its_requeueing() {
    model(|| {
        let word = Arc::new(TaskWord::new(Class::Normal, 0));
        assert_eq!(word.claim(), Claim::First);
        let runner = {
            let word = Arc::clone(&word);
            spawn(move || word.again())
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
        let word = Arc::new(TaskWord::new(Class::Normal, 0));
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

/// A waiter that looks at the state under the condition's lock, sees no outcome, and is not told.
#[test]
fn loom_who_waits_on_the_condition_is_told() {
    model(|| {
        let word = Arc::new(TaskWord::new(Class::Normal, 0));
        let condition = Arc::new((Mutex::new(()), Condvar::new()));
        assert!(word.claim() == Claim::First && word.settle_running());
        let publisher = {
            let (word, condition) = (Arc::clone(&word), Arc::clone(&condition));
            spawn(move || {
                if word.publish(|flags| flags & STANDARD == 0).is_none() {
                    let held = condition.0.lock();
                    word.publish(|_| true).unwrap();
                    condition.1.notify_all();
                    drop(held);
                }
            })
        };
        word.set(STANDARD | OBSERVED);
        let running = |(): &mut ()| !word.is_done();
        drop(condition.1.wait_while(condition.0.lock(), Duration::MAX, running));
        publisher.join().unwrap();
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
        let queue = Arc::new(Queue::<u32>::new(Some(0)));
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

// ---- whole engines -------------------------------------------------------------------------------

/// A task that counts its outcomes, and spoils its resource the first time if it is `bad`.
#[derive(Debug)]
struct Job {
    word: TaskWord,
    bad: AtomicBool,
    outcomes: AtomicU32,
}

impl Job {
    fn new(flags: u32, bad: bool) -> Arc<Self> {
        let (word, bad) = (TaskWord::new(Class::Normal, flags), AtomicBool::new(bad));
        Arc::new(Self { word, bad, outcomes: AtomicU32::new(0) })
    }

    fn publish(&self) {
        self.outcomes.fetch_add(1, Ordering::Relaxed);
        self.word.publish(|_| true).unwrap();
    }
}

/// A host of nothing but threads.
struct Bare;

impl Host for Bare {
    type Scope<'s> = ();
    type Task = Arc<Job>;
    type Resource = ();
    type Fault = ();

    fn park<R: Send>(&self, (): (), wait: impl FnOnce() -> R + Send) -> R {
        wait()
    }

    fn spawn(&self, (): (), life: Life<Self>) -> Result<(), ()> {
        drop(spawn(move || life.live(())));
        Ok(())
    }

    fn create(&self, (): (), _: &Badge<Self>) -> Result<(), ()> {
        Ok(())
    }

    fn destroy(&self, (): (), _: &Badge<Self>, (): ()) {}

    fn word<'t>(&self, task: &'t Arc<Job>) -> &'t TaskWord {
        &task.word
    }

    fn share(&self, (): (), task: &Arc<Job>) -> Arc<Job> {
        Arc::clone(task)
    }

    fn run(&self, (): (), desk: &Desk<'_, Self>, task: &Arc<Job>) -> Ran {
        if task.bad.swap(false, Ordering::Relaxed) {
            return Ran::Doubtful;
        }
        if !task.word.settle_running() {
            return Ran::Late;
        }
        desk.delivered(true);
        task.publish();
        Ran::Completed
    }

    fn judge(&self, (): (), _: &Desk<'_, Self>, _: &Arc<Job>) -> Judgement {
        Judgement::Spoiled { retry: true }
    }

    fn prepare_retry(&self, (): (), _: &Arc<Job>) {}

    fn fail(&self, (): (), _: &Desk<'_, Self>, task: &Arc<Job>) {
        task.publish();
    }

    fn refuse(&self, (): (), task: &Arc<Job>, _: Refusal) {
        task.publish();
    }

    fn forget(&self, (): (), _: &Arc<Job>) {}

    fn expire(&self, (): (), _: &Arc<Job>) {}

    fn discard(&self, (): (), task: Arc<Job>) {
        drop(task);
    }

    fn report_trouble(&self, (): (), _: &Badge<Self>, _: Trouble, _: Option<&()>) {}

    fn report_overdue(&self, (): (), _: &Badge<Self>) {}

    fn keep_fault(&self, (): (), (): ()) {}

    fn spawn_keeper(&self, (): (), _: &Arc<Engine<Self>>) -> Result<(), ()> {
        Ok(())
    }
}

fn engine(keep_reserved: bool, worker_count: usize) -> Arc<Engine<Bare>> {
    let settings = Settings {
        name: String::new(),
        worker_count,
        max_worker_count: worker_count,
        reserve_limit: 1,
        reserve_at_start: 0,
        keep_reserved,
        thread_bound: true,
        max_queue_size: None,
        care: Policy::default(),
        burst_interval: 100_000_000,
        idle_timeout: 30_000_000_000,
    };
    let engine = Engine::new(Bare, settings);
    engine.launch_workers(()).unwrap();
    engine
}

/// A retry that comes into the lanes after the sweep of a kill, or an end that is told before it is one.
#[test]
fn loom_a_kill_leaves_no_task_behind() {
    model(|| {
        let engine = engine(true, 1);
        let job = Job::new(0, true);
        engine.submit(Class::Normal, Arc::clone(&job), 0).unwrap();
        engine.kill(());
        assert!(engine.wait_ended(Duration::MAX));
        assert_eq!(engine.mode(), Mode::Stopped);
        assert_eq!(job.outcomes.load(Ordering::Relaxed), 1);
    });
}

/// A worker that leaves as a task comes for it, or one that is hired when the runner has ended.
#[test]
fn loom_a_stop_leaves_no_express_task_behind() {
    model(|| {
        let engine = engine(false, 0);
        let submitter = {
            let engine = Arc::clone(&engine);
            spawn(move || {
                [(); 2].map(|()| {
                    let job = Job::new(EXPRESS, false);
                    (engine.submit_express((), Arc::clone(&job), 0).is_ok(), job)
                })
            })
        };
        engine.begin_stop();
        assert!(engine.wait_ended(Duration::MAX));
        for (accepted, job) in submitter.join().unwrap() {
            assert_eq!(job.outcomes.load(Ordering::Relaxed), u32::from(accepted));
        }
        assert!(engine.members().is_empty());
    });
}
