"""What `Runner.diagnose` tells."""

from dataclasses import dataclass
from typing import Literal

from tasker._public import publish
from tasker._tasker import _once


@_once
@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong with a runner, from `Runner.diagnose`."""

    code: str
    """What it is, in a word that stays.

    One of `creation_failing`, `queue_full`, `stuck_worker`, `overdue`, `retries_failing`,
    `tasks_failing`, `all_busy`, `interpreter_bound` and `too_many_workers`; new ones may come. The
    guide *What a runner says of itself* has a section for each.
    """
    severity: Literal["info", "warning", "critical"]
    """How bad it is.

    *critical*: no task can run; *warning*: tasks are refused, fail, wait for long, are stuck
    or retried in vain; *info*: something could be better.
    """
    text: str
    """One sentence with its figures, on one line and without a full stop."""
    since: float
    """Seconds for which it has held, as far as is known.

    Where the figures of one moment do not tell, it counts from the first look that found it, and
    anew when two minutes pass without a look.
    """
    figures: dict[str, float]
    """The figures in the text, by name: seconds, shares from 0 to 1, and numbers."""


publish(globals(), ["Finding"])
