"""Writes a trace of all tasks for https://ui.perfetto.dev: which worker ran what, and when."""

import json
import random
import sys
import time
from pathlib import Path

from tasker import Config, Runner, TaskEvent


class Trace:
    """Collects attempts in the format of Chrome's traces. Give it to `Config(on_event=...)`."""

    def __init__(self) -> None:
        self._slices: list[dict[str, object]] = []

    def __call__(self, event: TaskEvent) -> None:
        """Is told of a task."""
        if event.started is not None and event.ended is not None:
            slice_: dict[str, object] = {
                **{"ph": "X", "name": event.name, "cat": event.kind, "pid": 1, "tid": event.worker},
                **{"ts": event.started * 1e6, "dur": (event.ended - event.started) * 1e6},
                "args": {"task": event.task_id, "attempt": event.attempt},
            }
            self._slices.append(slice_)

    def write(self, path: Path) -> None:
        """Writes the trace. A row has a number there, and a name beside it."""
        rows = {name: row for row, name in enumerate(sorted({str(s["tid"]) for s in self._slices}))}
        slices = [{**each, "tid": rows[str(each["tid"])]} for each in self._slices]
        names = [
            {"ph": "M", "name": "thread_name", "pid": 1, "tid": row, "args": {"name": name}}
            for name, row in rows.items()
        ]
        path.write_text(json.dumps({"traceEvents": names + slices}), "utf-8")


def fetch(connection: object, page: int) -> int:
    """Takes its time, and fails now and then."""
    time.sleep(random.uniform(0.001, 0.01))
    if page % 10 == 9:
        message = f"no page {page}"
        raise LookupError(message)
    return page


if __name__ == "__main__":
    trace, path = Trace(), Path(sys.argv[1] if len(sys.argv) > 1 else "trace.json")
    with Runner(Config(on_create=object, worker_count=4, name="web", on_event=trace)) as runner:
        pages = list(runner.map(fetch, range(100), return_exceptions=True))
    trace.write(path)
    print(f"{len(pages)} tasks in {path}: open it on https://ui.perfetto.dev")
