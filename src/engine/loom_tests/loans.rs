//! The race of a thread that looks for outdated loans with calls that come and go.

use crate::engine::roster::loans::Loans;
use crate::sync::thread::spawn;
use crate::sync::{Arc, model};

/// An outdated loan that is left to calls for retries, which pass it over: one of them comes, and
/// one goes, while a thread looks whether another call waits.
#[test]
fn loom_no_loan_is_left_to_calls_that_pass_it_over() {
    model(|| {
        let loans = Arc::new(Loans::<(), ()>::new());
        loans.add_waiter(true);
        let comes = {
            let loans = Arc::clone(&loans);
            spawn(move || loans.add_waiter(true))
        };
        let goes = {
            let loans = Arc::clone(&loans);
            spawn(move || {
                loans.remove_waiter(true);
                loans.is_awaited()
            })
        };
        let seen = loans.is_awaited();
        comes.join().unwrap();
        assert!(!seen || !goes.join().unwrap());
    });
}
