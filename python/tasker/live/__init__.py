"""Shows runners in a terminal or a notebook while they work; of the extra `live`."""

from __future__ import annotations

from tasker._extra import need as _need
from tasker._public import publish

_need("live", "rich")

from tasker.live._live import Live  # noqa: E402 - behind the check, which says what to install

__all__ = ["Live"]

publish(globals(), __all__, __name__)
