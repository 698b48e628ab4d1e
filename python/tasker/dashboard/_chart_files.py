"""Where the chart library is."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from tasker._extra import need

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_CHARTS = "metaflow_extensions.card_uplot.plugins.cards"
"""Where uPlot is, the chart library, in the package `metaflow-card-uplot`.

The folder in which it lies is itself a module, which imports what only Metaflow has: so the one
above is asked.
"""


def chart_files() -> Traversable:
    """Finds the folder with the script and the style of uPlot.

    Raises:
        ModuleNotFoundError: The package that holds it is not there; the text says what to install.
    """
    need("dashboard", _CHARTS, "metaflow-card-uplot")
    return files(_CHARTS) / "uplot" / "uplot"
