#!/usr/bin/env bash
# kuzu 0.11.3: two Database objects on one path in one process are both writable, without an error,
# and rows written through one of them are gone when the path is opened again.
# Seen on CPython 3.11.7, Linux x86-64. So the workers of a pool must share one Database.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR="$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check kuzu==0.11.3
cat >"$folder/program.py" <<'PROGRAM'
import tempfile

import kuzu

path = f"{tempfile.mkdtemp()}/graph"
one = kuzu.Database(path)
first = kuzu.Connection(one)
first.execute("create node table N(id int64, primary key(id))")
other = kuzu.Database(path)
second = kuzu.Connection(other)
first.execute("create (:N {id: 1})")
second.execute("create (:N {id: 2})")
for each in (first, one, second, other):
    each.close()
result = kuzu.Connection(kuzu.Database(path)).execute("match (n:N) return n.id")
rows = []
while result.has_next():
    rows += result.get_next()
print("written: 1 and 2, without an error")
print("read:", *rows)
PROGRAM
cat >"$folder/seen" <<'SEEN'
written: 1 and 2, without an error
read: 2
SEEN
"$folder/venv/bin/python" "$folder/program.py" >"$folder/now"
diff "$folder/seen" "$folder/now"
cat "$folder/now"
