//! The race between a cancel, the helper that makes its call, and the worker that goes on.

use crate::engine::task::helper_pool::Helpers;
use crate::engine::task::interrupt::InterruptCall;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::thread::spawn;
use crate::sync::{Arc, model};
use std::time::Duration;

/// What a call finds on the resource: the number of the task that it hits.
struct Resource {
    task: AtomicUsize,
    /// How often each task was hit.
    hits: [AtomicUsize; 2],
}

impl Resource {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            task: AtomicUsize::new(0),
            hits: [AtomicUsize::new(0), AtomicUsize::new(0)],
        })
    }

    /// Relaxed, as the call and the next task must be ordered by the protocol alone.
    fn hit(&self) {
        let task = self.task.load(Ordering::Relaxed);
        self.hits[task].fetch_add(1, Ordering::Relaxed);
    }

    fn hits(&self) -> [usize; 2] {
        [0, 1].map(|task| self.hits[task].load(Ordering::Relaxed))
    }
}

/// What a helper does.
fn make(call: &InterruptCall, resource: &Resource) {
    if call.begin() {
        resource.hit();
        call.end();
    }
}

/// An interrupt of the next task, or two of one.
#[test]
fn loom_a_call_hits_its_own_task_or_nobody() {
    model(|| {
        let (call, resource) = (Arc::new(InterruptCall::new()), Resource::new());
        let cancellers = [(); 2].map(|()| {
            let (call, resource) = (Arc::clone(&call), Arc::clone(&resource));
            spawn(move || {
                let sent = call.want();
                if sent {
                    make(&call, &resource);
                }
                sent
            })
        });
        let made = call.close();
        assert!(call.wait(Duration::MAX));
        assert_eq!(resource.hits(), [usize::from(made), 0]);
        resource.task.store(1, Ordering::Relaxed);
        let sent = cancellers.map(|one| usize::from(one.join().unwrap()));
        assert!(sent[0] + sent[1] <= 1);
        assert_eq!(resource.hits(), [usize::from(made), 0]);
    });
}

/// An interrupt of the task inside, or one that is lost since it was wanted while that task ran.
#[test]
fn loom_a_covered_call_waits_for_the_end_of_the_task_inside() {
    model(|| {
        let (call, resource) = (Arc::new(InterruptCall::new()), Resource::new());
        let canceller = {
            let (call, resource) = (Arc::clone(&call), Arc::clone(&resource));
            spawn(move || {
                if call.want() {
                    make(&call, &resource);
                }
            })
        };
        call.cover();
        assert!(call.wait(Duration::MAX));
        resource.task.store(1, Ordering::Relaxed);
        resource.task.store(0, Ordering::Relaxed);
        if call.uncover() {
            make(&call, &resource);
        }
        canceller.join().unwrap();
        assert_eq!(resource.hits(), [1, 0]);
    });
}

/// A job that no helper takes, or a helper that stays when all are to end.
#[test]
fn loom_a_helper_hears_of_every_job_and_of_the_end() {
    model(|| {
        let helpers = Arc::new(Helpers::new());
        assert!(helpers.add_user());
        let helper = {
            let helpers = Arc::clone(&helpers);
            spawn(move || {
                let mut done = 0;
                while helpers.next(|| 0).is_some() {
                    done += 1;
                    helpers.done();
                    if done == 2 {
                        helpers.close();
                    }
                }
                done
            })
        };
        let canceller = {
            let helpers = Arc::clone(&helpers);
            spawn(move || helpers.put(1))
        };
        helpers.put(2);
        assert_eq!(helper.join().unwrap(), 2);
        canceller.join().unwrap();
    });
}
