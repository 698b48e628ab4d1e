"""What goes to an actor and comes back: bytes, and errors that name what cannot be pickled."""

from __future__ import annotations

import contextlib
import os
import pickle
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tasker._errors import ResultNotPicklable, TaskNotPicklable
from tasker._texts import plain, quoted, shown
from tasker.ray._cluster import by_value, has_modules_by_value

_HERE = os.path.dirname(__file__)
_DEPTH = 6
"""How deep the object at fault is looked for."""


class PackedError(NamedTuple):
    """An exception on its way, with what pickling leaves out."""

    error: bytes
    cause: PackedError | None
    traceback: str
    text: str
    """What it says of itself, for where it cannot be made again."""


def fitting_dumps() -> Callable[[object], bytes]:
    """Gives what pickles many values, for as long as nothing is asked of Ray's pickler."""
    return by_value if has_modules_by_value() else _dumps


def dumps(value: object) -> bytes:
    """Pickles a value by C code where that gives the same as Ray's pickler, which is slower.

    What the main module defines is pickled by value: in an actor that is another module.
    """
    return fitting_dumps()(value)


def _dumps(value: object) -> bytes:
    try:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return by_value(value)
    return by_value(value) if b"__main__" in data else data


def loads(data: bytes) -> Any:
    """Makes the value again."""
    return pickle.loads(data)  # noqa: S301 - it comes from this program's own actor


def pack_call(
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dumps: Callable[[object], bytes],
) -> bytes:
    """Pickles the arguments of a task.

    Args:
        name: Of the task.
        args: Its arguments.
        kwargs: Its arguments by keyword.
        dumps: What `fitting_dumps` gives.

    Raises:
        TaskNotPicklable: One cannot be pickled; the text names it.
    """
    try:
        return dumps((args, kwargs))
    except Exception as error:
        parts = {f"argument {place}": value for place, value in enumerate(args, 1)}
        parts |= {f"argument {key!r}": value for key, value in kwargs.items()}
        raise TaskNotPicklable(_blame(f"task {quoted(name)}", parts, error)) from error


def pack_function(name: str, fn: object) -> bytes:
    """Pickles the function of a task.

    Raises:
        TaskNotPicklable: It cannot be pickled; the text names what it holds that cannot.
    """
    try:
        return by_value(fn)
    except Exception as error:
        text = _blame(f"task {quoted(name)}", {"its function": fn}, error)
        raise TaskNotPicklable(text) from error


def pack_context(values: Mapping[str, object], trace: Mapping[str, str]) -> bytes:
    """Pickles context variables, and the trace that they go with.

    Raises:
        TaskNotPicklable: A value cannot be pickled; the text names the variable.
    """
    try:
        return dumps((values, trace))
    except Exception as error:
        raise TaskNotPicklable(_blame("the context of a task", values, error)) from error


def pack_fields(what: str, fields: Mapping[str, object]) -> bytes:
    """Pickles settings, in one go, so that what they share stays shared.

    Raises:
        TaskNotPicklable: One cannot be pickled; the text names it.
    """
    try:
        return by_value(dict(fields))
    except Exception as error:
        raise TaskNotPicklable(_blame(what, fields, error)) from error


def pack_result(name: str, value: object) -> tuple[bytes | None, PackedError | None]:
    """Pickles what a task returned, or the `ResultNotPicklable` that says why not."""
    try:
        return dumps(value), None
    except BaseException as error:
        what = f"the result of task {quoted(name)}"
        try:
            text = _blame(what, {"it": value}, error, to="back")
        except BaseException:
            text = f"{what} cannot be sent: {_said(error)}"
        return None, _pack_refusal(text, error)


def pack_error(name: str | None, error: BaseException) -> PackedError:
    """Pickles an error, or the `ResultNotPicklable` that says why not.

    Args:
        name: Of the task that raised it, if one did.
        error: What was raised.
    """
    text = (
        shown_error(error) if name is None else f"task {quoted(name)} raised {shown_error(error)}"
    )
    try:
        return _pack(error, text, set())
    except BaseException as reason:
        refusal = _pack_refusal(f"{text}, which cannot be pickled: {_said(reason)}", reason)
        return refusal._replace(traceback=_traceback_of(error))


