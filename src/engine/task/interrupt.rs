//! One call that interrupts a task from another thread: made at most once, and never while its task
//! is past it.
//!
//! ```text
//!            begin             end
//!  OPEN ──────────► UNDER WAY ─────► OVER
//!     └──► CLOSED
//!    close
//! ```
//!
//! The canceller only says that the call is wanted; a helper thread begins it, makes it and ends
//! it. The owner of what is interrupted closes it: from then on it cannot begin, and once a wait
//! has returned it is not under way. So an interrupt can hit nothing that the owner does after
//! that, which a look at a flag before the call could not promise: between look and call the task
//! may end, and the next one begin on the same resource.

use crate::sync::{Condvar, Mutex};
use std::time::Duration;

/// See the module's documentation.
#[derive(Debug)]
pub struct InterruptCall {
    state: Mutex<CallState>,
    over: Condvar,
}

#[derive(Debug)]
struct CallState {
    /// The canceller wants the call. Set once.
    wanted: bool,
    /// Another task runs on the resource, inside the one that this call is for: the call waits for
    /// its end.
    covered: bool,
    stage: CallStage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallStage {
    Open,
    UnderWay,
    Over,
    Closed,
}

impl InterruptCall {
    /// A call that no canceller wants yet.
    pub fn new() -> Self {
        let state = CallState { wanted: false, covered: false, stage: CallStage::Open };
        Self { state: Mutex::new(state), over: Condvar::new() }
    }

    /// Says that the call is wanted; true when a helper is to be sent for it.
    #[must_use]
    pub fn want(&self) -> bool {
        let mut state = self.state.lock();
        let first = !std::mem::replace(&mut state.wanted, true);
        first && state.stage == CallStage::Open && !state.covered
    }

    /// Whether the canceller wants the call.
    pub fn is_wanted(&self) -> bool {
        self.state.lock().wanted
    }

    /// Begins the call, for a helper, which makes it and [ends](Self::end) it. `false`: it is not
    /// to be made, or not now.
    #[must_use]
    pub fn begin(&self) -> bool {
        let mut state = self.state.lock();
        let may = state.stage == CallStage::Open && !state.covered;
        if may {
            state.stage = CallStage::UnderWay;
        }
        may
    }

    /// The call has returned.
    pub fn end(&self) {
        self.state.lock().stage = CallStage::Over;
        self.over.notify_all();
    }

    /// Keeps the call from beginning, for good. True when it was made, or is under way.
    pub fn close(&self) -> bool {
        let mut state = self.state.lock();
        if state.stage == CallStage::Open {
            state.stage = CallStage::Closed;
        }
        state.stage != CallStage::Closed
    }

    /// Keeps the call from beginning until it is [uncovered](Self::uncover). It may be under way.
    pub fn cover(&self) {
        self.state.lock().covered = true;
    }

    /// Lets it begin again; true when it was wanted meanwhile, and a helper is to be sent for it.
    #[must_use]
    pub fn uncover(&self) -> bool {
        let mut state = self.state.lock();
        state.covered = false;
        state.wanted && state.stage == CallStage::Open
    }

    /// Whether it has begun and not returned.
    pub fn is_under_way(&self) -> bool {
        self.state.lock().stage == CallStage::UnderWay
    }

    /// Blocks while it is under way, up to a limit; whether it is not.
    pub fn wait(&self, limit: Duration) -> bool {
        let under_way = |state: &mut CallState| state.stage == CallStage::UnderWay;
        !under_way(&mut self.over.wait_while(self.state.lock(), limit, under_way))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn is_made_once_however_often_it_is_wanted() {
        let call = InterruptCall::new();
        assert!(call.want() && !call.want());
        assert!(call.begin() && !call.begin());
        assert!(call.is_under_way() && call.close());
        call.end();
        assert!(!call.begin() && !call.is_under_way() && call.close());
    }

    #[test]
    fn never_begins_once_it_is_closed() {
        let (unwanted, wanted) = (InterruptCall::new(), InterruptCall::new());
        assert!(!unwanted.close() && !unwanted.want() && !unwanted.begin());
        assert!(wanted.want() && !wanted.close() && !wanted.begin());
        assert!(wanted.wait(Duration::ZERO));
    }

    #[test]
    fn waits_while_it_is_covered() {
        let (early, late) = (InterruptCall::new(), InterruptCall::new());
        assert!(early.want());
        early.cover();
        assert!(!early.begin() && early.uncover() && early.begin());
        late.cover();
        assert!(!late.want() && late.is_wanted() && late.uncover());
        assert!(late.begin());
        late.end();
        assert!(!late.uncover());
    }
}
