"""Indexes the source of the standard library for full-text search, in one SQLite file.

Every worker owns a connection to the same database. In the middle one connection is closed behind
its worker's back: the runner notices, opens a new one on the same thread and repeats the task, so
that no file is lost. The program checks its own work and ends with status 1 when the index does
not hold every file exactly once.
"""

import argparse
import ast
import re
import sqlite3
import sys
import sysconfig
import tempfile
import time
import tokenize
import warnings
from concurrent.futures import as_completed
from functools import partial
from pathlib import Path

from tasker import Config, Runner

STDLIB = Path(sysconfig.get_path("stdlib"))
SEARCHES = ("priority queue algorithm", "least recently used cache", "ratio close matches")


def find_sources() -> list[Path]:
    """Lists the standard library's own sources, without the packages installed beside it."""
    foreign = {"site-packages", "dist-packages"}
    return sorted(path for path in STDLIB.rglob("*.py") if not foreign & set(path.parts))


def create_index(database: Path) -> None:
    """Makes an empty index; the write-ahead log lets searches read while a file is written."""
    connection = sqlite3.connect(database)
    connection.executescript("""
        pragma journal_mode = wal;
        drop table if exists sources;
        create virtual table sources using fts5(path, names, docstrings, tokenize = porter);
    """)
    connection.close()


def connect(database: Path) -> sqlite3.Connection:
    """Opens a worker's connection; writers wait for each other instead of failing."""
    return sqlite3.connect(database, timeout=60, isolation_level="IMMEDIATE")


def is_broken(_connection: sqlite3.Connection, error: BaseException) -> bool:
    """Tells a connection that cannot be used any more from a task that failed for itself."""
    return isinstance(error, sqlite3.ProgrammingError)


def read_source(path: Path) -> str:
    """Reads a file as Python does, and what Python cannot decode byte by byte."""
    try:
        with tokenize.open(path) as source:
            return source.read()
    except (SyntaxError, UnicodeDecodeError):
        return path.read_text("latin-1")


def parse(text: str) -> tuple[str, str]:
    """Returns the names that a source uses and the text of its docstrings."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # the library's own tests include broken files
        return " ".join(re.findall(r"[^\W\d]\w+", text)), ""
    names: list[str] = []
    docstrings: list[str | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                names.append(name)
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                names.append(node.name)
                docstrings.append(ast.get_docstring(node))
            case ast.Module():
                docstrings.append(ast.get_docstring(node))
    return " ".join(names), "\n".join(filter(None, docstrings))


def index_file(connection: sqlite3.Connection, number: int, path: Path) -> str:
    """Puts one file into the index and returns the name it has there.

    The task may be repeated, so it replaces what an earlier attempt left, in one transaction.
    """
    name = path.relative_to(STDLIB).as_posix()
    names, docstrings = parse(read_source(path))
    with connection:
        connection.execute("delete from sources where rowid = ?", (number,))
        connection.execute(
            "insert into sources (rowid, path, names, docstrings) values (?, ?, ?, ?)",
            (number, name, names, docstrings),
        )
    return name


def search(connection: sqlite3.Connection, words: str) -> str:
    """Returns the names of the three files that answer best."""
    query = "select path from sources where sources match ? order by rank limit 3"
    return ", ".join(path for (path,) in connection.execute(query, (words,))) or "nothing"


def read_index(connection: sqlite3.Connection) -> tuple[list[str], int]:
    """Returns the names of all files in the index and the number of different terms."""
    paths = [path for (path,) in connection.execute("select path from sources")]
    connection.execute("create virtual table temp.terms using fts5vocab (main, sources, row)")
    (terms,) = connection.execute("select count(*) from temp.terms").fetchone()
    return paths, terms


def index(runner: Runner[sqlite3.Connection], sources: list[Path]) -> list[str]:
    """Indexes all sources; closes a connection in the middle and searches meanwhile."""
    futures = []
    for number, path in enumerate(sources):
        if number == len(sources) // 2:
            runner.submit(sqlite3.Connection.close)  # who runs this has a dead connection now
        futures.append(runner.submit(index_file, number, path))

    names = []
    for future in as_completed(futures):
        names.append(future.result())
        if len(names) % 250 == 0 or len(names) == len(sources):
            print(f"{len(names):5} of {len(sources)} files")
        if len(names) == max(1, len(sources) // 4):
            asked = time.perf_counter()
            answer = runner.queue_task_with_priority(search, "abstract base class")
            milliseconds = (time.perf_counter() - asked) * 1000
            waiting = runner.stats().queued_tasks
            print(f"      searched in {milliseconds:.0f} ms, {waiting} tasks waiting: {answer}")
    return names


def main() -> int:
    """Builds the index, reports what was done and returns the exit status."""
    options = argparse.ArgumentParser(description="Index the standard library's source.")
    options.add_argument("--database", type=Path, help="keep the index in this file")
    options.add_argument("--limit", type=int, help="take only the first LIMIT files")
    chosen = options.parse_args()
    sources = find_sources()[: chosen.limit]
    warnings.simplefilter("ignore", SyntaxWarning)  # of the sources, not of this program

    with tempfile.TemporaryDirectory() as folder:
        database = chosen.database or Path(folder, "stdlib.db")
        create_index(database)
        config = Config(
            on_create=partial(connect, database),
            on_destroy=sqlite3.Connection.close,
            is_broken=is_broken,
            worker_count=4,
        )
        started = time.perf_counter()
        with Runner(config) as runner:
            read = index(runner, sources)
            indexed, terms = runner.queue_task(read_index)
            answers = list(runner.map(search, SEARCHES))
            metrics = runner.metrics()
        seconds = time.perf_counter() - started

    tasks, retries = metrics.total_tasks_completed, metrics.total_tasks_retried
    print(f"files {len(indexed)}, terms {terms}, tasks {tasks}, retries {retries}, {seconds:.1f} s")
    for words, answer in zip(SEARCHES, answers, strict=True):
        print(f"{words}: {answer}")
    complete = len(read) == len(sources) and sorted(read) == sorted(indexed)
    print("every file is in the index once:", "yes" if complete else "NO")
    print("the closed connection was replaced:", "yes" if retries else "NO")
    return 0 if complete and retries else 1


if __name__ == "__main__":
    sys.exit(main())