def unpack_error(packed: PackedError) -> BaseException:
    """Makes the exception again, with its cause, and its traceback as a note.

    Where that fails it is a `ResultNotPicklable` that says what it was.
    """
    try:
        error = _make_error(packed.error)
    except BaseException as reason:
        error = ResultNotPicklable(
            f"{packed.text}, which cannot be made here: {shown_error(reason)}"
        )
        error.__cause__ = reason
    else:
        if packed.cause is not None:
            error.__cause__ = unpack_error(packed.cause)
    if packed.traceback:
        # A class may take no notes: its errors are outcomes all the same.
        with contextlib.suppress(Exception):
            error.add_note(f"In the actor:\n{packed.traceback}")
    return error


def shown_error(error: BaseException) -> str:
    """Describes an error of which even `repr` may raise anything."""
    try:
        return shown(error)
    except BaseException:
        return f"<{plain(type(error).__name__)}>"


def _make_error(data: bytes) -> BaseException:
    error = loads(data)
    if not isinstance(error, BaseException):
        message = f"it comes back as {shown(error)}"
        raise TypeError(message)
    return error


def _pack_refusal(text: str, cause: BaseException) -> PackedError:
    """Packs a `ResultNotPicklable` with the reason, or with what can be said of the reason."""
    said = shown_error(cause)
    try:
        packed = _pack(cause, said, set())
    except BaseException:
        packed = PackedError(dumps(RuntimeError(said)), None, "", said)
    return PackedError(dumps(ResultNotPicklable(text)), packed, "", text)


def _pack(error: BaseException, text: str, seen: set[int]) -> PackedError:
    seen.add(id(error))
    data = dumps(error)
    # Many classes of exceptions pickle and do not come back, for want of their arguments.
    _make_error(data)
    cause, packed = error.__cause__, None
    if cause is not None and id(cause) not in seen:
        said = shown_error(cause)
        try:
            packed = _pack(cause, said, seen)
        except Exception as reason:
            packed = _pack_refusal(f"{said}, which cannot be pickled: {_said(reason)}", reason)
    return PackedError(data, packed, _traceback_of(error), text)


def _traceback_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = traceback.format_list([each for each in frames if not each.filename.startswith(_HERE)])
    return "".join(lines).rstrip()


def _said(error: BaseException) -> str:
    try:
        return plain(str(error))
    except BaseException:
        return shown_error(error)


def _blame(
    what: str, parts: Mapping[str, object], error: BaseException, to: str = "to an actor"
) -> str:
    """Says which part cannot be pickled, and which object inside of it is at fault."""
    reason = _said(error)
    for path, value in parts.items():
        if not _can_be_pickled(value):
            inner, culprit = _at_fault(path, value, _DEPTH)
            return f"{what} cannot be sent {to}: {inner} is {shown(culprit)}: {reason}"
    return f"{what} cannot be sent {to}: {reason}"


def _at_fault(path: str, value: object, depth: int) -> tuple[str, object]:
    try:
        parts = list(_parts(path, value)) if depth else []
    except Exception:
        parts = []  # it lets nobody look inside
    for inner, part in parts:
        if part is not value and not _can_be_pickled(part):
            return _at_fault(inner, part, depth - 1)
    return path, value


def _parts(path: str, value: object) -> Iterator[tuple[str, object]]:
    """What an object holds, with a name for each."""
    if isinstance(value, dict):
        yield from ((f"{path}[{shown(key)}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{path}[{place}]", part) for place, part in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"an element of {path}", part) for part in value)
    else:
        code = getattr(value, "__code__", None)
        cells = getattr(value, "__closure__", None) or ()
        for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=False):
            yield f"{path}'s variable {name}", cell.cell_contents
        around = getattr(value, "__globals__", {})
        for name in getattr(code, "co_names", ()):
            if name in around:
                yield f"{path}'s global {name}", around[name]
        for name in ("__self__", "func", "args", "keywords"):
            if hasattr(value, name):
                yield f"{path}.{name}", getattr(value, name)
        if not isinstance(value, type):
            held = getattr(value, "__dict__", {})
            yield from ((f"{path}.{name}", part) for name, part in held.items())


def _can_be_pickled(value: object) -> bool:
    try:
        by_value(value)
    except Exception:
        return False
    return True
