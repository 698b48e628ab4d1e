//! What the engine costs without Python: the queue by contention, the way of one task, start and stop.
//!
//! The host does nothing: a task is a word, a resource is nothing, a thread is std's.
#![expect(clippy::disallowed_methods, reason = "a host of its own")]

#[cfg(not(loom))]
mod bench {
    use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
    use std::hint::black_box;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread::{self, Thread};
    use std::time::{Duration, Instant};
    use tasker::engine::clock::Tick;
    use tasker::engine::queue::gate::Gate;
    use tasker::engine::queue::lanes::{Class, Entry, Lanes};
    use tasker::engine::resource::backoff::Trouble;
    use tasker::engine::resource::care::Policy;
    use tasker::engine::resource::proof::Proof;
    use tasker::engine::staffing::launch::Launched;
    use tasker::engine::task::{EXPRESS, OBSERVED, TaskWord};
    use tasker::engine::worker::Life;
    use tasker::engine::worker::badge::Badge;
    use tasker::engine::worker::desk::Desk;
    use tasker::engine::worker::loans::Claiming;
    use tasker::engine::{Engine, Host, Ran, Refusal, Settings, Verdict};

    const FOREVER: Duration = Duration::from_secs(60);

    /// A task without work.
    #[derive(Debug)]
    struct Job {
        word: TaskWord,
        waiter: Thread,
    }

    impl Job {
        fn new(flags: u32) -> Arc<Self> {
            Arc::new(Self { word: TaskWord::new(Class::Normal, flags), waiter: thread::current() })
        }

        fn publish(&self) {
            let flags = self.word.publish(|_| true).unwrap_or(0);
            if flags & OBSERVED != 0 {
                self.waiter.unpark();
            }
        }

        fn wait(&self) {
            while !self.word.is_done() {
                thread::park();
            }
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
            thread::spawn(move || life.live(()));
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
            if !task.word.settle_running() {
                return Ran::Late;
            }
            desk.delivered(true);
            task.publish();
            Ran::Completed
        }

        fn judge(&self, (): (), _: &Desk<'_, Self>, _: &Arc<Job>) -> Verdict {
            Verdict::Healthy
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

    fn start(worker_count: usize, thread_bound: bool) -> Arc<Engine<Bare>> {
        let settings = Settings {
            name: "bench".to_owned(),
            worker_count,
            on_demand: false,
            max_worker_count: worker_count,
            reserve_limit: 1,
            reserve_at_start: 0,
            keep_reserved: true,
            thread_bound,
            max_queue_size: None,
            care: Policy::default(),
            burst_interval: Tick::MAX,
            idle_timeout: Tick::MAX,
            hold: Tick::MAX,
        };
        let engine = Engine::new(Bare, settings);
        engine.launch_workers(()).expect("threads start");
        assert_eq!(engine.launch.wait(FOREVER), Launched::Ready);
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
                            let pass = gate.enter().expect("open");
                            lanes.push(Class::Normal, task, 0);
                            drop(pass);
                            black_box(lanes.pop(|| Proof::NONE));
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
                                engine.submit(Class::Normal, Job::new(0), 0).expect("open");
                            }
                            let last = Job::new(OBSERVED);
                            engine.submit(Class::Low, Arc::clone(&last), 0).expect("open");
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
                engine.submit(Class::Normal, Arc::clone(&job), 0).expect("open");
                job.wait();
            });
        });
        stop(&engine);
        let engine = start(1, false);
        let seeker = engine.accept_seeker().expect("open");
        let entry = Entry::fresh(Job::new(EXPRESS), 0);
        engine.staff_for((), &entry);
        let first = engine.loans.take(&engine, &entry, FOREVER).expect("a worker was hired");
        drop(seeker);
        first.give_back(&engine);
        group.bench_function("on a loan", |bencher| {
            bencher.iter(|| {
                let entry = Entry::fresh(Job::new(EXPRESS), 0);
                let loan = engine.accept_on_loan(0).expect("idle");
                loan.serve(&engine, (), entry, Claiming::Unshared);
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
            engine.submit(Class::Normal, Job::new(0), 0).expect("open");
        }
        let last = Job::new(OBSERVED);
        engine.submit(Class::Low, Arc::clone(&last), 0).expect("open");
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
