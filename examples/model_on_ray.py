"""Runs an ONNX model in two actors of Ray: a session in each, which is given batches of rows.

The model is made here: a layer that tells ten classes apart. Its bytes travel once to each actor,
in the config, and each actor makes its session of them. A task is a batch: one call for many rows
costs little more than for one, here and on the way. The program compares what comes back with what
the model says in this process, and ends with status 1 when they differ.

Run it in the root of a clone, with the extra `ray` and `numpy`, `onnx` and `onnxruntime`:
`python -m examples.model_on_ray`.
"""

import sys
import time
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import ray
from onnx import TensorProto, helper, numpy_helper

from tasker import Config
from tasker.ray import RayRunner

FEATURES, CLASSES = 64, 10
ROWS, BATCH = 20_000, 500

Session = Any
"""An `onnxruntime.InferenceSession`, which has no types."""


def make_model() -> bytes:
    """Makes a model of one layer, and packs it as a file would hold it."""
    weights = np.random.default_rng(7).normal(size=(FEATURES, CLASSES)).astype(np.float32)
    rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, FEATURES])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, CLASSES])
    node = helper.make_node("MatMul", ["rows", "weights"], ["scores"])
    weight = numpy_helper.from_array(weights, "weights")
    graph = helper.make_graph([node], "layer", [rows], [scores], [weight])
    opset = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    onnx.checker.check_model(model)
    packed: bytes = model.SerializeToString()
    return packed


def load(model: bytes) -> Session:
    """Makes a session of one thread: the actors share the cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def classify(session: Session, rows: Any) -> Any:
    """Returns the class of each row of a batch."""
    (scores,) = session.run(None, {"rows": rows})
    return scores.argmax(axis=1)


def main() -> int:
    """Classifies the rows one by one and in batches, and returns the exit status."""
    rows = np.random.default_rng(8).normal(size=(ROWS, FEATURES)).astype(np.float32)
    batches = np.split(rows, ROWS // BATCH)
    model = make_model()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    config = Config(on_create=partial(load, model), worker_count=1)
    with RayRunner(config, actors=2) as runner:
        found = {}
        for name, parts in (("one by one", np.split(rows[:BATCH], BATCH)), ("batches", batches)):
            begin = time.perf_counter()
            found[name] = np.concatenate(list(runner.map(classify, parts)))
            seconds = time.perf_counter() - begin
            print(f"{name}: {len(found[name]) / seconds:,.0f} rows/s")
        processes = len({worker.name for worker in runner.workers() if worker.tasks_done})
    ray.shutdown()
    expected = classify(load(model), rows)
    same = (found["batches"] == expected).all() and (found["one by one"] == expected[:BATCH]).all()
    print(f"{len(found['batches'])} rows by {processes} actors, as in this process:", end=" ")
    print("yes" if same else "NO")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
