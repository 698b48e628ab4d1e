"""A PostgreSQL server of the tests' own: started, stopped and cut off as they like."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import psycopg

from tests.native.support import LONG_TIMEOUT, eventually

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
Mode: TypeAlias = Literal["fast", "immediate"]

SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
OF_RUNNERS = "from pg_stat_activity where application_name = 'tasker'"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "log_connections": "on",
}


class Server:
    """One server with a data folder of its own, on a port of 127.0.0.1 that stays the same.

    Its clients are told apart by name: those of the tested runners are called `tasker`.

    Args:
        programs: The folder of `initdb` and `postgres`.
        home: An empty folder, for its data, its socket and its log.
        user: Whom it runs as. None: as the tests do.
    """

    ready_at = 0.0
    """When it was last seen to take connections, on the scale of `time.monotonic`."""

    def __init__(self, programs: Path, home: Path, user: str | None) -> None:
        self._programs = programs
        self._home = home
        self._data = home / "data"
        self._log = home / "log"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, Any] = {}
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(home, entry.pw_uid, entry.pw_gid)
            self._as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        initdb = ["initdb", "--auth=trust", "--username=tasker", "--no-sync", "--no-instructions"]
        made = self._begin(*initdb, "--encoding=UTF8", "--locale=C", f"--pgdata={self._data}")
        assert made.wait(LONG_TIMEOUT) == 0, self._log.read_text("utf-8")

    @property
    def conninfo(self) -> str:
        """What a runner's clients connect with."""
        return self._conninfo("tasker")

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def connect(self) -> Connection:
        """Connects as a runner's client does; each statement is a transaction."""
        return psycopg.connect(self.conninfo, autocommit=True)

    def connect_for_transactions(self) -> Connection:
        """Connects so that the first statement opens a transaction, psycopg's default."""
        return psycopg.connect(self.conninfo)

    def start(self) -> None:
        """Starts it, and returns when it takes connections."""
        settings = {**SETTINGS, "port": self._port, "unix_socket_directories": self._home}
        options = [
            option for name, value in settings.items() for option in ("-c", f"{name}={value}")
        ]
        self._process = self._begin("postgres", "-D", str(self._data), *options)
        eventually(self._is_ready)
        self.ready_at = time.monotonic()

    def stop(self, mode: Mode = "fast") -> None:
        """Ends it, and returns when it is gone.

        Args:
            mode: `"fast"` tells its clients, `"immediate"` crashes.
        """
        assert self._process is not None
        self._process.send_signal(SIGNALS[mode])
        self._process.wait(LONG_TIMEOUT)

    def restart(self, mode: Mode = "fast") -> None:
        """Stops it and starts it again."""
        self.stop(mode)
        self.start()

    @contextlib.contextmanager
    def accepting_nobody(self) -> Iterator[None]:
        """Keeps whoever connects waiting; connections that are there go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def ask(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Asks one question, on a connection that is not a runner's."""
        where = self._conninfo("test")
        with psycopg.connect(where, dbname=database, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def backends(self) -> set[int]:
        """The process numbers of the connections that runners have."""
        return {pid for (pid,) in self.ask(f"select pid {OF_RUNNERS}")}

    def terminate_backends(self) -> int:
        """Cuts every connection that runners have; returns how many these were."""
        return len(self.ask(f"select pg_terminate_backend(pid) {OF_RUNNERS}"))

    def _conninfo(self, name: str) -> str:
        settings = {
            "host": "127.0.0.1",
            "port": self._port,
            "dbname": "postgres",
            "user": "tasker",
            "application_name": name,
            "connect_timeout": 5,
        }
        return " ".join(f"{key}={value}" for key, value in settings.items())

    def _is_ready(self) -> bool:
        assert self.is_running, self._log.read_text("utf-8")
        with contextlib.suppress(psycopg.OperationalError):
            self.ask("select 1")
            return True
        return False

    def _begin(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(self._programs / program), *arguments]
        # The server ends with the tests when these are killed. (Linux has it end with the thread
        # that began it: that has to be one that lives as long as the tests.)
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "INT", *command]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                **self._as_user,
            )


def free_port() -> int:
    """Finds a port that nobody listens on.

    None of those that the system gives to clients: while the server is down, a client that calls
    such a port may be given the same one for itself, and is then connected with itself.
    """
    for port in random.SystemRandom().sample(range(15_000, 30_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no free port found")
