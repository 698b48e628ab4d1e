"""The README's first promise: a server that is restarted in the middle costs no row."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import ROOT, RUN, blocks_in
from tests.native.support import eventually

if TYPE_CHECKING:
    from tests.integration.postgresql import Server

# Each row takes the server a moment.
USERS = """
create or replace function slowly(id int) returns text language plpgsql as $$
begin
    perform pg_sleep(0.002);
    return 'user ' || id;
end $$;
create or replace view users as select id, slowly(id) as name from generate_series(0, 2999) as id;
"""
LOGGED = "import logging\nlogging.basicConfig(level='INFO', format='%(levelname)s %(message)s')\n"


@pytest.mark.timeout(150)
def test_no_row_is_missing_when_the_server_is_restarted_in_the_middle(
    postgresql: dict[str, str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue("server")
    (block,) = blocks_in(ROOT / "README.md", RUN)
    assert block.count(": ...") == 1
    program = tmp_path / "readme.py"
    program.write_text(LOGGED + block.replace(": ...", ": print(name, flush=True)"), "utf-8")
    server.ask(USERS, database="app")
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, program],
            env={**os.environ, **postgresql},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as reader,
    ):
        assert reader.stdout is not None
        first = [reader.stdout.readline() for _ in range(500)]
        server.stop()
        eventually(lambda: "WARNING" in log.read_text("utf-8"))
        server.start()
        # Not communicate(timeout=): it reads past the buffer that readline() filled.
        rest = reader.stdout.read()
        reader.wait()
    names, logged = [*map(str.strip, first), *rest.splitlines()], log.read_text("utf-8")
    assert reader.returncode == 0, logged
    assert names == [f"user {key}" for key in range(3000)]
    (shown,) = blocks_in(ROOT / "README.md", "```text")
    records = [line for line in logged.splitlines() if line.startswith(("WARNING", "INFO"))]
    assert without_seconds(records) == without_seconds(shown.splitlines())
    assert "psycopg.OperationalError" in logged


def without_seconds(records: list[str]) -> list[str]:
    return [record.partition(" after ")[0] for record in records]
