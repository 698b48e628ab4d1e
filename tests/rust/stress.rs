//! Everything at once: random faults, cancels, time limits and ends. What must hold then is checked by
//! `Runner::finish`, and by what the scenarios themselves see.
//!
//! `TASKER_STRESS=20` runs twenty times as many rounds; `TASKER_SEED=n` begins with another one. A
//! failure names the seed of its round.
#![cfg(not(loom))]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a host of its own")]

#[expect(dead_code, reason = "the other tests use all of it")]
mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;
use support::{End, Orders, Runner, Seat, Task, eventually, lock, workers};
use tasker::engine::EngineSettings;
use tasker::engine::clock::Tick;
use tasker::engine::metrics::events::EventKind;
use tasker::engine::resource::usage::ResourcePolicy;
use tasker::engine::task::priority::Priority;
use tasker::engine::task::{ONCE, RESERVED};

/// A small generator, good enough to mix things up: xorshift64*.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    fn pick(&mut self, from: u64, to: u64) -> usize {
        usize::try_from(from + self.roll(to - from + 1)).expect("small")
    }
}

/// Names the seed when its round fails.
struct Seed(u64);

impl Drop for Seed {
    #[expect(clippy::print_stderr, reason = "how to repeat a failure")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("failed with seed {}", self.0);
        }
    }
}

/// So many rounds, each with a seed of its own.
fn rounds(count: u64) -> impl Iterator<Item = u64> {
    let number = |name, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let count = if cfg!(miri) { count.div_ceil(50) } else { count * number("TASKER_STRESS", 1) };
    let first = number("TASKER_SEED", 1);
    first..first + count
}

/// How a round goes wrong, and how it ends.
struct Plan {
    seed: u64,
    /// Of 100 attempts so many spoil their resource.
    bad: u64,
    /// So many creations fail in a row after the start. Few: each costs a pause.
    broken: u64,
    /// Of 100 tasks so many have a time limit.
    limited: u64,
    /// Of 100 tasks so many are cancelled.
    cancelled: u64,
    producers: u64,
    tasks: u64,
    /// Ends after so many accepted tasks, or when all are done.
    end_after: Option<usize>,
    settings: EngineSettings,
}

impl Plan {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let worker_count = dice.pick(1, 4);
        let tasks = if cfg!(miri) { 15 } else { 60 + dice.roll(100) };
        let producers = 1 + dice.roll(3);
        Self {
            seed,
            bad: [0, 5, 40][dice.pick(0, 2)],
            broken: if dice.chance(20) { 1 + dice.roll(2) } else { 0 },
            limited: [0, 10, 50][dice.pick(0, 2)],
            cancelled: [0, 10, 60][dice.pick(0, 2)],
            producers,
            tasks,
            end_after: dice.chance(70).then(|| dice.pick(0, producers * tasks)),
            settings: EngineSettings {
                max_worker_count: worker_count + dice.pick(0, 2),
                max_queue_size: dice.chance(50).then(|| dice.pick(1, 20)),
                burst_interval: 500_000,
                idle_timeout: 1_000_000,
                retry_hold: [Tick::MAX, 200_000, 20_000][dice.pick(0, 2)],
                policy: ResourcePolicy {
                    validate_after: dice.chance(30).then_some(1),
                    resets: dice.chance(30),
                    max_tasks: dice.chance(30).then(|| 1 + dice.roll(20)),
                    max_age: dice.chance(20).then(|| 1_000_000 + dice.roll(3_000_000)),
                },
                reserve_limit: Some(dice.pick(1, 3)),
                reserve_at_start: dice.pick(0, 1),
                keep_reserved: dice.chance(50),
                thread_bound: dice.chance(60),
                ..workers(worker_count)
            },
        }
    }
}

/// Raises a flag when it is dropped.
struct Over<'f>(&'f AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One runner from start to end.
struct Scene {
    plan: Plan,
    runner: Runner,
    accepted: AtomicUsize,
    /// Set once a stop or kill has returned.
    over: AtomicBool,
}

