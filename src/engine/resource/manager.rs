//! What the engine asks of the world around it to have resources.

/// See the module's documentation. `worker` is the name of the worker that the resource is for.
pub trait ResourceManager: Send + Sync + Sized + 'static {
    /// Proof of being where the host's objects may be used: `Python<'s>` in the binding, `()` in
    /// tests.
    type Scope<'s>: Copy;
    /// What a worker owns. It stays on its thread but for [loans](crate::engine::roster::loans).
    type Resource: Send;
    /// Why a resource could not be made, or a thread not started.
    type Fault: Send;

    /// Makes a resource, on the thread of the worker that will use it.
    ///
    /// # Errors
    ///
    /// Why it could not be made.
    fn create(&self, scope: Self::Scope<'_>, worker: &str) -> Result<Self::Resource, Self::Fault>;

    /// Why a resource could not be made that was bad from the start.
    fn bad_from_the_start(&self, scope: Self::Scope<'_>) -> Self::Fault;

    /// Cleans a resource up, once, on the thread that made it. Failures are the host's to report.
    fn destroy(&self, scope: Self::Scope<'_>, worker: &str, resource: Self::Resource);

    /// Looks at a resource that has been idle for long, before its next use. False: it is bad.
    fn validate(&self, scope: Self::Scope<'_>, worker: &str, resource: &Self::Resource) -> bool {
        let _ = (scope, worker, resource);
        true
    }

    /// Tidies a resource up after a task, whose outcome has been delivered. False: it is bad.
    fn reset(&self, scope: Self::Scope<'_>, worker: &str, resource: &Self::Resource) -> bool {
        let _ = (scope, worker, resource);
        true
    }
}
