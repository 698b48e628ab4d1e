//! The joint calls of an engine: which tasks run in one call of a function, and the token by which
//! that call is told to give up. One task cannot be ended there without the others, so the token is
//! cancelled when all of them are given up.

use super::token::Token;
use super::{CANCEL_REQUESTED, TaskWord};
use crate::sync::{Arc, Mutex};

/// See the module's documentation. A worker adds its call before it looks whether the runner was
/// killed, or a task given up; a thread that kills or gives up marks that before it looks here.
pub(in crate::engine) struct JointCalls<T> {
    running: Mutex<Vec<JointCall<T>>>,
}

struct JointCall<T> {
    /// The lead first. Shared with the worker that runs them, which drops them.
    tasks: Arc<Vec<T>>,
    token: Token,
}

impl<T> JointCalls<T> {
    pub(in crate::engine) fn new() -> Self {
        Self { running: Mutex::new(Vec::new()) }
    }

    pub(in crate::engine) fn begin(&self, tasks: Arc<Vec<T>>, token: Token) {
        self.running.lock().push(JointCall { tasks, token });
    }

    /// Ends the call that a task is of, and gives its tasks.
    pub(in crate::engine) fn end(
        &self,
        task: &TaskWord,
        word: impl Fn(&T) -> &TaskWord,
    ) -> Option<Arc<Vec<T>>> {
        let mut running = self.running.lock();
        let place = running.iter().position(|call| call.includes(task, &word))?;
        Some(running.swap_remove(place).tasks)
    }

    /// Handles on all tasks of the call that a task is of. `share` makes them and does nothing else,
    /// as the lock is held.
    pub(in crate::engine) fn tasks_with(
        &self,
        task: &TaskWord,
        word: impl Fn(&T) -> &TaskWord,
        share: impl Fn(&T) -> T,
    ) -> Vec<T> {
        let running = self.running.lock();
        let call = running.iter().find(|call| call.includes(task, &word));
        call.map(|call| call.tasks.iter().map(share).collect()).unwrap_or_default()
    }

    /// The token of the call that a task is of, if all tasks of that are given up: told so, or
    /// settled.
    pub(in crate::engine) fn given_up(
        &self,
        task: &TaskWord,
        word: impl Fn(&T) -> &TaskWord,
    ) -> Option<Token> {
        let running = self.running.lock();
        let call = running.iter().find(|call| call.includes(task, &word))?;
        let is_given_up = |task: &T| word(task).has(CANCEL_REQUESTED) || word(task).is_taken();
        call.tasks.iter().all(is_given_up).then(|| call.token.clone())
    }
}

impl<T> JointCall<T> {
    fn includes(&self, task: &TaskWord, word: impl Fn(&T) -> &TaskWord) -> bool {
        self.tasks.iter().any(|other| std::ptr::eq(word(other), task))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::task::priority::Priority;

    #[test]
    fn a_call_is_told_to_give_up_when_its_last_task_is() {
        let calls = JointCalls::new();
        let tasks = [(); 2].map(|()| Arc::new(TaskWord::new(Priority::Normal, 0)));
        let other = Arc::new(TaskWord::new(Priority::Normal, CANCEL_REQUESTED));
        for task in &tasks {
            assert!(task.claim_fresh());
        }
        calls.begin(Arc::new(tasks.to_vec()), Token::new());
        tasks[1].set(CANCEL_REQUESTED);
        assert!(calls.given_up(&tasks[1], |task| task).is_none());
        assert!(calls.given_up(&other, |task| task).is_none());
        assert!(tasks[0].settle_running());
        assert!(calls.given_up(&tasks[1], |task| task).is_some());
        assert_eq!(calls.tasks_with(&tasks[1], |task| task, Arc::clone).len(), 2);
        assert_eq!(calls.end(&tasks[0], |task| task).map(|call| call.len()), Some(2));
        assert!(calls.end(&tasks[0], |task| task).is_none());
    }
}
