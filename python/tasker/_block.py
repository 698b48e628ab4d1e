"""How a `with` block ends a runner."""

from __future__ import annotations


def ends_gracefully(error: BaseException | None) -> bool:
    """Tells whether leaving a block stops its runner, and does not kill it.

    Args:
        error: The exception that leaves the block, or `None`.
    """
    return error is None or isinstance(error, (SystemExit, GeneratorExit))
