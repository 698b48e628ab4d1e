//! The methods that take a task, which the interpreter calls without packing their arguments.
//!
//! `PyO3` has a tuple and a dictionary made for every method that takes `**kwargs`, and such a
//! method would make another tuple of what follows its first argument. That was a tenth of a
//! submit. So these are put into their classes by hand, as the `METH_FASTCALL | METH_KEYWORDS`
//! methods of a C extension. Those of a batcher take one argument and no name for it, as `METH_O`
//! methods do: unpacking it cost as much as making the future.

pub(super) mod accept;
pub(super) mod executor;
mod patched_submit;
mod run_at_once;
mod run_task;
pub(super) mod submitter;
mod verbs;

use self::executor::Executor;
use self::submitter::Submitter;
use super::future::Arguments;
use super::future::draft::TaskCall;
use super::host::guarded_call::Object;
use super::joint::batcher::Batcher;
use super::runner::Runner;
use crate::engine::task::key::KeyNumber;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTypeInfo, ffi};
use std::ffi::{CStr, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One such method of one class.
trait SubmitMethod {
    type Of: PyTypeInfo;
    const NAME: &CStr;
    /// With the signature in front, where `inspect` looks for it.
    const DOC: &CStr;

    fn act(of: &Bound<'_, Self::Of>, call: TaskCall<'_>) -> PyResult<Py<PyAny>>;
}

/// Defines those of a class, and `$install`, which puts them into it.
macro_rules! submit_methods {
    (
        $class:ident, $install:ident,
        $($name:ident => |$of:ident, $call:ident| $act:expr;)+
    ) => {
        pub(super) fn $install(py: Python<'_>) -> PyResult<()> {
            $({
                struct This;

                impl SubmitMethod for This {
                    type Of = $class;
                    const NAME: &CStr = text(concat!(stringify!($name), "\0"));
                    const DOC: &CStr = text(concat!(
                        stringify!($name),
                        "($self, fn, /, *args, **kwargs)\n--\n\n",
                        doc!($class.$name),
                        "\0"
                    ));

                    fn act($of: &Bound<'_, $class>, $call: TaskCall<'_>) -> PyResult<Py<PyAny>> {
                        $act
                    }
                }

                let method =
                    ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: enter::<This> };
                let flags = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;
                put(&$class::type_object(py), This::NAME, This::DOC, method, flags)?;
            })+
            Ok(())
        }
    };
}

submit_methods! { Runner, install_on_runner,
    submit => |runner, call| runner.get().handle().submit(call).map(Py::into_any);
    asubmit => |runner, call| runner.get().handle().asubmit(call, None);
    queue_task => |runner, call| runner.get().handle().queue_task(call);
    queue_task_with_priority => |runner, call| {
        runner.get().handle().queue_task(call.with(&runner.get().high))
    };
    queue_task_once => |runner, call| {
        runner.get().handle().queue_task(call.with(&runner.get().once))
    };
    queue_task_with_priority_once => |runner, call| {
        runner.get().handle().queue_task(call.with(&runner.get().urgent_once))
    };
    run_task => |runner, call| runner.get().handle().run_task(call);
}

submit_methods! { Submitter, install_on_submitter,
    submit => |view, call| {
        let (call, _hold) = view.get().with_options(call)?;
        view.get().handle().submit(call).map(Py::into_any)
    };
    asubmit => |view, call| {
        let (call, hold) = view.get().with_options(call)?;
        view.get().handle().asubmit(call, hold)
    };
    queue_task => |view, call| {
        let (call, _hold) = view.get().with_options(call)?;
        view.get().handle().queue_task(call)
    };
    run_task => |view, call| view.get().run_task(call);
}

submit_methods! { Executor, install_on_executor,
    submit => |executor, call| patched_submit::submit(executor, call);
}

/// A method of a batcher that takes an item.
trait ItemMethod {
    const NAME: &CStr;
    const DOC: &CStr;

