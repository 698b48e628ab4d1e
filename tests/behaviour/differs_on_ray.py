"""Which tests of the suite cannot hold on Ray, each with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent

FILES: dict[str, str] = {
    "test_batcher": "a RayRunner has no batches",
    "test_differences": "tells a runner from its double; tests/ray tells it from one on Ray",
    "test_events": "on_event is called in the actor, of what the actor is given",
    "test_keys": "a RayRunner has no keys",
    "test_serial_keys": "a RayRunner has no keys",
}
"""Why no test of a file is run there."""

IN_A_TASK = "the task or hook uses its runner, which stays in the driver"
LOG = "what an actor logs has its name in front, and a copy of the error"
FUTURE = "the task or hook uses a future, which stays in the driver"

TESTS: dict[str, str] = {
    "test_ending.test_a_task_that_kills_its_runner_is_told": IN_A_TASK,
    "test_ending.test_a_task_that_stops_its_runner_finishes": IN_A_TASK,
    "test_figures.test_a_task_finds_itself_among_the_workers": IN_A_TASK,
    "test_figures.test_attempts_and_resources_are_counted": IN_A_TASK,
    "test_figures_by_name.test_a_task_inside_another_has_its_own_name": IN_A_TASK,
    "test_figures_by_name.test_a_task_that_is_settled_by_hand_has_its_name": FUTURE,
    "test_figures_by_name.test_errors_are_counted_by_their_types[RayRunner--evil.Bad]": (
        "a class that tells nobody its name cannot be pickled"
    ),
    "test_figures_by_name.test_what_runs_now_counts_as_busy": IN_A_TASK,
    "test_hooks.test_a_bad_resource_found_inside_is_replaced_when_the_outer_task_has_ended": (
        IN_A_TASK
    ),
    "test_hooks.test_a_callback_of_a_task_is_called_while_it_runs_and_never_after": (
        "the test keeps the contexts of tasks"
    ),
    "test_hooks.test_a_cancelled_renewal_goes_on": IN_A_TASK,
    "test_hooks.test_a_cancelled_task_is_interrupted_once_and_its_resource_looked_at": FUTURE,
    "test_hooks.test_a_judge_that_raises_replaces_the_resource_and_does_not_retry": LOG,
    "test_hooks.test_a_renewal_fails_when_its_runner_ends_before": IN_A_TASK,
    "test_hooks.test_a_renewal_inside_a_task_is_done_when_the_task_has_ended": IN_A_TASK,
    "test_hooks.test_a_retry_settled_by_hand_is_counted_by_that_outcome": FUTURE,
    "test_hooks.test_a_runner_is_asked_for_other_numbers_of_workers": (
        "a RayRunner resizes its actors, not the workers in them"
    ),
    "test_hooks.test_a_running_task_settled_by_hand_is_counted_by_that_outcome": FUTURE,
    "test_hooks.test_a_task_that_heeds_its_context_is_not_judged": FUTURE,
    "test_hooks.test_an_error_of_on_destroy_is_logged_and_dropped": LOG,
    "test_hooks.test_an_error_that_is_raised_again_and_again_has_one_note": (
        "each task raises a copy of the error"
    ),
    "test_hooks.test_an_on_cancel_that_raises_is_logged": FUTURE,
    "test_hooks.test_the_outcome_comes_before_reset": (
        "an outcome is on its way to the driver while the actor goes on"
    ),
    "test_hooks.test_check_health_may_use_the_runner_and_is_answered_on_the_resource_in_question": (
        IN_A_TASK
    ),
    "test_own_retries.test_a_task_inside_another_is_tried_again_there": IN_A_TASK,
    "test_own_retries.test_each_attempt_has_a_fresh_copy_of_the_context_variables": (
        "the variable is of a function, and has no name by which it could travel"
    ),
    "test_own_retries.test_an_on_that_fails_is_logged_and_leaves_the_task_its_error": LOG,
    "test_verbs.test_a_crawl_does_not_nest": IN_A_TASK,
    "test_verbs.test_a_full_queue_refuses_a_task_of_a_task": IN_A_TASK,
    "test_verbs.test_a_hook_must_not_wait_for_a_task_of_its_own_runner": IN_A_TASK,
    "test_verbs.test_a_task_can_be_asked_to_give_up_from_within": FUTURE,
    "test_verbs.test_a_task_submitted_in_another_runs_after_it": IN_A_TASK,
    "test_verbs.test_a_task_that_waits_for_another_runs_it_on_its_own_resource": IN_A_TASK,
    "test_verbs.test_the_traceback_of_an_error_begins_in_the_task": (
        "the traceback in the actor is text, in a note"
    ),
    "test_waiting.test_a_retry_is_first_in_its_class_and_comes_after_higher_ones": IN_A_TASK,
    "test_waiting.test_a_task_that_is_cancelled_while_its_resource_is_made_is_counted": FUTURE,
}
"""Why a test is not run there, by its file and name, or one case of it, with its parameters."""


def choose(items: list[pytest.Item]) -> list[pytest.Item]:
    """Leaves out the tests of this folder that start no runner by the bench, and marks the others.

    A test that is listed is not run; the report names it with its reason.

    """
    ours = [item for item in items if item.path.parent == HERE]
    chosen = [item for item in ours if "bench" in getattr(item, "fixturenames", ())]
    for item in chosen:
        name = getattr(item, "originalname", item.name)
        file = item.path.stem
        reason = FILES.get(file) or TESTS.get(f"{file}.{name}") or TESTS.get(f"{file}.{item.name}")
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, run=False))
    return [item for item in items if item not in ours or item in chosen]
