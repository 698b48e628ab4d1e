//! What the engine costs without Python: the queue by contention, the way of one task, start and stop.
//!
//! The host does nothing: a task is a word, a resource is nothing, a thread is std's.
#![expect(clippy::disallowed_methods, reason = "a host of its own")]

#[cfg(not(loom))]
#[path = "../tests/rust/support/plain_host.rs"]
mod plain_host;
#[cfg(not(loom))]
use {std::sync::Arc, std::thread::spawn, tasker::engine};

#[cfg(not(loom))]
mod bench {
    use super::plain_host::{PlainHost, PlainTask};
    use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
    use std::hint::black_box;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread::{self, Thread};
    use std::time::{Duration, Instant};
    use tasker::engine::queue::gate::Gate;
    use tasker::engine::queue::lanes::{Entry, Lanes};
    use tasker::engine::queue::permits::Permit;
    use tasker::engine::resource::epochs::Eligibility;
    use tasker::engine::roster::startup_latch::StartupStatus;
    use tasker::engine::task::priority::Priority;
    use tasker::engine::task::{OBSERVED, RESERVED, TaskWord};
    use tasker::engine::worker::serve_loan::Claiming;
    use tasker::engine::worker::session::WorkerSession;
    use tasker::engine::{Engine, EngineSettings};

    const FOREVER: Duration = Duration::from_secs(60);

    /// A task without work.
    #[derive(Debug)]
    struct Job {
        word: TaskWord,
        waiter: Thread,
    }

    impl Job {
        fn new(flags: u32) -> Arc<Self> {
            Self::of(Priority::Normal, flags)
        }

        fn of(priority: Priority, flags: u32) -> Arc<Self> {
            Arc::new(Self { word: TaskWord::new(priority, flags), waiter: thread::current() })
        }

        fn wait(&self) {
            while !self.word.is_done() {
                thread::park();
            }
        }
    }

    impl PlainTask for Job {
        fn word(&self) -> &TaskWord {
            &self.word
        }

        fn work(&self, _: &WorkerSession<'_, Bare>) -> bool {
            true
        }

        fn publish(&self) {
            let flags = self.word.publish(|_| true).unwrap_or(0);
            if flags & OBSERVED != 0 {
                self.waiter.unpark();
            }
        }
    }

    type Bare = PlainHost<Job>;

    fn submit(engine: &Arc<Engine<Bare>>, job: &Arc<Job>) {
        let permit = Permit::unbounded(1);
        engine.submit((), &job.word, Arc::clone(job), 0, permit).expect("open");
    }

    fn start(worker_count: usize, thread_bound: bool) -> Arc<Engine<Bare>> {
        let settings = EngineSettings {
            name: "bench".to_owned(),
            worker_count,
            max_worker_count: worker_count,
            reserve_limit: Some(1),
            keep_reserved: true,
            thread_bound,
            ..EngineSettings::default()
        };
        let engine = Engine::new(Bare::new(|| ()), settings);
        engine.start_workers(()).expect("threads start");
        assert_eq!(engine.startup.wait(FOREVER), StartupStatus::Ready);
        engine
    }

    fn stop(engine: &Engine<Bare>) {
        engine.begin_stop();
        assert!(engine.wait_ended(FOREVER));
    }

