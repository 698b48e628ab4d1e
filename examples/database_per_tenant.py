"""Serves the queries of many tenants, each with a database of its own, with and without keys."""

from __future__ import annotations

import random
import sqlite3
import sys
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tasker import Config, Runner, TaskRunner

TENANTS, OPEN, WORKERS = 24, 8, 4
"""How many tenants there are, how many databases a worker keeps open, and how many workers."""


class Databases:
    """The databases that a worker has open: those that it used last."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open: dict[int, sqlite3.Connection] = {}

    def get(self, tenant: int) -> tuple[sqlite3.Connection, bool]:
        """Gives a tenant's database, and whether it had to be opened."""
        connection = self.open.pop(tenant, None)
        is_new = connection is None
        if connection is None:
            connection = sqlite3.connect(self.folder / f"{tenant}.db")
        self.open[tenant] = connection
        if len(self.open) > OPEN:
            self.open.pop(next(iter(self.open))).close()
        return connection, is_new

    def close(self) -> None:
        """Closes all of them."""
        for connection in self.open.values():
            connection.close()


def fill(folder: Path) -> None:
    """Makes a database for each tenant."""
    for tenant in range(TENANTS):
        with closing(sqlite3.connect(folder / f"{tenant}.db")) as connection, connection:
            connection.execute("create table orders (amount integer)")
            amounts = [(tenant * 1_000 + amount,) for amount in range(1_000)]
            connection.executemany("insert into orders values (?)", amounts)


def largest(databases: Databases, tenant: int) -> tuple[int, bool]:
    """Gives a tenant's largest order, and whether the database had to be opened for it."""
    connection, is_new = databases.get(tenant)
    amount = connection.execute("select max(amount) from orders").fetchone()[0]
    return int(amount), is_new


def serve(folder: Path, queries: int, key: Callable[..., Hashable] | None) -> tuple[int, int]:
    """Serves two clients: how often a database was opened, and how many queries hit."""
    config = Config(
        on_create=lambda: Databases(folder), on_destroy=Databases.close, worker_count=WORKERS
    )

    def client(runner: TaskRunner[Databases], seed: int) -> Iterator[bool]:
        tenants = random.Random(seed)
        for _ in range(queries // 2):
            tenant = tenants.randrange(TENANTS)
            amount, is_new = runner.queue_task(largest, tenant)
            assert amount == tenant * 1_000 + 999
            yield is_new

    with Runner(config) as runner, ThreadPoolExecutor(2) as clients:
        view = runner.options(key=key)
        opened = sum(clients.map(lambda seed: sum(client(view, seed)), range(2)))
        return opened, runner.metrics().total_key_hits


def main(queries: int) -> None:
    """Serves the same queries twice."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        opened, _ = serve(folder, queries, None)
        print(f"without keys: {opened} databases opened for {queries} queries")
        opened, hits = serve(folder, queries, lambda tenant: tenant)
        print(f"with keys:    {opened} databases opened, {hits} queries where they were before")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4_000)
