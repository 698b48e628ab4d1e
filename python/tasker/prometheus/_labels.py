"""Values of labels that come from users: short, apart from each other, and few."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from zlib import crc32

from tasker._sight.texts import SHORT

OTHER = "other"
"""The label of all that have none of their own; the runner calls them so as well."""


def label(text: str) -> str:
    """Cuts a name to 80 characters; what is cut ends in a sum of the whole.

    Two long names that begin alike would else be one series, whose value jumps between theirs.

    Args:
        text: A printable text.
    """
    if len(text) <= SHORT:
        return text
    checksum = f"~{crc32(text.encode(errors='backslashreplace')):08x}"
    return text[: SHORT - len(checksum)] + checksum


class Places:
    """The names of one runner that have a series of their own.

    The busiest get one, and whoever has one keeps it: a name that came and went with its rank would
    take its past from `other` to its own series and back, and each counter that falls is taken for
    one that began anew.

    Args:
        most: How many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._names: set[str] = set()

    def give(self, weights: Mapping[str, float]) -> frozenset[str]:
        """Gives the free places away, and returns who has one.

        Args:
            weights: All names there are, and how busy they are.
        """
        with self._lock:
            waiting = weights.keys() - self._names - {OTHER}
            # By name where they are equally busy, so that the choice is no accident.
            ranked = sorted(waiting, key=lambda name: (-weights[name], name))
            self._names.update(ranked[: self._most - len(self._names)])
            return frozenset(self._names)