    /// Runs `work` in so many threads at once, and takes the time from the first start to the last end.
    fn together<'w>(threads: u64, work: impl Fn() + Send + Sync + 'w) -> Duration {
        let begin = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(&work);
            }
        });
        begin.elapsed()
    }

    /// Entries through the lanes, pushed and popped by each of so many threads.
    fn lanes(c: &mut Criterion) {
        const ENTRIES: u64 = 10_000;
        let mut group = c.benchmark_group("lanes");
        for threads in [1, 2, 4, 8] {
            group.throughput(Throughput::Elements(threads * ENTRIES));
            group.bench_function(BenchmarkId::new("push and pop", threads), |bencher| {
                bencher.iter_custom(|rounds| {
                    let (lanes, gate) = (Lanes::new(), Gate::new());
                    let round = || {
                        for task in 0..rounds * ENTRIES {
                            let pass = gate.enter(1).expect("open");
                            lanes.push(Priority::Normal, task, 0);
                            drop(pass);
                            black_box(lanes.pop(|| Eligibility::NONE));
                        }
                    };
                    together(threads, round)
                });
            });
        }
        group.finish();
    }

    /// Tasks from submit to outcome: by so many submitters, with so many workers.
    fn bulk(c: &mut Criterion) {
        const TASKS: u64 = 10_000;
        let mut group = c.benchmark_group("bulk");
        for (submitters, workers) in [(1, 1), (1, 4), (4, 1), (4, 4)] {
            let engine = start(workers, true);
            let id =
                BenchmarkId::new(format!("{submitters} submitters"), format!("{workers} workers"));
            group.throughput(Throughput::Elements(submitters * TASKS));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|rounds| {
                    let submit = || {
                        for _ in 0..rounds {
                            for _ in 1..TASKS {
                                submit(&engine, &Job::new(0));
                            }
                            let last = Job::of(Priority::Low, OBSERVED);
                            submit(&engine, &last);
                            last.wait();
                        }
                    };
                    together(submitters, submit)
                });
            });
            stop(&engine);
        }
        group.finish();
    }

    /// One task, submitted by a caller that waits for it: two threads in turn.
    fn dispatch(c: &mut Criterion) {
        let mut group = c.benchmark_group("dispatch");
        let engine = start(1, true);
        group.bench_function("round trip", |bencher| {
            bencher.iter(|| {
                let job = Job::new(OBSERVED);
                submit(&engine, &job);
                job.wait();
            });
        });
        stop(&engine);
        let engine = start(1, false);
        let waiter = engine.accept_loan_waiter().expect("open");
        let entry = Entry::fresh(Job::new(RESERVED), 0);
        engine.start_reserved_for((), &entry);
        let first = engine.take_loan(&entry, FOREVER).expect("a worker was hired");
        drop(waiter);
        engine.give_back_loan(first);
        group.bench_function("on a loan", |bencher| {
            bencher.iter(|| {
                let entry = Entry::fresh(Job::new(RESERVED), 0);
                let loan = engine.accept_on_loan(0).expect("idle");
                engine.serve_on_loan((), loan, entry, Claiming::Unshared);
            });
        });
        stop(&engine);
        group.finish();
    }

    /// A whole life without tasks, threads included.
    fn lifecycle(c: &mut Criterion) {
        let mut group = c.benchmark_group("start and stop");
        for workers in [1, 8, 64] {
            group.bench_function(BenchmarkId::from_parameter(workers), |bencher| {
                bencher.iter(|| stop(&start(workers, true)));
            });
        }
        group.finish();
    }

    /// A reader of the figures, which should cost the same after any number of tasks.
    fn looking(c: &mut Criterion) {
        let mut group = c.benchmark_group("looking");
        let engine = start(8, true);
        for _ in 0..100_000 {
            submit(&engine, &Job::new(0));
        }
        let last = Job::of(Priority::Low, OBSERVED);
        submit(&engine, &last);
        last.wait();
        group.bench_function("stats", |bencher| bencher.iter(|| engine.stats()));
        group.bench_function("metrics", |bencher| bencher.iter(|| engine.metrics()));
        stop(&engine);
        group.finish();
    }

    /// What no dispatch between two threads can be quicker than where they share a core: two changes of threads.
    fn hand_over(c: &mut Criterion) {
        let mut group = c.benchmark_group("hand-over");
        group.bench_function("two threads that yield to each other", |bencher| {
            bencher.iter_custom(|times| {
                let turn = Arc::new(AtomicU64::new(0));
                let take_turns = move |mine: u64, turn: &AtomicU64| {
                    for round in 0..times {
                        while turn.load(Ordering::Acquire) != 2 * round + mine {
                            thread::yield_now();
                        }
                        turn.store(2 * round + mine + 1, Ordering::Release);
                    }
                };
                let other = {
                    let turn = Arc::clone(&turn);
                    thread::spawn(move || take_turns(1, &turn))
                };
                let begin = Instant::now();
                take_turns(0, &turn);
                let _ended = other.join();
                begin.elapsed()
            });
        });
        group.finish();
    }

    criterion_group!(benches, lanes, bulk, dispatch, hand_over, lifecycle, looking);
}

fn main() {
    #[cfg(not(loom))]
    {
        bench::benches();
        criterion::Criterion::default().configure_from_args().final_summary();
    }
}
