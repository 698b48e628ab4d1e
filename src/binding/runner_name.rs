//! The names of runners: unique among those of this process that have not stopped, wherever their
//! engines are.

use super::host::state::PyHost;
use super::printable;
use crate::engine::{Engine, Mode};
use crate::sync::{Arc, Mutex, Weak};
use pyo3::prelude::*;
use pyo3::types::PyString;

static TAKEN: Mutex<Vec<TakenName>> = Mutex::new(Vec::new());

/// What the names begin with of runners whose config gives none, and whose engine is here.
pub(super) const STEM: &str = "tasker";

struct TakenName {
    name: String,
    /// `None` while it is being made, and of a runner whose engines are in other processes.
    engine: Option<Weak<Engine<PyHost>>>,
}

/// A name that is taken for an engine to come, and free again if none comes.
pub(super) struct NameReservation {
    pub(super) name: String,
    is_kept: bool,
}

/// Takes the name that is asked for, or the first free one that is formed of it with a number.
pub(super) fn claim(wanted: Option<&str>, stem: &str) -> NameReservation {
    // Declared before the guard, so dropped after it: the last reference to an engine frees Python
    // objects.
    let mut engines = Vec::new();
    let mut taken = TAKEN.lock();
    taken.retain(|other| {
        let Some(engine) = &other.engine else { return true };
        engine.upgrade().is_some_and(|engine| {
            let is_alive = engine.mode() != Mode::Stopped;
            engines.push(engine);
            is_alive
        })
    });
    let mut name = wanted.map_or_else(|| format!("{stem}-1"), ToOwned::to_owned);
    let mut number = 2_u64;
    while taken.iter().any(|other| other.name == name) {
        name = format!("{}-{number}", wanted.unwrap_or(stem));
        number += 1;
    }
    taken.push(TakenName { name: name.clone(), engine: None });
    NameReservation { name, is_kept: false }
}

impl NameReservation {
    /// Leaves the name to an engine, until that has stopped.
    pub(super) fn keep_for(mut self, engine: &Arc<Engine<PyHost>>) {
        for taken in TAKEN.lock().iter_mut().filter(|taken| taken.name == self.name) {
            taken.engine = Some(Arc::downgrade(engine));
        }
        self.is_kept = true;
    }

    /// Leaves the name to a runner whose engines are in other processes, until it is freed by
    /// hand.
    fn keep(mut self) -> String {
        self.is_kept = true;
        std::mem::take(&mut self.name)
    }
}

impl Drop for NameReservation {
    fn drop(&mut self) {
        if !self.is_kept {
            free(&self.name);
        }
    }
}

fn free(name: &str) {
    TAKEN.lock().retain(|taken| taken.name != name);
}

/// Takes a name for a runner whose engines are in other processes.
#[pyfunction]
pub(super) fn _take_name(wanted: Option<&Bound<'_, PyString>>, stem: &str) -> String {
    let wanted = wanted.map(printable::name);
    claim(wanted.as_deref(), stem).keep()
}

/// Makes a name free again that `_take_name` gave.
#[pyfunction]
pub(super) fn _free_name(name: &str) {
    free(name);
}

/// Frees all names in a child process: their runners are the parent's.
pub(super) fn free_all() {
    TAKEN.lock().clear();
}
