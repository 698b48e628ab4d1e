//! Our note on an exception: one at most, however often the same exception is raised.
//!
//! A library may keep one ready-made exception and raise it again and again. So a new note of ours
//! takes the place of the former, which is known by how it begins. An exception that takes no notes
//! is left as it is.

use super::error::traceback;
use super::host::guarded_call;
use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyList, PyString};
use pyo3::{PyTypeInfo, intern};

/// How a note begins that tells of used up retries.
const ATTEMPTS: &str = "tasker gave up after ";
/// A note on how tasks are called.
const CALLING: &str = "tasker calls a task as fn(resource, *args, **kwargs): the resource comes first, and options \
                       such as timeout go to runner.options(...)";
/// A note on how keys are asked for.
const CALLING_KEY: &str = "tasker calls key as key(*args, **kwargs), with the arguments of the task and without \
                           the resource";
/// What a note begins with that tells of an item alone.
const ALONE: &str = "tasker";
/// How it goes on, as one does that tells of both.
const ITEM: &str = ": raised for the item at index ";

/// Notes on how many resources a task was tried.
pub(super) fn attempts(py: Python<'_>, error: &Py<PyAny>, attempts: u32) {
    offer(py, error, format!("{ATTEMPTS}{attempts} attempts, each on another resource"));
}

/// Notes how often a task was tried that failed on good resources, and for how long; or for which
/// pause its time limit left no room.
pub(super) fn retries(
    py: Python<'_>,
    error: &Py<PyAny>,
    attempts: u32,
    lasted: f64,
    too_long: Option<f64>,
) {
    let plural = if attempts == 1 { "" } else { "s" };
    let text = format!("{ATTEMPTS}{attempts} attempt{plural}");
    let text = match too_long {
        Some(pause) => {
            format!("{text}: its time limit leaves no room for a pause of {pause:.2} s")
        }
        None if attempts > 1 => format!("{text}, {lasted:.2} s after the first failed"),
        None => return,
    };
    offer(py, error, text);
}

/// Notes how tasks are called, on the error of a call with other arguments than the function takes:
/// it was raised before the function had a frame.
pub(super) fn calling(py: Python<'_>, error: &Py<PyAny>) {
    if does_not_take(py, error) {
        offer(py, error, CALLING.to_owned());
    }
}

/// The same of the function that is asked for a key.
pub(super) fn calling_key(py: Python<'_>, error: &Py<PyAny>) {
    if does_not_take(py, error) {
        offer(py, error, CALLING_KEY.to_owned());
    }
}

fn does_not_take(py: Python<'_>, error: &Py<PyAny>) -> bool {
    let is_type_error = error.bind(py).is_exact_instance_of::<PyTypeError>();
    is_type_error && traceback(error.bind(py)).is_none()
}

/// Puts a note on an error that may take none: the caller of the task gets it all the same.
fn offer(py: Python<'_>, error: &Py<PyAny>, text: String) {
    if let Err(refusal) = put(py, error, |_| text) {
        guarded_call::release(py, refusal);
    }
}

/// Notes for which item of a `map` it was raised; what a former note tells of is still told.
pub(super) fn item(py: Python<'_>, error: &Py<PyAny>, index: u64) -> Result<(), Py<PyAny>> {
    put(py, error, |former| {
        let told = former.and_then(|former| former.split(ITEM).next());
        format!("{}{ITEM}{index}", told.unwrap_or(ALONE))
    })
}

/// Puts a note there; `text` is given the former one, if there is one of ours.
fn put(
    py: Python<'_>,
    error: &Py<PyAny>,
    text: impl FnOnce(Option<&str>) -> String,
) -> Result<(), Py<PyAny>> {
    // Without an interpreter's lock two threads may be about to note something on the same
    // exception.
    with_critical_section(error.bind(py), || {
        let notes = guarded_call::get_attribute(py, error, intern!(py, "__notes__"));
        let notes = notes.map_err(|missing| guarded_call::release(py, missing)).ok();
        let list = notes.as_ref().and_then(|notes| notes.bind(py).cast::<PyList>().ok());
        let former = list.and_then(|list| former(list).map(|(index, text)| (list, index, text)));
        let done = match former {
            Some((list, index, former)) => {
                let text = PyString::new(py, &text(Some(&former)));
                list.set_item(index, text).map_err(|error| error.into_value(py).into_any())
            }
            None => add(py, error, PyString::new(py, &text(None)).into_any().unbind()),
        };
        guarded_call::release_some(py, notes);
        done
    })
}

/// The last note of ours, and its place.
fn former(notes: &Bound<'_, PyList>) -> Option<(usize, String)> {
    let notes = notes.iter().enumerate().rev();
    let mut texts = notes.filter_map(|(index, note)| {
        // A plain string, whose end runs no code of the user's when another note takes its place.
        let note = note.cast_exact::<PyString>().ok()?;
        Some((index, note.to_str().ok()?.to_owned()))
    });
    let tells_of_an_item = |text: &str| text.strip_prefix(ALONE)?.strip_prefix(ITEM).map(|_| ());
    let is_ours = |text: &str| {
        text.starts_with(ATTEMPTS) || text.starts_with(CALLING) || tells_of_an_item(text).is_some()
    };
    texts.find(|(_, text)| is_ours(text))
}

/// Adds a note by the method that every exception has: one of its class's own may do anything.
fn add(py: Python<'_>, error: &Py<PyAny>, text: Py<PyAny>) -> Result<(), Py<PyAny>> {
    static ADD_NOTE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let add_note = ADD_NOTE.get_or_try_init(py, || {
        PyResult::Ok(PyBaseException::type_object(py).getattr("add_note")?.unbind())
    });
    let added = match add_note {
        Ok(add_note) => guarded_call::call_with(py, add_note, &[error, &text]),
        Err(error) => Err(error.into_value(py).into_any()),
    };
    guarded_call::release(py, text);
    added.map(|nothing| guarded_call::release(py, nothing))
}
