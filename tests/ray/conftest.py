"""Runners on the cluster that end with their test."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tasker import Config

if TYPE_CHECKING:
    from tasker.ray import RayRunner

HAS_RAY = importlib.util.find_spec("ray") is not None

if not HAS_RAY:
    if sys.version_info[:2] == (3, 11):
        message = "tests/ray needs ray on Python 3.11: make ray installs it"
        raise ModuleNotFoundError(message)
    pytest.skip("ray has no wheel for this Python, or is not installed", allow_module_level=True)

Make = Callable[..., "RayRunner[Any]"]


@pytest.fixture
def make(cluster: Any) -> Iterator[Make]:
    """Makes runners of one actor with one worker, unless a test wants others."""
    from tasker.ray import RayRunner

    del cluster
    made: list[RayRunner[Any]] = []

    def make(*, actors: int = 1, settings: dict[str, Any] | None = None, **config: Any) -> Any:
        fields: dict[str, Any] = {"on_create": dict, "worker_count": 1} | config
        runner = RayRunner(Config(**fields), actors=actors, **(settings or {}))
        made.append(runner)
        return runner

    yield make
    for runner in made:
        runner.kill(timeout=60)
