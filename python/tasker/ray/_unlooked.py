"""A task's own error that nobody has asked for: logged when its future is gone."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field

from tasker import _log


@dataclass(slots=True, eq=False)
class UnlookedError:
    """Goes with the future of a task that failed, and writes a record as it goes.

    A task that succeeds has none.
    """

    logger: logging.Logger
    runner: str
    task: str
    error: BaseException
    is_settled: bool = False
    """Somebody has asked."""
    _process: int = field(default_factory=os.getpid)

    def __del__(self) -> None:
        # A child leaves the record to its parent.
        if not self.is_settled and os.getpid() == self._process:
            text = f"task '{self.task}' of '{self.runner}' failed and nobody looked"
            _log.write(self.logger, logging.ERROR, text, None, self.error)
