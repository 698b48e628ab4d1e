#!/usr/bin/env bash
# duckdb 2.0.1: after a statement of a transaction has failed, COMMIT raises nothing, and what the
# transaction had inserted is gone. A select in the same state does raise, and asks for a ROLLBACK.
# Seen on CPython 3.11.7, Linux x86-64. So a task must not swallow an error inside a transaction.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1
cat >"$folder/program.py" <<'PROGRAM'
import duckdb

connection = duckdb.connect()
connection.execute("create table t (i integer)")
connection.execute("begin")
connection.execute("insert into t values (1)")
for statement in ("select * from missing", "select 1"):
    try:
        connection.execute(statement)
    except duckdb.Error as error:
        print(f"{statement}: {type(error).__name__}")
connection.execute("commit")
print("commit: no error")
print("rows:", connection.execute("select count(*) from t").fetchone()[0])
PROGRAM
cat >"$folder/seen" <<'SEEN'
select * from missing: CatalogException
select 1: TransactionException
commit: no error
rows: 0
SEEN
"$folder/venv/bin/python" "$folder/program.py" >"$folder/now"
diff "$folder/seen" "$folder/now"
cat "$folder/now"
