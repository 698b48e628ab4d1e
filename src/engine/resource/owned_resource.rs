//! The care for one resource, the same for both holders: its worker, and a caller of `run_task`
//! that has it on loan.
//!
//! A *bad* resource is replaced before its next use. A *worn* one is good: it is renewed when its
//! worker has the turn.

use super::epochs::FailureEpochs;
use super::manager::ResourceManager;
use super::usage::ResourceUsage;
use crate::engine::clock::{Clock, Tick};
use crate::engine::metrics::figures::Replacement;
use std::cell::Cell;

/// See the module's documentation. It belongs to the thread that holds the resource.
#[derive(Debug)]
pub struct OwnedResource<R> {
    resource: R,
    usage: ResourceUsage,
    /// Why it is to be replaced, if it is.
    bad: Cell<Option<Replacement>>,
}

impl<R> OwnedResource<R> {
    /// Makes a resource, and validates it if it `may_be_bad`: one that is has been cleaned up.
    /// `usage` begins its record.
    ///
    /// # Errors
    ///
    /// Why it could not be made, or that it was bad.
    pub fn create<H: ResourceManager<Resource = R>>(
        hooks: &H,
        scope: H::Scope<'_>,
        worker: &str,
        may_be_bad: bool,
        usage: impl FnOnce() -> ResourceUsage,
    ) -> Result<Self, H::Fault> {
        let resource = hooks.create(scope, worker)?;
        if may_be_bad && !hooks.validate(scope, worker, &resource) {
            hooks.destroy(scope, worker, resource);
            return Err(hooks.bad_from_the_start(scope));
        }
        Ok(Self { resource, usage: usage(), bad: Cell::new(None) })
    }

    /// Cleans it up, on the thread that made it.
    pub fn destroy<H: ResourceManager<Resource = R>>(
        self,
        hooks: &H,
        scope: H::Scope<'_>,
        worker: &str,
    ) {
        hooks.destroy(scope, worker, self.resource);
    }

    /// What it is about.
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// Its record.
    pub fn usage(&self) -> &ResourceUsage {
        &self.usage
    }

    /// Whether it is to be replaced.
    pub fn is_bad(&self) -> bool {
        self.bad.get().is_some()
    }

    /// Says that it is to be replaced, and why. The first reason stays.
    pub fn mark_bad(&self, reason: Replacement) {
        self.bad.set(self.bad.get().or(Some(reason)));
    }

    /// Why it is given up for another: it is bad, or it is worn.
    pub fn replacement(&self, now: Tick, generation: u64) -> Option<Replacement> {
        self.bad.get().or_else(|| self.usage.wear(|| now, generation))
    }

    /// Whether it was found bad before its first task.
    pub fn never_served(&self) -> bool {
        self.is_bad() && !self.usage.has_served()
    }

    /// Has the host look at it. False: it is bad.
    pub fn validate<H: ResourceManager<Resource = R>>(
        &self,
        hooks: &H,
        scope: H::Scope<'_>,
        worker: &str,
        failures: &FailureEpochs,
        clock: &Clock,
    ) -> bool {
        let latest = failures.latest();
        let valid = hooks.validate(scope, worker, &self.resource);
        if valid {
            self.usage.validated(clock.now(), latest);
        } else {
            self.mark_bad(Replacement::Invalid);
        }
        valid
    }

    /// Has the host tidy it up after a task.
    pub fn reset<H: ResourceManager<Resource = R>>(
        &self,
        hooks: &H,
        scope: H::Scope<'_>,
        worker: &str,
    ) {
        if !hooks.reset(scope, worker, &self.resource) {
            self.mark_bad(Replacement::Reset);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::resource::epochs::INITIAL_EPOCH;
    use crate::engine::resource::usage::ResourcePolicy;
    use crate::sync::Mutex;

    /// Resources with a number, of which those that are `bad` are refused, and what was destroyed
    /// of them.
    #[derive(Default)]
    struct Numbered {
        bad: Vec<u32>,
        destroyed: Mutex<Vec<u32>>,
    }

    impl ResourceManager for Numbered {
        type Scope<'s> = ();
        type Resource = u32;
        type Fault = &'static str;

        fn create(&self, (): (), _worker: &str) -> Result<u32, &'static str> {
            Ok(7)
        }

        fn bad_from_the_start(&self, (): ()) -> &'static str {
            "bad"
        }

        fn destroy(&self, (): (), _worker: &str, resource: u32) {
            self.destroyed.lock().push(resource);
        }

        fn validate(&self, (): (), _worker: &str, resource: &u32) -> bool {
            !self.bad.contains(resource)
        }

        fn reset(&self, (): (), _worker: &str, resource: &u32) -> bool {
            !self.bad.contains(resource)
        }
    }

    fn create(hooks: &Numbered, may_be_bad: bool) -> Result<OwnedResource<u32>, &'static str> {
        let policy = ResourcePolicy { validate_after: Some(0), ..ResourcePolicy::default() };
        OwnedResource::create(hooks, (), "worker", may_be_bad, || {
            ResourceUsage::new(policy, 0, 0, INITIAL_EPOCH, || 0)
        })
    }

    fn validate(
        owned_resource: &OwnedResource<u32>,
        hooks: &Numbered,
        failures: &FailureEpochs,
    ) -> bool {
        owned_resource.validate(hooks, (), "worker", failures, &Clock::new())
    }

    #[test]
    fn a_resource_bad_from_the_start_is_destroyed_where_it_is_looked_at() {
        let hooks = Numbered { bad: vec![7], ..Numbered::default() };
        assert_eq!(create(&hooks, true).err(), Some("bad"));
        assert_eq!(*hooks.destroyed.lock(), [7]);
        assert!(create(&hooks, false).is_ok());
    }

    #[test]
    fn a_resource_found_good_is_known_to_be_good_and_no_longer_doubted() {
        let (hooks, failures) = (Numbered::default(), FailureEpochs::new());
        let owned_resource = create(&hooks, false).expect("made");
        let latest = failures.advance();
        owned_resource.usage().mark_suspect();
        assert!(validate(&owned_resource, &hooks, &failures) && !owned_resource.is_bad());
        assert_eq!(owned_resource.usage().known_good_since(), latest);
        assert!(!owned_resource.usage().is_suspect());
        owned_resource.reset(&hooks, (), "worker");
        assert!(!owned_resource.is_bad());
    }

    #[test]
    fn a_resource_that_is_not_reset_is_bad() {
        let hooks = Numbered { bad: vec![7], ..Numbered::default() };
        let owned_resource = create(&hooks, false).expect("made");
        owned_resource.reset(&hooks, (), "worker");
        assert!(owned_resource.is_bad());
        owned_resource.destroy(&hooks, (), "worker");
        assert_eq!(*hooks.destroyed.lock(), [7]);
    }

    #[test]
    fn has_never_served_when_found_bad_before_its_first_task() {
        let (hooks, failures) =
            (Numbered { bad: vec![7], ..Numbered::default() }, FailureEpochs::new());
        let owned_resource = create(&hooks, false).expect("made");
        assert!(!owned_resource.never_served());
        assert!(!validate(&owned_resource, &hooks, &failures));
        assert!(owned_resource.never_served());
        owned_resource.usage().served(2_000, 1);
        assert!(!validate(&owned_resource, &hooks, &failures));
        assert!(!owned_resource.never_served());
    }
}
