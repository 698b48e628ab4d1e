"""What things are called: the scope, attributes, and the edges of histograms.

Names of ours are constants here. Those of the conventions are written out as well: the package that
has them is a beta by its version, and all of it for a dozen words.
"""

from __future__ import annotations

from tasker._priority import Priority

SCOPE = "tasker"
"""The instrumentation scope."""
RUNNER = "tasker.runner.name"
PRIORITY = "tasker.task.priority"
ATTEMPT = "tasker.task.attempt"
TASK_WAIT = "tasker.task.wait_time"
GENERATION = "tasker.resource.generation"
POOL = "db.client.connection.pool.name"

WAIT, RUN, CREATE, ATTACH = (
    TASK_WAIT,
    "tasker.task.run_time",
    "tasker.resource.create_time",
    "tasker.worker.attach_time",
)
"""Histograms, in seconds."""
POOL_WAIT, POOL_USE, POOL_CREATE = (
    "db.client.connection.wait_time",
    "db.client.connection.use_time",
    "db.client.connection.create_time",
)
DESCRIPTIONS = {
    WAIT: "Time that an attempt waited in the queue.",
    RUN: "Time that an attempt took.",
    CREATE: "Time that a resource took to be made.",
    ATTACH: "Time that woken workers waited for the interpreter.",
    POOL_WAIT: "The time it took to obtain an open connection from the pool.",
    POOL_USE: "The time between borrowing a connection and returning it to the pool.",
    POOL_CREATE: "The time it took to create a new connection.",
}

RUN_EDGES = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
WAIT_EDGES = (*RUN_EDGES, 120.0, 300.0, 600.0, 1800.0)
"""Waiting has the longer tail: a queue grows through an outage."""

PRIORITIES = {priority.value: priority.name.lower() for priority in Priority}
"""What each class is called, by its number."""