    fn act(batcher: &Batcher, item: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>>;
}

/// Defines those, and `install_on_batcher`.
macro_rules! item_methods {
    ($($name:ident => |$batcher:ident, $item:ident| $act:expr;)+) => {
        pub(super) fn install_on_batcher(py: Python<'_>) -> PyResult<()> {
            let class = Batcher::type_object(py);
            $({
                struct This;

                impl ItemMethod for This {
                    const NAME: &CStr = text(concat!(stringify!($name), "\0"));
                    const DOC: &CStr = text(concat!(
                        stringify!($name),
                        "($self, item, /)\n--\n\n",
                        doc!(Batcher.$name),
                        "\0"
                    ));

                    fn act($batcher: &Batcher, $item: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
                        $act
                    }
                }

                let method = ffi::PyMethodDefPointer { PyCFunction: enter_with_item::<This> };
                put(&class, This::NAME, This::DOC, method, ffi::METH_O)?;
            })+
            Ok(())
        }
    };
}

item_methods! {
    submit => |batcher, item| batcher.submit(item).map(Py::into_any);
    asubmit => |batcher, item| batcher.asubmit(item);
    queue_task => |batcher, item| batcher.queue_task(item);
}

const fn text(with_zero: &str) -> &CStr {
    match CStr::from_bytes_with_nul(with_zero.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("one zero, at the end"),
    }
}

/// Puts a method into its class.
fn put(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
    method: ffi::PyMethodDefPointer,
    flags: c_int,
) -> PyResult<()> {
    // Never freed: the descriptor keeps a pointer to it, and a class of ours lives as long as the
    // process.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: method,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }));
    // SAFETY: a live type and a definition that lives for ever; an owned reference, or null with an
    // exception.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(class.py(), method)?
    };
    class.setattr(name, method)
}

/// What the interpreter calls.
unsafe extern "C" fn enter<V: SubmitMethod>(
    of: Object,
    arguments: *const Object,
    count: ffi::Py_ssize_t,
    keywords: Object,
) -> Object {
    answer(|py| {
        // SAFETY: the descriptor has checked the type of `of`; `arguments` are as many as `count`
        // and `keywords` say, borrowed, and stay alive during the call.
        unsafe {
            let of = Borrowed::from_ptr(py, of).cast_unchecked::<V::Of>();
            unpack::<V>(py, arguments, count, keywords).and_then(|call| V::act(&of, call))
        }
    })
}

/// The same, for a method that takes an item.
unsafe extern "C" fn enter_with_item<V: ItemMethod>(of: Object, item: Object) -> Object {
    answer(|py| {
        // SAFETY: the descriptor has checked the type of `of`; both are borrowed, and stay alive
        // during the call.
        let (of, item) = unsafe {
            let of = Borrowed::from_ptr(py, of).cast_unchecked::<Batcher>();
            (of, Borrowed::from_ptr(py, item))
        };
        V::act(of.get(), &item)
    })
}

/// Does what the interpreter called for, and gives it the result or the exception.
#[inline]
fn answer(act: impl Fn(Python<'_>) -> PyResult<Py<PyAny>>) -> Object {
    // SAFETY: the interpreter calls this, so the thread is attached.
    let py = unsafe { Python::assume_attached() };
    // Attached for `PyO3` too, which otherwise puts the drop of a `Py` off until the next call that
    // it knows of; but at the very end, where destructors still run, it takes the interpreter for
    // gone.
    let act = || Python::try_attach(&act).unwrap_or_else(|| act(py));
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

/// Makes a call of the arguments of a method.
unsafe fn unpack<V: SubmitMethod>(
    py: Python<'_>,
    arguments: *const Object,
    count: ffi::Py_ssize_t,
    keywords: Object,
) -> PyResult<TaskCall<'_>> {
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
    let args =
        if count > 1 { Some(PyTuple::new(py, (1..count).map(item))?.unbind()) } else { None };
    // SAFETY: the caller's: a tuple of names, or null.
    let keywords = unsafe { Borrowed::from_ptr_or_opt(py, keywords) };
    let (args, has_keywords) = match keywords {
        Some(keywords) if !keywords.is_empty()? => {
            let kwargs = PyDict::new(py);
            for (index, name) in keywords.try_iter()?.enumerate() {
                kwargs.set_item(name?, item(count + index))?;
            }
            (Arguments::of_both(py, args, kwargs)?, true)
        }
        _ => (Arguments::of_tuple(args), false),
    };
    let function = item(0).to_owned();
    Ok(TaskCall { function, args, has_keywords, options: None, key: KeyNumber::NONE })
}