impl Scene {
    fn new(plan: Plan) -> Arc<Self> {
        let settings = plan.settings.clone();
        // Not by number: a resource may have to be renewed before the last worker has come up.
        let failing = Arc::new(AtomicU64::new(0));
        let left = Arc::clone(&failing);
        let bad = plan.bad % 7;
        let on_create = move |_| {
            let fewer = |left: u64| left.checked_sub(1);
            match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer) {
                Ok(_) => Err("no resource"),
                Err(_) => Ok(()),
            }
        };
        let orders = Orders {
            on_create: Box::new(on_create),
            on_validate: Box::new(move |number| number % 7 != bad),
            on_reset: Box::new(move |number| number % 5 != bad),
            ..Orders::default()
        };
        let runner = Runner::new(settings, orders);
        failing.store(plan.broken, Ordering::SeqCst);
        runner.engine.need_keeper(()).expect("a thread");
        let (accepted, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { plan, runner, accepted, over })
    }

    /// What a task does: succeeds, fails, spoils, dawdles, or runs another one inside.
    fn work(
        self: &Arc<Self>,
        seed: u64,
        depth: u64,
    ) -> impl Fn(&Seat<'_>, &Arc<Task>) -> End + Send + Sync + use<> {
        let (scene, bad) = (Arc::downgrade(self), self.plan.bad);
        move |session, task| {
            let mut dice = Dice::new(seed ^ ((task.attempts() as u64) << 40));
            if let Some(scene) = Weak::upgrade(&scene) {
                assert!(!scene.over.load(Ordering::SeqCst), "no task runs after the end");
                if depth < 2 && dice.chance(10) {
                    scene.inside(session, dice.roll(u64::MAX), depth + 1);
                }
            }
            match dice.roll(20) {
                0..3 => thread::yield_now(),
                3 => {
                    let clock = &session.engine.clock;
                    let until = clock.now() + dice.roll(1_500_000);
                    while clock.now() < until {
                        std::hint::spin_loop();
                    }
                }
                _ => {}
            }
            if dice.chance(bad) {
                return End::Bad("bad");
            }
            if dice.chance(10) { End::Error("mine") } else { End::Value(seed) }
        }
    }

    /// Submits a task from inside another one, and runs it there unless a worker was quicker.
    fn inside(self: &Arc<Self>, session: &Seat<'_>, seed: u64, depth: u64) {
        let task = Task::new(Priority::Low, 0, self.work(seed, depth));
        if self.runner.try_submit_task(&task) {
            self.accepted.fetch_add(1, Ordering::SeqCst);
            session.serve_inside((), &task, true);
        }
    }

    fn produce(self: &Arc<Self>, seed: u64) {
        let mut dice = Dice::new(seed);
        let mut pending = Vec::new();
        for _ in 0..self.plan.tasks {
            let priority = Priority::ALL[dice.pick(0, 2)];
            let once = if dice.chance(20) { ONCE } else { 0 };
            let accepted = match dice.roll(10) {
                0 => {
                    let task =
                        Task::new(priority, RESERVED | once, self.work(dice.roll(u64::MAX), 0));
                    self.runner.run_task(&task)
                }
                kind => {
                    let task = Task::new(priority, once, self.work(dice.roll(u64::MAX), 0));
                    let accepted = if kind < 4 {
                        self.runner.try_submit_task(&task)
                    } else {
                        self.runner.submit_task(&task)
                    };
                    if accepted && dice.chance(self.plan.limited) {
                        self.runner.limit(&task, Duration::from_micros(dice.roll(2_000)));
                    }
                    pending.extend(accepted.then_some(task));
                    accepted
                }
            };
            self.accepted.fetch_add(usize::from(accepted), Ordering::SeqCst);
            if dice.chance(self.plan.cancelled) && !pending.is_empty() {
                let some = dice.pick(0, pending.len() as u64 - 1);
                self.runner.cancel(&pending.swap_remove(some));
            }
        }
    }

    /// Looks at the gauges all the time: none is ever negative, which would make it huge.
    fn watch(&self) {
        let most = 10 * (self.plan.producers * self.plan.tasks + 10);
        let mut dice = Dice::new(self.plan.seed ^ 0x5eed);
        let mut seen = 0;
        while !self.over.load(Ordering::SeqCst) {
            let stats = self.runner.stats();
            for gauge in [stats.queued, stats.high, stats.running, stats.overdue] {
                assert!(gauge < most, "{stats:?}");
            }
            let counts = stats.workers;
            let settings = &self.plan.settings;
            assert!(counts.main <= settings.max_worker_count, "{stats:?}");
            assert!(counts.base_slots <= settings.worker_count, "{stats:?}");
            assert!(Some(counts.reserved) <= settings.reserve_limit, "{stats:?}");
            let metrics = self.runner.engine.metrics();
            let ended = metrics[EventKind::Completed]
                + metrics[EventKind::Failed]
                + metrics[EventKind::Cancelled];
            assert!(ended >= seen, "counters only grow");
            // Not while nothing goes on: then workers would be replaced for as long as the end
            // waits for all to be back.
            if ended > seen && ended.is_multiple_of(3) {
                self.runner.engine.renew_all((), None);
                let workers = dice.pick(1, settings.worker_count as u64);
                let max = dice.pick(workers as u64, settings.max_worker_count as u64);
                self.runner.resize(Some(workers), Some(max));
            }
            seen = ended;
            thread::park_timeout(Duration::from_micros(500));
        }
    }

    fn end(&self) {
        // Even if this panics: the watcher has to end.
        let over = Over(&self.over);
        let mut dice = Dice::new(!self.plan.seed);
        let all = self.plan.end_after.is_none();
        if all {
            eventually("all tasks are done and all workers back", || {
                let stats = self.runner.stats();
                let settled = (stats.queued, stats.running, stats.overdue) == (0, 0, 0);
                settled && {
                    let counts = stats.workers;
                    (counts.base, counts.burst) == (self.runner.engine.limits().workers(), 0)
                        && counts.main_with_resource == counts.main
                }
            });
        }
        let kill = dice.chance(50);
        let both = dice.chance(30);
        thread::scope(|scope| {
            if both {
                scope.spawn(|| if kill { self.runner.stop() } else { self.runner.kill() });
            }
            if kill { self.runner.kill() } else { self.runner.stop() }
        });
        drop(over);
    }

    fn play(self: &Arc<Self>) {
        thread::scope(|scope| {
            let watcher = scope.spawn(|| self.watch());
            let producers: Vec<_> = (0..self.plan.producers)
                .map(|n| scope.spawn(move || self.produce(self.plan.seed ^ (n << 8))))
                .collect();
            if let Some(count) = self.plan.end_after {
                eventually("enough is accepted, or all there is", || {
                    self.accepted.load(Ordering::SeqCst) >= count
                        || producers.iter().all(ScopedJoinHandle::is_finished)
                });
                self.end();
            }
            for producer in producers {
                producer.join().expect("no producer panicked");
            }
            if self.plan.end_after.is_none() {
                self.end();
            }
            watcher.join().expect("the gauges are right");
        });
        self.runner.finish();
    }
}

