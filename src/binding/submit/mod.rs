//! The verbs that take a task: methods that the interpreter calls without packing their arguments.
//!
//! `PyO3` has a tuple and a dictionary made for every method that takes `**kwargs`, and a verb would make another
//! tuple of what follows its first argument. That was a tenth of a submit. So the verbs are put into their classes
//! by hand, as the `METH_FASTCALL | METH_KEYWORDS` methods of a C extension.

pub(super) mod core;
pub(super) mod executor;
pub(super) mod line;
pub(super) mod options;
mod standard;

use self::core::Call;
use self::executor::Executor;
use self::options::Submitter;
use super::runner::Runner;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTypeInfo, ffi};
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Object = *mut ffi::PyObject;

/// One verb of one class.
trait Verb {
    type Of: PyTypeInfo;
    const NAME: &CStr;
    /// With the signature in front, where `inspect` looks for it.
    const DOC: &CStr;

    fn act(of: &Bound<'_, Self::Of>, call: Call<'_>) -> PyResult<Py<PyAny>>;
}

/// Defines the verbs of a class, and `$install`, which puts them into it.
macro_rules! verbs {
    (
        $class:ident, $install:ident,
        $($verb:ident: $doc:literal => |$of:ident, $call:ident| $act:expr;)+
    ) => {
        pub(super) fn $install(py: Python<'_>) -> PyResult<()> {
            $({
                struct This;

                impl Verb for This {
                    type Of = $class;
                    const NAME: &CStr = text(concat!(stringify!($verb), "\0"));
                    const DOC: &CStr = text(concat!(
                        stringify!($verb), "($self, fn, /, *args, **kwargs)\n--\n\n", $doc, "\0"
                    ));

                    fn act($of: &Bound<'_, $class>, $call: Call<'_>) -> PyResult<Py<PyAny>> {
                        $act
                    }
                }

                put::<This>(py)?;
            })+
            Ok(())
        }
    };
}

verbs! { Runner, install_on_runner,
    submit: "Queues a task and returns its future.\n\nA worker calls `fn(resource, *args, **kwargs)`. Its priority, time \
        limit and name are options of a view:\n`runner.options(timeout=5).submit(fn)`."
        => |runner, call| runner.get().core().submit(call, None).map(Py::into_any);
    asubmit: "Queues a task and returns an asyncio future of the running loop.\n\nA worker calls `fn(resource, *args, \
        **kwargs)`. Cancelling the future cancels the task."
        => |runner, call| runner.get().core().asubmit(call, None);
    queue_task: "Queues a task, waits for it and returns its result.\n\nA worker calls `fn(resource, *args, **kwargs)`; \
        what it raises is raised here."
        => |runner, call| runner.get().core().queue_task(call, None);
    queue_task_with_priority: "Does what `queue_task` does, in the class `Priority.HIGH`."
        => |runner, call| runner.get().core().queue_task(call, Some(&runner.get().urgent));
    queue_task_once: "Does what `queue_task` does, and enters the function at most once."
        => |runner, call| runner.get().core().queue_task(call, Some(&runner.get().once));
    queue_task_with_priority_once: "Does what `queue_task` does, in the class `Priority.HIGH` and at most once."
        => |runner, call| runner.get().core().queue_task(call, Some(&runner.get().urgent_once));
    run_task: "Runs a task now, past the queue, and returns its result.\n\nA reserved or a temporary worker calls \
        `fn(resource, *args, **kwargs)`; what it raises is raised here."
        => |runner, call| runner.get().core().run_task(call, None);
}

verbs! { Submitter, install_on_submitter,
    submit: "Does what `Runner.submit` does, with the options of this view."
        => |view, call| {
            view.get().core().submit(call, Some(&view.get().options)).map(Py::into_any)
        };
    asubmit: "Does what `Runner.asubmit` does, with the options of this view."
        => |view, call| view.get().core().asubmit(call, Some(&view.get().options));
    queue_task: "Does what `Runner.queue_task` does, with the options of this view."
        => |view, call| view.get().core().queue_task(call, Some(&view.get().options));
    run_task: "Does what `Runner.run_task` does, with the options of this view."
        => |view, call| view.get().core().run_task(call, Some(&view.get().options));
}

verbs! { Executor, install_on_executor,
    submit: "Queues a call of *fn* on a worker, and returns its future."
        => |executor, call| standard::submit(executor, call);
}

const fn text(with_zero: &str) -> &CStr {
    match CStr::from_bytes_with_nul(with_zero.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("one zero, at the end"),
    }
}

/// Puts a verb into its class.
fn put<V: Verb>(py: Python<'_>) -> PyResult<()> {
    let class = V::Of::type_object(py);
    // Never freed: the descriptor keeps a pointer to it, and a class of ours lives as long as the process.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: V::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: enter::<V> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: V::DOC.as_ptr(),
    }));
    // SAFETY: a live type and a definition that lives for ever; an owned reference, or null with an exception.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, method)?
    };
    class.setattr(V::NAME, method)
}

/// What the interpreter calls.
unsafe extern "C" fn enter<V: Verb>(
    of: Object,
    arguments: *const Object,
    count: ffi::Py_ssize_t,
    keywords: Object,
) -> Object {
    let act = |py: Python<'_>| {
        // SAFETY: the descriptor has checked the type of `of`; `arguments` are as many as `count` and `keywords` say,
        // borrowed, and stay alive during the call.
        unsafe {
            let of = Borrowed::from_ptr(py, of).cast_unchecked::<V::Of>();
            unpack::<V>(py, arguments, count, keywords).and_then(|call| V::act(&of, call))
        }
    };
    // SAFETY: the interpreter calls this, so the thread is attached.
    let py = unsafe { Python::assume_attached() };
    // Attached for `PyO3` too, which otherwise puts the drop of a `Py` off until the next call that it knows of; but at
    // the very end, where destructors still run, it takes the interpreter for gone.
    let act = || Python::try_attach(act).unwrap_or_else(|| act(py));
    let done = catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
        Err(PyRuntimeError::new_err("internal fault of tasker; please report this"))
    });
    done.map_or_else(
        |error| {
            error.restore(py);
            std::ptr::null_mut()
        },
        Py::into_ptr,
    )
}

/// Makes a call of the arguments of a verb.
unsafe fn unpack<V: Verb>(
    py: Python<'_>,
    arguments: *const Object,
    count: ffi::Py_ssize_t,
    keywords: Object,
) -> PyResult<Call<'_>> {
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 {
        let text = format!(
            "{}.{}() missing 1 required positional argument: 'fn'",
            V::Of::type_object(py).name()?,
            V::NAME.to_string_lossy()
        );
        return Err(PyTypeError::new_err(text));
    }
    let item = |index: usize| {
        // SAFETY: the caller's: within the arguments.
        unsafe { Borrowed::from_ptr(py, *arguments.add(index)) }
    };
    let args = if count > 1 { Some(PyTuple::new(py, (1..count).map(item))?) } else { None };
    // SAFETY: the caller's: a tuple of names, or null.
    let keywords = unsafe { Borrowed::from_ptr_or_opt(py, keywords) };
    let kwargs = match keywords {
        Some(keywords) if !keywords.is_empty()? => {
            let kwargs = PyDict::new(py);
            for (index, name) in keywords.try_iter()?.enumerate() {
                kwargs.set_item(name?, item(count + index))?;
            }
            Some(kwargs)
        }
        _ => None,
    };
    Ok(Call { function: item(0).to_owned(), args, kwargs })
}
