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
    except Exception as error:
        text = _blame(f"the result of task {quoted(name)}", {"it": value}, error)
        return None, _pack_with_cause(ResultNotPicklable(text), error)


def pack_error(name: str, error: BaseException) -> PackedError:
    """Pickles what a task raised, or the `ResultNotPicklable` that says why not."""
    try:
        packed = _pack(error, set())
        # Many classes of exceptions pickle and do not come back, for want of their arguments.
        unpack_error(packed)
    except Exception as reason:
        text = f"task {quoted(name)} raised {shown(error)}, which cannot be pickled: {reason}"
        return _pack_with_cause(ResultNotPicklable(text), reason)
    return packed


def unpack_error(packed: PackedError) -> BaseException:
    """Makes the exception again, with its cause, and its traceback as a note."""
    error: BaseException = loads(packed.error)
    if packed.cause is not None:
        error.__cause__ = unpack_error(packed.cause)
    if packed.traceback:
        # A class may take no notes: its errors are outcomes all the same.
        with contextlib.suppress(Exception):
            error.add_note(f"In the actor:\n{packed.traceback}")
    return error


def _pack_with_cause(error: BaseException, cause: BaseException) -> PackedError:
    try:
        packed = _pack(cause, set())
        unpack_error(packed)
    except Exception:
        packed = PackedError(dumps(RuntimeError(shown(cause))), None, "")
    return PackedError(dumps(error), packed, "")


def _pack(error: BaseException, seen: set[int]) -> PackedError:
    seen.add(id(error))
    cause = error.__cause__
    packed = None if cause is None or id(cause) in seen else _pack(cause, seen)
    frames = traceback.extract_tb(error.__traceback__)
    lines = traceback.format_list([each for each in frames if not each.filename.startswith(_HERE)])
    return PackedError(dumps(error), packed, "".join(lines).rstrip())


def _blame(what: str, parts: Mapping[str, object], error: Exception) -> str:
    """Says which part cannot be pickled, and which object inside of it is at fault."""
    for path, value in parts.items():
        if not _can_be_pickled(value):
            inner, culprit = _at_fault(path, value, _DEPTH)
            reason = plain(str(error))
            return f"{what} cannot be sent to an actor: {inner} is {shown(culprit)}: {reason}"
    return f"{what} cannot be sent to an actor: {plain(str(error))}"


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
