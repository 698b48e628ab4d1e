//! When the keeper is to look at the runner: every so often while tasks are under way, and never at
//! rest.

use super::window::Window;
use crate::engine::clock::Tick;
use crate::sync::atomic::{AtomicBool, Ordering};

/// See the module's documentation.
///
/// A look is requested by the thread that notes in the [`Window`] that something has happened in a
/// new second, so no task pays for it. The keeper takes the request back before it looks whether
/// anything is left to come back for.
#[derive(Debug)]
pub struct Looks {
    /// Time between two looks; `None`: there are none.
    interval: Option<Tick>,
    /// The keeper is going to look. Relaxed: the thread that requests has had the lock of the
    /// window's marks since it noted the second, and the keeper has it after it took the request
    /// back. Whichever comes second sees what the other one did.
    requested: AtomicBool,
}

impl Looks {
    /// None is requested.
    pub fn new(interval: Option<Tick>) -> Self {
        Self { interval, requested: AtomicBool::new(false) }
    }

    /// Requests a look. Tells one caller when it is due: the one that has the keeper woken then.
    pub fn request(&self, now: Tick) -> Option<Tick> {
        let interval = self.interval?;
        let is_first = !self.requested.load(Ordering::Relaxed)
            && !self.requested.swap(true, Ordering::Relaxed);
        is_first.then(|| now.saturating_add(interval))
    }

    /// Takes the request back. The keeper then asks what is under way.
    pub fn begin(&self) {
        self.requested.store(false, Ordering::Relaxed);
    }

    /// Whether nothing has happened for so long that the next event notes a new second, and so
    /// requests a look by itself.
    pub fn may_rest(&self, window: &Window, now: Tick) -> bool {
        // Not at the end of the second: its events are counted a little after they read the clock.
        self.interval.is_none_or(|interval| window.is_quiet(now, interval))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::SECOND;
    use super::*;

    #[test]
    fn one_look_is_requested_at_a_time() {
        let looks = Looks::new(Some(10));
        assert_eq!([looks.request(5), looks.request(6)], [Some(15), None]);
        looks.begin();
        assert_eq!(looks.request(20), Some(30));
    }

    #[test]
    fn none_is_requested_where_nobody_is_told() {
        let looks = Looks::new(None);
        assert_eq!(looks.request(5), None);
        assert!(looks.may_rest(&Window::new(0), 0));
    }

    #[test]
    fn the_keeper_rests_when_nothing_has_happened_since_the_look_before() {
        let (looks, window) = (Looks::new(Some(10 * SECOND)), Window::new(0));
        assert!(window.advance(0, || (0, 0)));
        assert!(!looks.may_rest(&window, 11 * SECOND - 1));
        assert!(looks.may_rest(&window, 11 * SECOND));
        assert!(window.advance(20 * SECOND, || (0, 0)));
        assert!(!looks.may_rest(&window, 31 * SECOND - 1));
        assert!(looks.may_rest(&window, 31 * SECOND));
    }
}
