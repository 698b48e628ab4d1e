//! How many tasks failed with an error of which type.

use crate::binding::class_name;
use crate::sync::Mutex;
use pyo3::prelude::*;
use std::collections::HashMap;

/// So many types are counted, in the order in which they come; then all others together.
const MAX_TYPES: usize = 100;
const OTHER: &str = "other";

/// See the module's documentation. A failed task takes its lock, for a look at a table.
#[derive(Default)]
pub(in crate::binding) struct ErrorTypes(Mutex<HashMap<Box<str>, u64>>);

impl ErrorTypes {
    /// A task failed, and the error is about to be published.
    pub(in crate::binding) fn count(&self, py: Python<'_>, error: &Py<PyAny>) {
        let class = error.bind(py).get_type();
        let name = class_name::of_error(&class).unwrap_or_else(|| OTHER.to_owned());
        let mut counts = self.0.lock();
        let name =
            if counts.len() < MAX_TYPES || counts.contains_key(&*name) { &*name } else { OTHER };
        match counts.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(counts.insert(name.into(), 1)),
        }
    }

    /// What was counted.
    pub(in crate::binding) fn counts(&self) -> Vec<(Box<str>, u64)> {
        self.0.lock().iter().map(|(name, count)| (name.clone(), *count)).collect()
    }
}
