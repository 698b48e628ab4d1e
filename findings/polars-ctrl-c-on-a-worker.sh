#!/usr/bin/env bash
# polars 2.1.0: one SIGINT ends a collect() on a thread that is not the main one with
# KeyboardInterrupt, which Python itself raises on the main thread alone; and the main thread gets its
# own as well. Seen on CPython 3.11.7, Linux x86-64. So a task in a pool can fail with a
# BaseException that it has no reason to expect.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0
cat >"$folder/program.py" <<'PROGRAM'
import os
import signal
import threading
import time

import polars as pl

seen = set()
busy = threading.Event()
end = time.monotonic() + 30


def work():
    try:
        while time.monotonic() < end:
            few = pl.LazyFrame({"a": range(2_000)})
            pairs = few.join(pl.LazyFrame({"b": range(2_000)}), how="cross")
            pairs.select((pl.col("a") * pl.col("b")).sqrt().sum()).collect()
            busy.set()
    except BaseException as error:
        seen.add(f"worker: {type(error).__name__}")


worker = threading.Thread(target=work)
worker.start()
busy.wait()
# A signal that comes between two calls of collect() ends none of them: it is sent until one ends.
while worker.is_alive() and time.monotonic() < end:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        worker.join(1)
    except KeyboardInterrupt:
        seen.add("main: KeyboardInterrupt")
    worker.join(1)
worker.join()
print(*sorted(seen), sep="\n")
PROGRAM
cat >"$folder/seen" <<'SEEN'
main: KeyboardInterrupt
worker: KeyboardInterrupt
SEEN
"$folder/venv/bin/python" "$folder/program.py" >"$folder/now"
diff "$folder/seen" "$folder/now"
cat "$folder/now"
