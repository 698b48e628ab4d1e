"""How tasks ended, in words: completed, failed and, where there are some, in the other ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tasker._sight import words

if TYPE_CHECKING:
    from tasker._sight.view import View


class Ending(NamedTuple):
    """One way to end."""

    name: str
    number: int
    """How many tasks ended so."""
    is_error: bool

    @property
    def text(self) -> str:
        """The way and how many, such as `3 failed`."""
        return f"{words.count(self.number)} {self.name}"


def ended(view: View) -> list[Ending]:
    """Tells how all tasks ended that have.

    Args:
        view: Of the runner.
    """
    always = [Ending("completed", view.completed, False), Ending("failed", view.failed, True)]
    others = [
        Ending("timed out", view.timed_out, True),
        Ending("cancelled", view.cancelled, False),
        Ending("dropped", view.dropped, False),
    ]
    return [*always, *(one for one in others if one.number)]


def out(view: View) -> float:
    """Tells how many tasks a second leave the runner with an outcome of their own."""
    return view.rates.completed + view.rates.failed + view.rates.timed_out
