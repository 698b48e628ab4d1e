//! What a callable is, told without calling it: whose code a call of it runs, and whether that call
//! only makes a coroutine or a generator, whose body would never run; and whether a hook's answer
//! is such a thing after all.

use super::class_name;
use super::error;
use super::host::guarded_call::{self, Object};
use super::printable;
use crate::sync::atomic::{AtomicPtr, Ordering};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{ffi, intern};
use std::ffi::c_int;
use std::ptr;

/// Bound methods and partial objects may be nested, and a hostile one may lead back to itself.
const MAX_NESTING: usize = 64;

/// What a call of it makes instead of running its body, in words; `None`: it runs.
///
/// What wraps a coroutine function counts as what it says of itself
/// (`inspect.markcoroutinefunction`, the doubles of `unittest.mock`); what merely returns a
/// coroutine does not.
#[pyfunction]
#[pyo3(name = "_unrun")]
pub(super) fn unrun(callable: &Bound<'_, PyAny>) -> PyResult<Option<&'static str>> {
    let Some(function) = Function::of(callable.as_ptr()) else {
        return unrun_slowly(callable);
    };
    if function.has_attributes() && is_marked(callable)? {
        return Ok(Some(COROUTINE));
    }
    function.unrun(callable.py())
}

const COROUTINE: &str = "a coroutine function";

/// Raises for what cannot be called, and for what a call of it would not run.
#[pyfunction]
#[pyo3(name = "_check_task")]
pub(super) fn check_task(function: &Bound<'_, PyAny>) -> PyResult<()> {
    if !function.is_callable() {
        let kind = function.get_type().name()?;
        let text = format!("a task must be callable, not {kind}: {}", function.repr()?);
        return Err(PyTypeError::new_err(text));
    }
    let Some(kind) = unrun(function)? else {
        return Ok(());
    };
    let text = format!("a task must be a plain function, got {kind}: {}", function.repr()?);
    Err(PyTypeError::new_err(text))
}

/// Whether it is a function written in Python, and nothing around one.
pub(super) fn is_plain_function(callable: &Py<PyAny>) -> bool {
    Function::of(callable.as_ptr()).is_some()
}

/// The name of a task by its function, for people: a bound method's and a partial object's is that
/// of what they lead to.
pub(super) fn name_of(py: Python<'_>, function: Option<&Py<PyAny>>) -> String {
    let Some(function) = function else {
        return String::from("task");
    };
    let target = match Function::of(function.as_ptr()) {
        Some(_) => None,
        None => unwrap(function.bind(py)).map(Bound::unbind).ok(),
    };
    let function = target.as_ref().unwrap_or(function);
    let name = match guarded_call::get_attribute(py, function, intern!(py, "__qualname__")) {
        Ok(name) => {
            let text = name.bind(py).cast::<PyString>().map(printable::name).ok();
            guarded_call::release(py, name);
            text
        }
        Err(missing) => {
            guarded_call::release(py, missing);
            None
        }
    };
    name.unwrap_or_else(|| class_name::shown(&function.bind(py).get_type()))
}

/// The string that is the name of a plain function, or of a bound method's, only to be compared;
/// null for other objects.
pub(super) fn name_pointer(py: Python<'_>, callable: Object) -> Object {
    let of_method = || function_of_method(py, callable).and_then(Function::of);
    Function::of(callable).or_else(of_method).map_or(ptr::null_mut(), Function::name)
}

/// What a bound method leads to, without a reference; `None` for other objects, and before the first
/// one was looked at by [`unwrap`].
fn function_of_method(py: Python<'_>, callable: Object) -> Option<Object> {
    /// The beginning of the C interface's `PyMethodObject`, which PyO3 does not declare.
    #[repr(C)]
    struct Method {
        head: ffi::PyObject,
        function: Object,
    }
    let class = METHOD.get(py)?.as_ptr();
    // SAFETY: a live object. Of that very class it is laid out as above, and its function is there
    // as long as the method is: it is set once, when the method is made.
    unsafe {
        let is_method = ffi::Py_TYPE(callable).cast() == class;
        is_method.then(|| (*callable.cast::<Method>()).function)
    }
}

/// The string that is the name of a plain function, or of one that a bound method or a partial
/// object leads to.
pub(super) fn qualified_name<'py>(callable: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let target = match Function::of(callable.as_ptr()) {
        Some(_) => None,
        None => Some(unwrap(callable).ok()?),
    };
    let target = target.as_ref().unwrap_or(callable);
    Function::of(target.as_ptr())?;
    target.getattr(intern!(callable.py(), "__qualname__")).ok()
}

