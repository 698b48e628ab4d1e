"""A node that dies, on a cluster of its own: that of the other tests has one node."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys, time
from collections import Counter
import ray
from ray.cluster_utils import Cluster
from tasker import Config, ResourceLost, current_context
from tasker.ray import RayRunner

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1, resources={"far": 2})
ray.init(address=cluster.address, log_to_driver=False)
far = second.node_id


def work(resource, n):
    time.sleep(0.001)
    return n, ray.get_runtime_context().get_node_id()


def wait(resource):
    current_context().wait()


# Each actor takes the one processor of a node, and one of them is on the second.
config = Config(on_create=dict, worker_count=1)
with RayRunner(config, actors=2, actor_options={"num_cpus": 1}) as runner:
    delivered = Counter()
    futures = runner.submit_many(work, range(3000))
    for each in futures:
        each.add_done_callback(lambda done: delivered.update([done.result()[0]]))
    while delivered.total() < 500:
        time.sleep(0.01)
    assert {each.node for each in runner.actors()} >= {far}
    cluster.remove_node(second, allow_graceful=%(graceful)s)
    assert [each.result(timeout=150)[0] for each in futures] == list(range(3000))
    assert delivered == Counter(range(3000)), delivered
    third = cluster.add_node(num_cpus=1, resources={"far": 2})
    end = time.monotonic() + 100
    while len([each for each in runner.actors() if each.state == "running"]) < 2:
        assert time.monotonic() < end, runner.actors()
        time.sleep(0.05)
    once = [runner.options(once=True).submit(wait) for _ in range(2)]
    while runner.stats().running_tasks < 2:
        time.sleep(0.05)
    cluster.remove_node(third, allow_graceful=%(graceful)s)
    end = time.monotonic() + 100
    while not any(each.done() for each in once):
        assert time.monotonic() < end
        time.sleep(0.05)
    lost, = [each for each in once if each.done()]
    assert isinstance(lost.exception(), ResourceLost), lost.exception()
    runner.kill(timeout=60)
print("all there")
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.parametrize("run", range(3))
def test_a_node_that_dies_loses_no_task_and_delivers_none_twice(run: int) -> None:
    del run
    code = SCRIPT % {"graceful": False}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=230
    )
    assert "all there" in result.stdout, result.stderr
