"""The actors of a runner: made, replaced when they are lost, and let go."""

from __future__ import annotations

import logging
import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from tasker._errors import ConfigError, ResourceCreationError, TaskerError
from tasker.ray import _cluster
from tasker.ray._host import Host
from tasker.ray._link import Link
from tasker.ray._pickling import shown_error, unpack_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tasker.ray._link import Figures
    from tasker.ray._wire import Opened, Settings

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
"""Seconds between attempts to make an actor, while that fails."""


class Fleet:
    """The actors of a runner. But for its making it is for the driver's thread.

    Args:
        name: Of the runner.
        actors: How many there are to be.
        workers: How many each has.
        options: For Ray.
        settings: Makes what an actor of a name is made with.
        timeout: Seconds for the making of an actor.
        max_out: How many tasks may be with one.
    """

    def __init__(
        self,
        name: str,
        actors: int,
        workers: int,
        options: Mapping[str, object],
        settings: Callable[[str], Settings],
        timeout: float,
        max_out: int,
    ) -> None:
        self.links: list[Link] = []
        """Those that are there, open or not."""
        self.size = actors
        """How many there are to be."""
        self.fault: BaseException | None = None
        """Why the last one could not be made."""
        self.past_figures: list[Figures] = []
        """What those told last that are gone."""
        try:
            self._class = _cluster.actor_class(Host, options)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"actor_options are refused by Ray: {error}") from error
        self._name = name
        self._workers = workers
        self._settings = settings
        self._timeout = timeout
        self._max_out = max_out
        self._numbers = count(1)
        self._wishes: list[float] = []
        """When actors are to be made."""
        self._failures = 0
        self._failing_since: float | None = None

    def assign(
        self,
        post: Callable[[Callable[[], object]], None],
        opened: Callable[[Link], None],
        log: Callable[..., None],
    ) -> None:
        """Notes whose it is.

        Args:
            post: Has the driver's thread do something.
            opened: Called there with an actor that is ready.
            log: Logs.
        """
        self._post, self._opened, self._log = post, opened, log

    def open_first(self) -> None:
        """Makes the first actors, and waits for them.

        Raises:
            ResourceCreationError: One could not be made; the others are ended.
        """
        end = time.monotonic() + self._timeout
        try:
            opening = {}
            for _ in range(self.size):
                link, reference = self._begin(self._next_name())
                opening[reference] = link
            while opening:
                left = end - time.monotonic()
                ready = _cluster.first_done(list(opening), left)
                for reference in ready:
                    link = opening.pop(reference)
                    self._note_opened(link, _cluster.answer(reference))
                if not ready and left <= 0:
                    raise self._late([link.name for link in opening.values()])
        except BaseException as error:
            for link in self.links:
                (_cluster.end if link.is_open else _cluster.destroy)(link.handle)
            if isinstance(error, Exception) and not isinstance(error, TaskerError):
                raise _not_made(error) from error
            raise

    def _late(self, names: list[str]) -> ResourceCreationError:
        return ResourceCreationError(
            f"{', '.join(names)}: no resource within creation_timeout={self._timeout:g} s; "
            "the cluster may have no room for the actor, or on_create takes longer"
        )

    def _next_name(self) -> str:
        return f"{self._name}-actor-{next(self._numbers)}"

    def _begin(self, name: str) -> tuple[Link, Any]:
        """Begins to make an actor; gives what says how that ended, too."""
        settings = self._settings(name)
        handle = _cluster.call(self._class)
        link = Link(name, handle, self._workers, self._max_out, self._tell)
        self.links.append(link)
        return link, link.open(settings)

    def _tell(self, what: Callable[[], object]) -> None:
        self._post(what)

    def _note_opened(self, link: Link, opened: Opened) -> None:
        if opened.error is not None:
            raise unpack_error(opened.error)
        link.process, link.node = opened.process, opened.node
        link.is_open = True

    # ---- afterwards

    @property
    def has_open(self) -> bool:
        """Whether an actor is there that takes tasks."""
        return any(link.is_open for link in self.links)

    @property
    def is_opening(self) -> bool:
        """Whether an actor is being made."""
        return any(not link.is_open for link in self.links)

    @property
    def failing_for(self) -> float:
        """Seconds since an actor could not be made, with none made since."""
        since = self._failing_since
        return 0.0 if since is None else time.monotonic() - since

    def next_wish(self) -> float | None:
        """When the next actor is to be made; makes those whose time has come."""
        now = time.monotonic()
        for wish in [each for each in self._wishes if each <= now]:
            self._wishes.remove(wish)
            self.add()
        return min(self._wishes, default=None)

    def cancel_wishes(self) -> None:
        """Makes no more actors."""
        self._wishes.clear()

    def add(self) -> None:
        """Begins to make an actor."""
        name = self._next_name()
        try:
            link, reference = self._begin(name)
        except Exception as error:
            if _cluster.session() is None:
                raise
            # What a function of the config refers to may have changed since the start, say.
            self._note_failure(name, error)
            return
        _cluster.when_done(
            reference, lambda future: self._post(partial(self._take_opened, link, future))
        )

    def _take_opened(self, link: Link, future: Any) -> None:
        if link not in self.links:
            return
        try:
            self._note_opened(link, future.result())
        except BaseException as error:
            self._failed(link, error)
        else:
            self._failures, self._failing_since, self.fault = 0, None, None
            self._opened(link)

    def give_up_late(self) -> None:
        """Gives up what takes too long to be made."""
        now = time.monotonic()
        for link in list(self.links):
            if not link.is_open and now - link.created > self._timeout:
                self._failed(link, self._late([link.name]))

    def _failed(self, link: Link, error: BaseException) -> None:
        self.links.remove(link)
        _cluster.destroy(link.handle)
        self._note_failure(link.name, error)

    def _note_failure(self, name: str, error: BaseException) -> None:
        self.fault = error
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        text = f"the actor {name} could not be made: {shown_error(error)}"
        self._log(logging.ERROR, text, error)
        self._replace_missing()

    @property
    def _missing(self) -> int:
        """How many actors are there and on order too few; negative, how many too many."""
        staying = sum(not link.is_closing for link in self.links)
        return self.size - staying - len(self._wishes)

    def _replace_missing(self) -> None:
        if self._missing > 0:
            pause = min(FIRST_PAUSE * 2.0**self._failures, LONGEST_PAUSE)
            self._failures += 1
            self._wishes.append(time.monotonic() + pause)

    def remove(self, link: Link, *, replaces: bool) -> None:
        """Takes one out that is lost, or never came up."""
        self._note_past(link)
        self.links.remove(link)
        _cluster.destroy(link.handle)
        if replaces:
            self._replace_missing()

    def retire(self, link: Link) -> None:
        """Lets one go whose runner has stopped."""
        self._note_past(link)
        self.links.remove(link)
        _cluster.end(link.handle)

    def _note_past(self, link: Link) -> None:
        if link.last_figures is not None:
            self.past_figures.append(link.last_figures)

    def forget(self) -> None:
        """Forgets all of them: there is no Ray any more."""
        self.links.clear()
        self._wishes.clear()

    def resize(self, actors: int) -> list[Link]:
        """Takes another number; gives the actors that are too many."""
        self.size = actors
        while self._missing < 0 and self._wishes:
            self._wishes.pop()
        for _ in range(self._missing):
            self.add()
        staying = [link for link in self.links if not link.is_closing]
        staying.sort(key=lambda link: (link.is_open, len(link.out)))
        return staying[: max(-self._missing, 0)]


def _not_made(error: Exception) -> ResourceCreationError:
    what = "was lost while it was made" if isinstance(error, _cluster.Lost) else "was not made"
    return ResourceCreationError(f"an actor {what}: {shown_error(error)}")
