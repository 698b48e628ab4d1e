"""Serves single rows to a classifier, one call for each row, and then in batches.

Needs scikit-learn. A random forest is trained on its pictures of handwritten digits, which takes
less than a second. Then clients, each with one picture at a time, wait for what it shows before
they send the next. The program checks that both ways of serving give what the model gives when it
is called without a runner, and ends with status 1 when they do not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from tasker import Config, Runner

CLIENTS = 32
"""So many rows wait at once, and so many a call takes at most."""


def train() -> tuple[RandomForestClassifier, np.ndarray]:
    """Trains with one half of the pictures, and gives the other, each as a row of 64 numbers."""
    pictures, digits = load_digits(return_X_y=True)
    half = len(pictures) // 2
    model = RandomForestClassifier(n_estimators=100, random_state=0)
    return model.fit(pictures[:half], digits[:half]), pictures[half:]


def classify(model: RandomForestClassifier, row: np.ndarray) -> int:
    """Tells what one picture shows."""
    return int(model.predict(row.reshape(1, -1))[0])


def classify_all(model: RandomForestClassifier, rows: list[np.ndarray]) -> np.ndarray:
    """Tells what each of some pictures shows, in one call of the model."""
    sizes.append(len(rows))
    digits: np.ndarray = model.predict(np.stack(rows))
    return digits


sizes: list[int] = []


def serve(name: str, ask: Callable[[np.ndarray], int], rows: np.ndarray) -> tuple[list[int], float]:
    """Has each client ask for one row after the other; gives the answers and the time."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = [int(answer) for answer in clients.map(ask, rows)]
    seconds = time.perf_counter() - begin
    print(f"{name}: {len(rows)} rows in {seconds:.2f} s, {len(rows) / seconds:,.0f} rows a second")
    return answers, seconds


def main() -> int:
    """Serves both ways, and compares them."""
    rows_asked = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    model, pictures = train()
    rows = pictures[:rows_asked]
    wanted = model.predict(rows).tolist()
    # Trained once; a model that is loaded from a file would be loaded here.
    with Runner(Config(on_create=lambda: model, worker_count=1, name="digits")) as runner:
        one_by_one, slow = serve("one by one", lambda row: runner.queue_task(classify, row), rows)
        batcher = runner.batcher(classify_all, max_size=CLIENTS, max_wait=0.002)
        in_batches, quick = serve("in batches", batcher.queue_task, rows)
    print(f"{len(sizes)} calls of {len(rows) / len(sizes):.1f} rows, {slow / quick:.1f} x as quick")
    is_right = one_by_one == in_batches == wanted
    print(f"every row got what the model says of it: {'yes' if is_right else 'NO'}")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
