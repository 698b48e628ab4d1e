//! Which line each key has whose tasks run one after the other.
//!
//! A hash would not do: two keys of one line would wait for each other's tasks, and a task that waits
//! for one of the other key would be told that this never ends. So keys are compared, as a `dict`
//! does: by the thread that submits, with no lock held. Whoever ends the last task of a key finds it
//! by the number of its line.

use super::host::guarded_call;
use crate::engine::queue::serial_lines::{EndedLine, SerialLines};
use crate::engine::task::key::LineNumber;
use crate::sync::Mutex;
use pyo3::prelude::*;
use std::collections::HashMap;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct SerialKeys {
    /// By the hash of the key. Locked while attached, for a few instructions, with no call into the
    /// interpreter inside; the lock of the lines is taken under it.
    by_hash: Mutex<HashMap<u64, Vec<Interned>>>,
}

/// A key that has a line. The line may be no more: the thread that ended it is about to forget the
/// key.
struct Interned {
    line: LineNumber,
    key: Py<PyAny>,
}

/// Where a key is to be looked for next.
enum Found {
    Line(LineNumber),
    Candidate(Interned),
}

impl SerialKeys {
    /// The line of a key with this hash, held for the caller. `check` is asked after each call of
    /// `__eq__`, which may have forked.
    pub(super) fn line<T>(
        &self,
        key: &Bound<'_, PyAny>,
        hash: u64,
        lines: &SerialLines<T>,
        check: impl Fn() -> PyResult<()>,
    ) -> PyResult<LineNumber> {
        let py = key.py();
        let mut others = Vec::new();
        loop {
            let Interned { line, key: candidate } = match self.find(key, hash, lines, &others) {
                Found::Line(line) => return Ok(line),
                Found::Candidate(candidate) => candidate,
            };
            let is_same = key.eq(&candidate);
            guarded_call::release(py, candidate);
            check()?;
            if is_same? && lines.hold(line) {
                return Ok(line);
            }
            others.push(line);
        }
    }

    /// Looks for a key by its identity, and then for one to compare it with that is none of the
    /// `others`; if there is none, it is new.
    fn find<T>(
        &self,
        key: &Bound<'_, PyAny>,
        hash: u64,
        lines: &SerialLines<T>,
        others: &[LineNumber],
    ) -> Found {
        let mut by_hash = self.by_hash.lock();
        let known = by_hash.entry(hash).or_default();
        if let Some(same) = known.iter().find(|it| it.key.is(key) && lines.hold(it.line)) {
            return Found::Line(same.line);
        }
        let differs = |it: &&Interned| !it.key.is(key) && !others.contains(&it.line);
        if let Some(Interned { line, key: other }) = known.iter().find(differs) {
            return Found::Candidate(Interned { line: *line, key: other.clone_ref(key.py()) });
        }
        let line = lines.open(hash);
        known.push(Interned { line, key: key.clone().unbind() });
        Found::Line(line)
    }

    /// Forgets the key of a line that is no more.
    pub(super) fn forget(&self, py: Python<'_>, ended: EndedLine) {
        let forgotten = {
            let mut by_hash = self.by_hash.lock();
            let known = by_hash.get_mut(&ended.hash);
            let forgotten = known.and_then(|known| {
                let place = known.iter().position(|it| it.line == ended.number)?;
                Some((known.swap_remove(place).key, known.is_empty()))
            });
            if let Some((_, true)) = forgotten {
                by_hash.remove(&ended.hash);
            }
            forgotten
        };
        guarded_call::release_some(py, forgotten.map(|(key, _)| key));
    }
}