#[test]
fn nothing_is_lost_whatever_goes_wrong() {
    for seed in rounds(300) {
        let named = Seed(seed);
        Scene::new(Plan::new(seed)).play();
        drop(named);
    }
}

/// A server that every resource depends on: a restart kills those that there are.
#[derive(Default)]
struct Server {
    restarts: AtomicU64,
    /// How many restarts there had been when a resource was begun, by its number.
    born: Mutex<HashMap<u64, u64>>,
}

impl Server {
    fn connect(&self, number: u64) {
        let restarts = self.restarts.load(Ordering::SeqCst);
        lock(&self.born).insert(number, restarts);
    }

    fn answers(&self, number: u64) -> bool {
        lock(&self.born)[&number] == self.restarts.load(Ordering::SeqCst)
    }
}

#[test]
fn restarts_cost_a_task_no_more_attempts_than_there_were() {
    const RESTARTS: u64 = 2;
    for seed in rounds(60) {
        let named = Seed(seed);
        let Plan { settings, producers, tasks, .. } = Plan::new(seed);
        let mut dice = Dice::new(!seed);
        let worker_count = dice.pick(2, 8);
        // For ever: nobody is to need it.
        let settings = EngineSettings {
            worker_count,
            max_worker_count: worker_count + dice.pick(0, 2),
            retry_hold: Tick::MAX,
            ..settings
        };
        let renews = dice.chance(30);
        let server = Arc::new(Server::default());
        let [creator, validator, tidier] = [(); 3].map(|()| Arc::clone(&server));
        let orders = Orders {
            max_retries: usize::try_from(RESTARTS).expect("few"),
            on_create: Box::new(move |number| {
                creator.connect(number);
                Ok(())
            }),
            on_validate: Box::new(move |number| validator.answers(number)),
            on_reset: Box::new(move |number| tidier.answers(number)),
            ..Orders::default()
        };
        let runner = Runner::new(settings, orders);
        let done = AtomicU64::new(0);
        thread::scope(|scope| {
            for producer in 0..producers {
                let (runner, server, done) = (&runner, &server, &done);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed ^ (producer << 8));
                    for number in 0..tasks {
                        let (priority, is_reserved) =
                            (Priority::ALL[dice.pick(0, 2)], dice.chance(30));
                        let flags = if is_reserved { RESERVED } else { 0 };
                        let server = Arc::clone(server);
                        let task = Task::new(priority, flags, move |session, _| {
                            let alive = server.answers(session.resource().id);
                            if alive { End::Value(number) } else { End::Bad("cut off") }
                        });
                        let run = if is_reserved { Runner::run_task } else { Runner::submit_task };
                        assert!(run(runner, &task), "open");
                        if dice.chance(50) {
                            task.outcome();
                        }
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            for restart in 1..=RESTARTS {
                let due = producers * tasks * restart / (RESTARTS + 1);
                eventually("it is time for a restart", || done.load(Ordering::SeqCst) >= due);
                server.restarts.fetch_add(1, Ordering::SeqCst);
                if renews {
                    runner.engine.renew_all((), None);
                }
            }
        });
        runner.finish();
        let metrics = runner.engine.metrics();
        assert_eq!(metrics[EventKind::Failed], 0, "{metrics:?}");
        drop(named);
    }
}

#[test]
fn each_producer_finds_its_order_kept_within_a_priority() {
    for seed in rounds(10) {
        let named = Seed(seed);
        let runner = Runner::new(workers(1), Orders::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let count = if cfg!(miri) { 20 } else { 1_000 };
        thread::scope(|scope| {
            for producer in 0..3 {
                let (runner, order) = (&runner, &order);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed ^ (producer << 8));
                    for number in 0..count {
                        let priority = Priority::ALL[dice.pick(0, 2)];
                        let order = Arc::clone(order);
                        runner.submit(priority, move |_, task| {
                            lock(&order).push((producer, priority, number, task.attempts()));
                            End::Value(number)
                        });
                    }
                });
            }
        });
        runner.finish();
        let order = lock(&order);
        assert_eq!(order.len() as u64, 3 * count);
        for producer in 0..3 {
            for priority in Priority::ALL {
                let own = order.iter().filter(|one| (one.0, one.1) == (producer, priority));
                assert!(own.is_sorted_by_key(|one| one.2));
            }
        }
        drop(named);
    }
}