/// Raises for the answer of a hook that is none: what would have to be awaited or iterated first,
/// which nothing does. Where that can be closed it is, or its end would warn of a body that never
/// ran.
pub(super) fn check_answer(
    py: Python<'_>,
    hook: &str,
    answer: &Py<PyAny>,
) -> Result<(), Py<PyAny>> {
    let Some(kind) = unrun_answer(answer) else {
        return Ok(());
    };
    if kind != AWAITABLE && kind != ASYNC_GENERATOR {
        match guarded_call::call_method(py, answer, intern!(py, "close"), &[]) {
            Ok(object) | Err(object) => guarded_call::release(py, object),
        }
    }
    let text = format!("{hook} must be a plain function, and returned {kind}, which nothing runs");
    Err(error::make::<PyTypeError>(py, &text, None))
}

/// [`check_answer`] for the Python package.
#[pyfunction]
pub(super) fn _check_answer(hook: &str, answer: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = answer.py();
    check_answer(py, hook, answer.as_unbound()).map_err(|refusal| error::raise(py, refusal))
}

const AWAITABLE: &str = "an awaitable";
const ASYNC_GENERATOR: &str = "an async generator";

fn unrun_answer(answer: &Py<PyAny>) -> Option<&'static str> {
    // SAFETY: a live object and its type.
    unsafe {
        let class = ffi::Py_TYPE(answer.as_ptr());
        if class == &raw mut ffi::PyCoro_Type {
            return Some("a coroutine");
        }
        if class == &raw mut ffi::PyGen_Type {
            return Some("a generator");
        }
        if class == &raw mut ffi::PyAsyncGen_Type {
            return Some(ASYNC_GENERATOR);
        }
        let slots = (*class).tp_as_async;
        (!slots.is_null() && (*slots).am_await.is_some()).then_some(AWAITABLE)
    }
}

/// The code that a call of it runs first, if that is Python's.
pub(super) fn code<'py>(callable: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = callable.py();
    let target = unwrap(callable)?;
    if let Some(function) = Function::of(target.as_ptr()) {
        return function.code(py).map(Some);
    }
    let call = called_of(&target)?;
    call.as_ref().and_then(|call| Function::of(call.as_ptr())).map(|call| call.code(py)).transpose()
}

/// [`unrun`] for what is no plain function.
#[cold]
fn unrun_slowly(callable: &Bound<'_, PyAny>) -> PyResult<Option<&'static str>> {
    let py = callable.py();
    let target = unwrap(callable)?;
    if is_marked(&target)? {
        return Ok(Some(COROUTINE));
    }
    if let Some(function) = Function::of(target.as_ptr()) {
        return function.unrun(py);
    }
    let call = called_of(&target)?;
    let call = call.as_ref().and_then(|call| Function::of(call.as_ptr()));
    call.map_or(Ok(None), |call| call.unrun(py))
}

/// What bound methods and partial objects lead to.
fn unwrap<'py>(callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = callable.py();
    let mut target = callable.clone();
    for _ in 0..MAX_NESTING {
        let class = target.get_type();
        let name = if class.is(METHOD.import(py, "types", "MethodType")?) {
            intern!(py, "__func__")
        } else if class.is_subclass(PARTIAL.import(py, "functools", "partial")?)? {
            intern!(py, "func")
        } else {
            break;
        };
        target = target.getattr(name)?;
    }
    Ok(target)
}

static METHOD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static PARTIAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The `__call__` of an object's type, unless it is C's.
fn called_of<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if object.is_instance_of::<PyType>() {
        // It makes an instance, whatever its own `__call__` does for that.
        return Ok(None);
    }
    let call = object.get_type().getattr_opt(intern!(object.py(), "__call__"))?;
    call.map(|call| unwrap(&call)).transpose()
}

