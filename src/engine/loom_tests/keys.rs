//! Tasks with a key, which are left to a worker that is expected.

use super::{SLEEPER, push, push_with, work_as};
use crate::engine::clock::Tick;
use crate::engine::queue::Queue;
use crate::engine::queue::idle_workers::{Wakeable, Wakeup};
use crate::engine::resource::epochs::{Eligibility, INITIAL_EPOCH};
use crate::engine::task::key::KeyNumber;
use crate::sync::thread::spawn;
use crate::sync::{Arc, model};

const HOME: Wakeable = Wakeable { number: 1, home: 1, ..SLEEPER };

/// A queue, and a key that is at home with [`HOME`].
fn queue_with_key() -> (Arc<Queue<u32>>, KeyNumber) {
    let (queue, key) = (Arc::new(Queue::new(None, Tick::MAX)), KeyNumber::of_index(1));
    queue.key_homes.begin(key, HOME.home);
    queue.key_homes.stop_coming(HOME.home);
    (queue, key)
}

/// A task that waits for ever: others left it to its home, which was woken and has something else to
/// do first.
#[test]
fn loom_a_task_that_its_home_does_not_take_reaches_another_worker() {
    model(|| {
        let (queue, key) = queue_with_key();
        let home = {
            let queue = Arc::clone(&queue);
            spawn(move || {
                let any = || Eligibility::ANY;
                queue.key_homes.come(HOME.home);
                let wakeup = queue.wait_for_task(HOME, false, || None, any, || false);
                queue.wake_another(wakeup);
            })
        };
        let other = {
            let queue = Arc::clone(&queue);
            spawn(move || work_as(SLEEPER, &queue, INITIAL_EPOCH, 1))
        };
        assert!(push_with(&queue, 7, key));
        assert_eq!(other.join().unwrap(), [7]);
        queue.close();
        home.join().unwrap();
        assert_eq!(queue.idle_workers.expected(), 0);
    });
}

/// The task beside it, which nobody takes, as it looks like the one that is left to the home.
#[test]
fn loom_a_task_beside_one_that_is_left_to_its_home_reaches_the_other_worker() {
    model(|| {
        let (queue, key) = queue_with_key();
        let workers = [HOME, SLEEPER].map(|wakeable| {
            let queue = Arc::clone(&queue);
            spawn(move || work_as(wakeable, &queue, INITIAL_EPOCH, 1))
        });
        assert!(push_with(&queue, 1, key) && push(&queue, 2));
        let taken = workers.map(|worker| worker.join().unwrap());
        assert!(taken.iter().all(|one| one.len() == 1), "{taken:?}");
    });
}

/// A worker that sleeps through the end, since it left the last task to its home.
#[test]
fn loom_who_leaves_a_task_to_its_home_hears_of_the_end() {
    model(|| {
        let (queue, key) = queue_with_key();
        let workers = [HOME, SLEEPER].map(|wakeable| {
            let queue = Arc::clone(&queue);
            spawn(move || work_as(wakeable, &queue, INITIAL_EPOCH, usize::MAX))
        });
        assert!(push_with(&queue, 7, key));
        queue.close();
        let taken = workers.map(|worker| worker.join().unwrap());
        assert_eq!(taken.concat(), [7]);
    });
}

/// A worker that stays expected, so that others leave to it what it never takes: it woke up by itself
/// as it was woken.
#[test]
fn loom_a_home_that_gives_up_as_it_is_woken_is_not_expected_for_ever() {
    model(|| {
        let (queue, key) = queue_with_key();
        let sleeper = {
            let queue = Arc::clone(&queue);
            spawn(move || {
                let wakeup = queue.idle_workers.sleep(HOME, None, || false);
                queue.wake_another(wakeup);
            })
        };
        assert!(push_with(&queue, 7, key));
        sleeper.join().unwrap();
        assert_eq!((queue.idle_workers.expected(), queue.idle_workers.sleepers()), (0, 0));
        assert!(queue.take(Wakeup::NotNeeded, || Eligibility::ANY, |_| false).is_some());
    });
}
