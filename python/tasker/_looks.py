"""What a runner remembers of the looks at what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tasker._findings import MOMENT, Snapshot, examine

if TYPE_CHECKING:
    from tasker._finding import Finding

HELD = 10.0
"""Seconds for which a finding has held that is logged."""
CLEAR = 60.0
"""Seconds for which it was gone before it is logged again."""
_GAP = 120.0
"""Seconds without a look after which nobody knows whether something held all the time."""
_PERIOD = 60.0
"""Seconds that what has happened lately covers at least."""


@dataclass(frozen=True, slots=True)
class _Looks:
    """What is remembered of the looks so far."""

    at: float
    began: dict[str, float]
    """When each finding of the last look began, by code."""
    newer: Snapshot
    older: Snapshot | None


class Memory:
    """What one runner remembers of earlier looks, so that a finding knows since when it holds.

    It has no lock: a signal handler or destructor may look in the middle of a look. Each replaces
    what is remembered in one step, and of two at the same time one is forgotten.
    """

    def __init__(self) -> None:
        self._looks: _Looks | None = None
        self._logged: dict[str, float] = {}
        """When each finding that was logged was seen last for the log, by code."""

    def look(self, now: Snapshot) -> tuple[Finding, ...]:
        """Finds what is wrong, the worst first.

        Args:
            now: The runner at this moment.
        """
        last = self._looks
        older, newer = (last.older, last.newer) if last else (None, now)
        found = examine(now, older, newer if now.at - newer.at >= MOMENT else older)
        began: dict[str, float] = {}
        known = last.began if last and now.at - last.at <= _GAP else {}
        for index, finding in enumerate(found):
            start = min(now.at - finding.since, known.get(finding.code, now.at))
            began[finding.code] = start
            found[index] = replace(finding, since=max(now.at - start, 0.0))
        if now.at - newer.at >= _PERIOD:
            older, newer = newer, now
        self._looks = _Looks(now.at, began, newer, older)
        return tuple(found)

    def to_log(self, now: Snapshot) -> list[tuple[str, str]]:
        """Looks, and gives the severity and text of what is to be logged.

        For one thread alone, the one that looks for the log.

        Args:
            now: The runner at this moment.
        """
        told = {code: at for code, at in self._logged.items() if now.at - at < CLEAR}
        due: list[tuple[str, str]] = []
        for finding in self.look(now):
            if finding.code not in told:
                if finding.since < HELD:
                    continue
                due.append((finding.severity, finding.text))
            told[finding.code] = now.at
        self._logged = told
        return due