/// Whether an object says of itself that it is a coroutine function. Only what lies in the object
/// is looked at: to ask a mock would make another one, and an object with a `__getattr__` may do
/// anything.
fn is_marked(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    // Where a mark is put, and where it comes from: the first releases of Python 3.12 name it
    // otherwise.
    let own = intern!(py, "_is_coroutine_marker");
    let asyncios = intern!(py, "_is_coroutine");
    let marks = [
        (own, "inspect", [intern!(py, "_is_coroutine_mark"), own]),
        (asyncios, "asyncio.coroutines", [asyncios, asyncios]),
    ];
    for (name, module, sources) in marks {
        // SAFETY: live objects; gives an owned reference, or null with an exception.
        let found = unsafe { ffi::PyObject_GenericGetAttr(object.as_ptr(), name.as_ptr()) };
        // SAFETY: as above.
        let Some(found) = (unsafe { Bound::from_owned_ptr_or_opt(py, found) }) else {
            let error = PyErr::fetch(py);
            if error.is_instance_of::<pyo3::exceptions::PyAttributeError>(py) {
                continue;
            }
            return Err(error);
        };
        let modules = py.import(intern!(py, "sys"))?.getattr(intern!(py, "modules"))?;
        // Without its module there is no mark.
        if let Ok(modules) = modules.cast_into::<PyDict>()
            && let Some(module) = modules.get_item(module)?
        {
            for source in sources {
                if module.getattr_opt(source)?.is_some_and(|mark| mark.is(&found)) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// A plain function.
#[derive(Clone, Copy)]
struct Function(Object);

impl Function {
    fn of(object: Object) -> Option<Self> {
        // SAFETY: a live object.
        (unsafe { ffi::PyFunction_Check(object) } != 0).then_some(Self(object))
    }

    fn code(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        // SAFETY: a live object, lent by the caller.
        let function = unsafe { Borrowed::from_ptr(py, self.0) };
        function.getattr(intern!(py, "__code__"))
    }

    /// The string that is its `__qualname__`, only to be compared: another thread may put another
    /// one there.
    fn name(self) -> Object {
        // SAFETY: a live function, whose field is read as others write it.
        unsafe {
            let name = &raw mut (*self.0.cast::<ffi::PyFunctionObject>()).func_qualname;
            AtomicPtr::from_ptr(name).load(Ordering::Relaxed)
        }
    }

    /// Whether anything was ever put into its `__dict__`.
    fn has_attributes(self) -> bool {
        // SAFETY: a live object, whose type says where it keeps the pointer to its dictionary.
        unsafe {
            let offset = (*ffi::Py_TYPE(self.0)).tp_dictoffset;
            if offset <= 0 {
                return true;
            }
            let dictionary = self.0.byte_offset(offset).cast::<Object>();
            !AtomicPtr::from_ptr(dictionary).load(Ordering::Relaxed).is_null()
        }
    }

    /// [`unrun`] by its code alone.
    fn unrun(self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        // SAFETY: a live function, whose code is only compared.
        if is_known(unsafe { ffi::PyFunction_GetCode(self.0) }) {
            return Ok(None);
        }
        let code = self.code(py)?;
        let flags: c_int = code.getattr(intern!(py, "co_flags"))?.extract()?;
        let kind = if flags & ffi::CO_COROUTINE != 0 {
            COROUTINE
        } else if flags & ffi::CO_ASYNC_GENERATOR != 0 {
            "an async generator function"
        } else if flags & ffi::CO_GENERATOR != 0 {
            "a generator function"
        } else {
            remember(code);
            return Ok(None);
        };
        Ok(Some(kind))
    }
}

/// How many code objects are remembered as plain; a power of two.
const REMEMBERED_CODES: usize = 64;

/// Code objects that run when they are called. Each place holds a reference, so that no other
/// object gets the address while it stands there: a pointer that equals one to a live code object
/// is that object.
static PLAIN_CODES: [AtomicPtr<ffi::PyObject>; REMEMBERED_CODES] =
    [const { AtomicPtr::new(ptr::null_mut()) }; REMEMBERED_CODES];

fn place_of(code: Object) -> &'static AtomicPtr<ffi::PyObject> {
    &PLAIN_CODES[(code as usize >> 6) % REMEMBERED_CODES]
}

fn is_known(code: Object) -> bool {
    place_of(code).load(Ordering::Acquire) == code
}

fn remember(code: Bound<'_, PyAny>) {
    let py = code.py();
    let place = place_of(code.as_ptr());
    let before = place.swap(code.into_ptr(), Ordering::AcqRel);
    // SAFETY: the place had a reference, which is this thread's now.
    let before = unsafe { Bound::from_owned_ptr_or_opt(py, before) };
    // What watches a code object by a weak reference is called when that dies.
    guarded_call::release_some(py, before.map(Bound::unbind));
}
