"""Figures and spans of runners for OpenTelemetry.

    from tasker.opentelemetry import instrument

    instrument()                     # metrics of all runners, also of those made later
    instrument(runner, spans=True)   # and a span for each attempt

`instrument` needs the API of OpenTelemetry alone: `pip install 'tasker-rs[opentelemetry]'`. Without
its SDK nothing is recorded. `exporting`, which hands ready-made histograms to an exporter, needs
the SDK.

How it works. Metrics are observable instruments, which read a runner when a reader collects, so a
task costs nothing. The API has no callback that feeds several instruments, so those of one
collection share a snapshot: see `_reading`. Spans and `record_times` have to stand around each
attempt, inside the context that its function runs in. For that each runner has a place for one
observer, which costs an attempt one look at a flag while it is empty. `Config.on_event` would not
do: it belongs to the user, is fixed when a runner is made, and is told after the fact, in a copy of
the context. Nor would a wrapping of the function at submission: to names, tracebacks and
`DroppedTask` it is another function.
"""

from tasker._extra import need as _need
from tasker._public import publish

# Both: other distributions put modules into the same namespace.
_need("opentelemetry", "opentelemetry.metrics", "opentelemetry-api")
_need("opentelemetry", "opentelemetry.trace", "opentelemetry-api")

# Behind the check, which says what to install.
from tasker.opentelemetry._exporting import exporting  # noqa: E402
from tasker.opentelemetry._instrument import Instrumentation, instrument  # noqa: E402

__all__ = ["Instrumentation", "exporting", "instrument"]

publish(globals(), __all__, __name__)
