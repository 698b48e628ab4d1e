"""What a kill hands back can be given to another runner."""

from types import SimpleNamespace
from typing import Any

from tasker import DroppedTask, Priority, Unset


def text(resource: str, *args: object, **kwargs: object) -> str:
    return f"{resource} {args} {kwargs}"


def make() -> DroppedTask:
    return DroppedTask(
        fn=text,
        args=(1, [2]),
        kwargs={"three": 3},
        priority=Priority.LOW,
        once=True,
        timeout=2.5,
        name="job",
        key=len,
        serial=True,
    )


def test_a_dropped_task_is_submitted_again_as_it_was() -> None:
    given: dict[str, Any] = {}

    def submit(*args: object, **kwargs: object) -> str:
        given["task"] = args, kwargs
        return "future"

    def options(**chosen: object) -> SimpleNamespace:
        given["options"] = chosen
        return SimpleNamespace(submit=submit)

    runner: Any = SimpleNamespace(options=options)
    future: Any = make().submit_to(runner)
    assert future == "future"
    assert given == {
        "options": {
            "priority": Priority.LOW,
            "once": True,
            "timeout": 2.5,
            "name": "job",
            "retry": Unset.UNSET,
            "key": len,
            "serial": True,
        },
        "task": ((text, 1, [2]), {"three": 3}),
    }


def test_dropped_tasks_are_told_apart_by_identity() -> None:
    first, second = make(), make()
    assert first != second
    assert len({first, second, first}) == 2