#[test]
fn a_flood_of_cancels_loses_nothing_that_lives() {
    for seed in rounds(20) {
        let named = Seed(seed);
        let runner = Runner::new(workers(2), Orders::default());
        let count = if cfg!(miri) { 100 } else { 3_000 };
        thread::scope(|scope| {
            for producer in 0..2 {
                let runner = &runner;
                scope.spawn(move || {
                    let mut dice = Dice::new(seed ^ (producer << 8));
                    for _ in 0..count {
                        let task = Task::new(Priority::Normal, 0, |_, _| End::Value(1));
                        if !runner.submit_task(&task) {
                            break;
                        }
                        if dice.chance(90) {
                            runner.cancel(&task);
                        }
                    }
                });
            }
            let half = if seed % 3 == 0 { count * 2 } else { count };
            eventually("half is accepted", || runner.engine.metrics()[EventKind::Arrived] >= half);
            if seed % 2 == 0 { runner.kill() } else { runner.stop() }
        });
        runner.finish();
        drop(named);
    }
}

#[test]
fn a_panic_under_load_answers_everybody() {
    for seed in rounds(10) {
        let named = Seed(seed);
        let runner = Runner::new(workers(3), Orders::default());
        thread::scope(|scope| {
            for producer in 0..2 {
                let runner = &runner;
                scope.spawn(move || {
                    let mut dice = Dice::new(seed ^ (producer << 8));
                    loop {
                        let planted = dice.roll(200) == 0;
                        let task = Task::new(Priority::Normal, 0, move |_, _| {
                            assert!(!planted, "planted");
                            End::Value(1)
                        });
                        if !runner.submit_task(&task) {
                            break;
                        }
                    }
                });
            }
        });
        assert!(runner.engine.is_broken());
        runner.finish();
        drop(named);
    }
}
