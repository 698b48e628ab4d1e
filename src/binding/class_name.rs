//! What a class is called, told without running any code of it or of its metaclass.

use super::printable::{MAX_NAME_CHARS, printable};
use pyo3::prelude::*;
use pyo3::types::PyType;

const BUILTINS: &str = "builtins";
const MAIN: &str = "__main__";

/// As a traceback begins: without the module where that is `builtins` or the program. `None`: there
/// is no memory for it.
pub(super) fn of_error(class: &Bound<'_, PyType>) -> Option<String> {
    Some(printable(&full_name(class, &[BUILTINS, MAIN])?, MAX_NAME_CHARS).into_owned())
}

/// As `repr` writes it, whatever the metaclass makes of that.
pub(super) fn shown(class: &Bound<'_, PyType>) -> String {
    let name = full_name(class, &[BUILTINS]).unwrap_or_default();
    printable(&format!("<class '{name}'>"), MAX_NAME_CHARS).into_owned()
}

/// [`of_error`] for the Python package.
#[pyfunction]
pub(super) fn _error_name(error: &Bound<'_, PyAny>) -> Option<String> {
    of_error(&error.get_type())
}

fn full_name(class: &Bound<'_, PyType>, silent: &[&str]) -> Option<String> {
    // What the interpreter has noted, which must be a string: no attribute is asked for.
    let name = class.qualname().ok()?.to_string_lossy().into_owned();
    match module_of(class) {
        Some(module) if !silent.contains(&&*module) => Some(format!("{module}.{name}")),
        _ => Some(name),
    }
}

/// Its module, if that is a string: a class may say anything.
#[cfg(Py_3_13)]
fn module_of(class: &Bound<'_, PyType>) -> Option<String> {
    Some(class.module().ok()?.to_string_lossy().into_owned())
}

/// Its module, if that is a string: a class may say anything.
///
/// To ask for the attribute is to ask the metaclass first, which may be the user's. Where a class
/// keeps it is what `PyType_GetModuleName` of later versions reads.
#[cfg(not(Py_3_13))]
fn module_of(class: &Bound<'_, PyType>) -> Option<String> {
    use pyo3::ffi;
    use pyo3::types::PyString;
    use std::ffi::CStr;

    let py = class.py();
    let kind = class.as_type_ptr();
    // SAFETY: a live class, and these versions have a lock, which is held: no other thread changes
    // its dictionary while this one reads it. What is found there is borrowed, and given a
    // reference at once.
    unsafe {
        if ffi::PyType_HasFeature(kind, ffi::Py_TPFLAGS_HEAPTYPE) == 0 {
            let name = CStr::from_ptr((*kind).tp_name).to_string_lossy();
            return name.rsplit_once('.').map(|(module, _)| module.to_owned());
        }
        let key = pyo3::intern!(py, "__module__").as_ptr();
        let found = ffi::PyDict_GetItemWithError((*kind).tp_dict, key);
        let Some(found) = Bound::from_borrowed_ptr_or_opt(py, found) else {
            drop(PyErr::take(py));
            return None;
        };
        Some(found.cast::<PyString>().ok()?.to_string_lossy().into_owned())
    }
}
