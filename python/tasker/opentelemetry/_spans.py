"""What every span of ours has: which parents it may have, and how it ends."""

from __future__ import annotations

import logging

from opentelemetry.trace import NonRecordingSpan, Span, Status, StatusCode

from tasker._texts import plain

ERROR_TYPE = "error.type"
TIMED_OUT = "tasker.TaskTimeout"
_MODULE, _QUALNAME = type.__dict__["__module__"], type.__dict__["__qualname__"]
_log = logging.getLogger("tasker")


def is_recorded(span: Span) -> bool:
    """Tells whether a span is, or was, one that the SDK records.

    A parent that has ended by the time its task begins recorded where the task was submitted. One
    that is not sampled, and one of another process, are of the class of the API that records
    nothing.
    """
    is_ours = not isinstance(span, NonRecordingSpan)
    return span.is_recording() or (is_ours and span.get_span_context().trace_flags.sampled)


def type_name(error: BaseException) -> str:
    """Names the type of an exception as a traceback does, printable and not endless."""
    # Past its metaclass, whose code would run.
    kind = type(error)
    module, name = _MODULE.__get__(kind), _QUALNAME.__get__(kind)
    known = isinstance(module, str) and module != "builtins"
    return f"{plain(module)}.{plain(name)}" if known else plain(name)


def end_span(
    span: Span, error: BaseException | None, *, late: bool = False, record_exceptions: bool
) -> None:
    """Ends a span, whatever it ended with: what cannot be told of that is logged, and not raised.

    Args:
        span: Of what has ended.
        error: What it raised.
        late: Whether the time limit of the task has passed: whatever the function came to, that is
            the outcome of the task.
        record_exceptions: Whether the span has an event with the exception.
    """
    try:
        if error is not None or late:
            name = TIMED_OUT if late or error is None else type_name(error)
            span.set_attribute(ERROR_TYPE, name)
            # No description: it would be the message, which may hold data.
            span.set_status(Status(StatusCode.ERROR))
            if error is not None and record_exceptions:
                span.record_exception(error)
    except Exception as failure:
        # An exception whose `str` raises, say. Raised from here it would take the place of the one
        # that a `map` is about to raise. By names alone, as no traceback of it may be written.
        named = [type_name(each) for each in (error, failure) if each is not None]
        _log.error("a span cannot tell of its exception: %s", ", ".join(named))
    finally:
        span.end()
