"""Renewals of all resources of all actors, each with a future that waits for the last actor."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from tasker._future import Future

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasker.ray._link import Link


class Renewals:
    """Those that are under way. For the driver's thread."""

    def __init__(self) -> None:
        self._tokens = count(1)
        self._open: dict[int, _Renewal] = {}

    def begin(self, future: Future[int], links: Iterable[Link]) -> None:
        """Asks actors to renew their resources.

        Args:
            future: Gets the number of resources that are gone.
            links: Whom to ask.
        """
        renewal = _Renewal(future, set(links))
        token = next(self._tokens)
        self._open[token] = renewal
        for link in renewal.left:
            link.renew(token)
        self._end_if_over(token)

    def told(self, link: Link, token: int, count: int | None) -> None:
        """Takes note of an answer; `None`: the actor stopped before."""
        renewal = self._open.get(token)
        if renewal is not None:
            renewal.left.discard(link)
            renewal.count += count or 0
            self._end_if_over(token)

    def lost(self, link: Link) -> None:
        """Waits no longer for an actor: its resources are gone with it, uncounted."""
        for token in list(self._open):
            self.told(link, token, None)

    def fail(self, error: BaseException) -> None:
        """Ends all without success."""
        for renewal in self._open.values():
            if renewal.future.set_running_or_notify_cancel():
                renewal.future.set_exception(error)
        self._open.clear()

    def _end_if_over(self, token: int) -> None:
        renewal = self._open[token]
        if not renewal.left:
            del self._open[token]
            # Cancelled, it only waits no more.
            if renewal.future.set_running_or_notify_cancel():
                renewal.future.set_result(renewal.count)


class _Renewal:
    def __init__(self, future: Future[int], left: set[Link]) -> None:
        self.future = future
        self.left = left
        """Who has not told yet."""
        self.count = 0
