#!/usr/bin/env bash
# clingo 5.8.3: an interrupt() that comes while nothing is being solved is kept, and ends the next
# solve() at once, with the result UNKNOWN and no error. The solve after that is right.
# Seen on CPython 3.11.7, Linux x86-64. So an interrupt must not come later than the task it is for.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check clingo==5.8.3
cat >"$folder/program.py" <<'PROGRAM'
import clingo

control = clingo.Control()
control.add("base", [], "{a; b}.")
control.ground([("base", [])])
control.interrupt()
for _ in range(2):
    result = control.solve()
    print(result, "interrupted" if result.interrupted else "complete")
PROGRAM
cat >"$folder/seen" <<'SEEN'
UNKNOWN interrupted
SAT complete
SEEN
"$folder/venv/bin/python" "$folder/program.py" >"$folder/now"
diff "$folder/seen" "$folder/now"
cat "$folder/now"
