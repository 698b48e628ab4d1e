#!/usr/bin/env bash
# HiGHS 1.16.0: the first model that a thread solves fixes the number of HiGHS' own threads for that
# thread. A later model with another value of the option `threads` is not solved: maximize() returns
# kError, raises nothing, and the model status is kNotset. In another thread the same value works.
# Seen on CPython 3.11.7, Linux x86-64. So one value for all models that a worker solves.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check highspy==1.16.0
cat >"$folder/program.py" <<'PROGRAM'
import threading

import highspy


def solve(threads):
    model = highspy.Highs()
    model.setOptionValue("threads", threads)
    status = model.maximize(model.addVariable(lb=0, ub=1))
    print(threads, status.name, model.getModelStatus().name, flush=True)


solve(1)
solve(2)
other = threading.Thread(target=solve, args=(2,))
other.start()
other.join()
PROGRAM
cat >"$folder/seen" <<'SEEN'
1 kOk kOptimal
2 kError kNotset
2 kOk kOptimal
SEEN
"$folder/venv/bin/python" "$folder/program.py" | grep "^[0-9]" >"$folder/now" # HiGHS greets on standard output
diff "$folder/seen" "$folder/now"
cat "$folder/now"
