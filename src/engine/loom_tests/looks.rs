//! The race of the keeper that finds nothing left to look at.

use crate::engine::metrics::looks::Looks;
use crate::engine::metrics::window::Window;
use crate::sync::thread::spawn;
use crate::sync::{Arc, model};

/// A task that comes while the keeper goes to rest, and is never looked at, however long it runs.
#[test]
fn loom_what_comes_while_the_keeper_goes_to_rest_is_looked_at() {
    const NOW: u64 = 100_000_000_000;
    model(|| {
        let shared = Arc::new((Window::new(0), Looks::new(Some(1))));
        assert!(shared.1.request(0).is_some());
        let submitter = {
            let shared = Arc::clone(&shared);
            spawn(move || {
                let (window, looks) = &*shared;
                window.advance(NOW, || (0, 0)) && looks.request(NOW).is_some()
            })
        };
        let (window, looks) = &*shared;
        looks.begin();
        let comes_back = !looks.may_rest(window, NOW) && looks.request(NOW).is_some();
        // By one of the two, and no look is requested twice.
        assert_ne!(comes_back, submitter.join().unwrap());
    });
}
