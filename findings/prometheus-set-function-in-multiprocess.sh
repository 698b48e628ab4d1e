#!/usr/bin/env bash
# prometheus_client 0.26.0, multiprocess mode: Gauge.set_function, Info and Enum are accepted without a
# word. MultiProcessCollector then exports the gauge as 0.0 and the other two not at all, while the
# registry of the process itself shows all three as they are.
# Seen on CPython 3.11.7, Linux x86-64. So figures that are read when scraped need a collector.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR="$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check prometheus_client==0.26.0
cat >"$folder/program.py" <<'PROGRAM'
import os
import tempfile

os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp()
from prometheus_client import REGISTRY, CollectorRegistry, Enum, Gauge, Info, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector


def show(title, registry):
    print(title)
    for line in generate_latest(registry).decode().splitlines():
        if line.startswith("ours_"):
            print(" ", line.replace(str(os.getpid()), "PID"))


Gauge("ours_waiting", "tasks").set_function(lambda: 42.0)
Info("ours_build", "version").info({"version": "1"})
Enum("ours_mode", "mode", states=["a", "b"]).state("b")
together = CollectorRegistry()
MultiProcessCollector(together)
show("process", REGISTRY)
show("multiprocess", together)
PROGRAM
cat >"$folder/seen" <<'SEEN'
process
  ours_waiting 42.0
  ours_build_info{version="1"} 1.0
  ours_mode{ours_mode="a"} 0.0
  ours_mode{ours_mode="b"} 1.0
multiprocess
  ours_waiting{pid="PID"} 0.0
SEEN
"$folder/venv/bin/python" "$folder/program.py" >"$folder/now"
diff "$folder/seen" "$folder/now"
cat "$folder/now"
