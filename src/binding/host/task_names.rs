//! Which row of the figures by name a task counts in, found without asking for its name: by the
//! string that its function has for one.

use crate::binding::callable;
use crate::binding::options::Asked;
use crate::binding::printable::MAX_NAME_CHARS;
use crate::engine::metrics::by_name::NameRow;
use crate::engine::metrics::ledger::Ledger;
use crate::sync::OnceLock;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// How many names are known by their strings; a power of two. Those of the others are looked up by
/// what they say.
const PLACES: usize = 256;

/// See the module's documentation.
pub(super) struct TaskNames {
    /// Written once each: no name gives way to another, as one of ten thousand that come by would
    /// push out those that stay.
    places: Box<[OnceLock<KnownName>; PLACES]>,
}

/// A name whose row is known.
struct KnownName {
    /// A reference, so that no other string gets the address: a pointer that equals one to a live
    /// string is that string.
    name: Py<PyAny>,
    row: NameRow,
}

impl TaskNames {
    pub(super) fn new() -> Self {
        let places: Box<[_]> = (0..PLACES).map(|_| OnceLock::new()).collect();
        Self { places: places.try_into().ok().expect("so many were made") }
    }

    /// The row of a task.
    pub(super) fn row(&self, py: Python<'_>, ledger: &Ledger, task: Asked<'_>) -> NameRow {
        let look_up = || ledger.row_of(&task.name(py));
        if let Some(options) = task.options.filter(|options| options.name.is_some()) {
            return *options.row.get_or_init(look_up);
        }
        let Some(function) = task.function else {
            return look_up();
        };
        // Without a reference, for most tasks.
        if let Some(row) = self.known(callable::name_pointer(py, function.as_ptr())) {
            return row;
        }
        let Some(name) = callable::qualified_name(function.bind(py)) else {
            return look_up();
        };
        if let Some(row) = self.known(name.as_ptr()) {
            return row;
        }
        let row = look_up();
        let place = self.place(name.as_ptr());
        if place.get().is_none() && may_be_kept(&name) {
            // Another thread may be quicker.
            drop(place.set(KnownName { name: name.unbind(), row }));
        }
        row
    }

    fn known(&self, name: *mut ffi::PyObject) -> Option<NameRow> {
        self.place(name).get().filter(|known| known.name.as_ptr() == name).map(|known| known.row)
    }

    fn place(&self, name: *mut ffi::PyObject) -> &OnceLock<KnownName> {
        // Strings lie 16 bytes apart at least.
        &self.places[(name as usize >> 4) % PLACES]
    }
}

/// Whether a name keeps nothing alive but its own few bytes: an instance of a subclass of `str` may
/// hold anything, its function and this runner included.
fn may_be_kept(name: &Bound<'_, PyAny>) -> bool {
    name.cast_exact::<PyString>()
        .is_ok_and(|name| name.len().is_ok_and(|length| length <= MAX_NAME_CHARS))
}
