"""Servers and tools that fork, patch threads or own the process, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

LONG_TIMEOUT = 30.0

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="fork and signals of POSIX")


def run(program: str, folder: Path, *options: str) -> str:
    """Runs a program from a file, as `multiprocessing` wants it; gives what it printed."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(program), "utf-8")
    command = [sys.executable, *options, path.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LONG_TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- processes from a task


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_task_may_start_processes(method: str, tmp_path: Path) -> None:
    if method != "spawn" and sys.platform == "win32":
        pytest.skip("fork of POSIX")
    program = f"""
        import concurrent.futures, multiprocessing, warnings
        from tasker import Config, Runner, ThreadPoolExecutor
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads

        def work(number):
            return number * number

        def task(*_resource):
            context = multiprocessing.get_context({method!r})
            child = context.Process(target=work, args=(1,))
            child.start()
            child.join()
            with context.Pool(1) as pool:
                mapped = pool.map(work, [1, 2, 3])
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                return child.exitcode, mapped, pool.submit(work, 5).result()

        if __name__ == "__main__":
            with ThreadPoolExecutor(1) as pool:
                print(pool.submit(task).result())
            with Runner(Config(on_create=dict, worker_count=1)) as runner:
                print(runner.submit(task).result())
    """
    assert run(program, tmp_path).splitlines() == ["(0, [1, 4, 9], 25)"] * 2


def test_joblib_runs_threads_and_processes_inside_a_task(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    program = """
        import joblib
        from tasker import Config, Runner, ThreadPoolExecutor

        def task(*_resource):
            calls = [joblib.delayed(pow)(n, 2) for n in range(4)]
            return [joblib.Parallel(2, kind)(calls) for kind in ("threading", "loky")]

        if __name__ == "__main__":
            with ThreadPoolExecutor(1) as pool:
                print(pool.submit(task).result())
            with Runner(Config(on_create=dict, worker_count=1)) as runner:
                print(runner.submit(task).result())
    """
    assert run(program, tmp_path).splitlines() == ["[[0, 1, 4, 9], [0, 1, 4, 9]]"] * 2


# ---- gevent


@posix_only
def test_under_gevent_tasks_run_on_threads_and_its_hub_can_wait_for_them(tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    program = """
        from gevent import monkey
        monkey.patch_all()
        import gevent, threading
        from tasker import Config, Runner, ThreadPoolExecutor

        real = monkey.get_original("_thread", "get_ident")
        sleep = monkey.get_original("time", "sleep")
        ticks = []

        def tick():
            while True:
                ticks.append(1)
                gevent.sleep(0.01)

        ticker = gevent.spawn(tick)
        runner = Runner(Config(on_create=dict, worker_count=1))
        with ThreadPoolExecutor(1) as pool, runner:
            for future in (pool.submit(real), runner.submit(lambda _: real())):
                assert future.result() != real()
            future = pool.submit(sleep, 0.3)
            before = len(ticks)
            gevent.get_hub().threadpool.apply(future.result)
            assert len(ticks) > before + 3, len(ticks)
            assert list(pool.map(abs, [-1, 2])) == [1, 2]
        ticker.kill()
        print("done")
    """
    assert run(program, tmp_path) == "done\n"


# ---- servers that fork


@posix_only
def test_under_gunicorn_with_preload_a_pool_is_made_after_the_fork(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "web.py").write_text(
        textwrap.dedent("""
        from tasker import Config, Runner, RunnerBroken, ThreadPoolExecutor
        from concurrent.futures.thread import BrokenThreadPool

        inherited = ThreadPoolExecutor(1)
        inherited_runner = Runner(Config(on_create=dict, worker_count=1))
        made = {}

        def app(environ, start_response):
            start_response("200 OK", [])
            answers = []
            try:
                inherited.submit(int)
            except BrokenThreadPool as error:
                answers.append("make a new one" in str(error))
            try:
                inherited_runner.submit(len)
            except RunnerBroken as error:
                answers.append("make a new one" in str(error))
            answers.append(made["pool"].submit(pow, 2, 3).result())
            answers.append(made["runner"].submit(len).result())
            return [repr(answers).encode()]
        """),
        "utf-8",
    )
    (tmp_path / "conf.py").write_text(
        textwrap.dedent("""
        def post_fork(server, worker):
            import web
            web.made["pool"] = web.ThreadPoolExecutor(1)
            web.made["runner"] = web.Runner(web.Config(on_create=dict, worker_count=1))

        def worker_exit(server, worker):
            import web
            web.made["runner"].stop()
            web.made["pool"].shutdown()
            open("ended", "w").close()
        """),
        "utf-8",
    )
    port_file = tmp_path / "log"
    command = [sys.executable, "-m", "gunicorn", "--preload", "-c", "conf.py", "-w", "1"]
    command += ["-b", "127.0.0.1:0", "--log-file", str(port_file), "--no-control-socket", "web:app"]
    server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        address = wait_for(lambda: address_in(port_file), server)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=LONG_TIMEOUT) as answer:
            assert answer.read() == b"[True, True, 8, 0]"
        server.send_signal(signal.SIGTERM)
        assert server.wait(LONG_TIMEOUT) == 0
        assert (tmp_path / "ended").exists()
    finally:
        server.kill()
        server.communicate()


def address_in(log: Path) -> str | None:
    text = log.read_text("utf-8") if log.exists() else ""
    _, found, rest = text.partition("Listening at: ")
    return rest.split()[0] if found else None


def wait_for(look: Any, process: subprocess.Popen[str]) -> Any:
    end = time.monotonic() + LONG_TIMEOUT
    while not (found := look()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it never came up"
        time.sleep(0.02)
    return found


@posix_only
@pytest.mark.timeout(120)
def test_under_celery_prefork_a_runner_is_stopped_by_its_signal(tmp_path: Path) -> None:
    pytest.importorskip("celery")
    (tmp_path / "jobs.py").write_text(
        textwrap.dedent("""
        import atexit
        from pathlib import Path
        from celery import Celery
        from celery.signals import worker_process_init, worker_process_shutdown
        from tasker import Config, Runner

        home = Path(__file__).parent
        for name in ("queue", "results"):
            (home / name).mkdir(exist_ok=True)
        app = Celery("jobs", broker="filesystem://", backend=f"file://{home}/results")
        folders = dict(data_folder_in=str(home / "queue"), data_folder_out=str(home / "queue"))
        app.conf.update(broker_transport_options=folders, worker_hijack_root_logger=False)
        runner = None

        @worker_process_init.connect
        def begin(**_):
            global runner
            destroyed = lambda resource: (home / "destroyed").touch()
            runner = Runner(Config(on_create=dict, on_destroy=destroyed, worker_count=1))
            atexit.register((home / "atexit").touch)

        @worker_process_shutdown.connect
        def end(**_):
            runner.stop()

        @app.task
        def job(number):
            value = runner.queue_task(lambda _: number + 1)
            (home / f"ran-{value}").touch()
        """),
        "utf-8",
    )
    arguments = ["worker", "-c", "1", "-P", "prefork", "--without-gossip", "--without-mingle"]
    arguments += ["--without-heartbeat", "-l", "warning"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "jobs", *arguments],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            text=True,
            env={**os.environ, "C_FORCE_ROOT": "1", "PYTHONWARNINGS": "ignore"},
        )
    try:
        run_there = "import jobs; jobs.job.delay(41)"
        subprocess.run(
            [sys.executable, "-c", run_there], cwd=tmp_path, check=True, timeout=LONG_TIMEOUT
        )
        wait_for((tmp_path / "ran-42").exists, worker)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(LONG_TIMEOUT) == 0, (tmp_path / "log").read_text()
    finally:
        worker.kill()
        worker.wait()
    assert (tmp_path / "destroyed").exists()
    # What the signal is needed for: a child of celery runs no function of atexit.
    assert not (tmp_path / "atexit").exists()


def test_prometheus_shows_the_figures_of_a_runner_beside_those_of_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("prometheus_client")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    program = """
        from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
        from prometheus_client.core import GaugeMetricFamily
        from tasker import Config, Runner

        class Figures:
            def __init__(self, runner):
                self.runner = runner

            def collect(self):
                gauge = GaugeMetricFamily("runner_active_workers", "Workers that are there.")
                gauge.add_metric([], self.runner.stats().active_workers)
                yield gauge

        with Runner(Config(on_create=dict, worker_count=2)) as runner:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            registry.register(Figures(runner))
            calls = Counter("calls", "Calls made by tasks.")
            for future in [runner.submit(lambda _: calls.inc()) for _ in range(5)]:
                future.result()
            text = generate_latest(registry).decode()
        print([line for line in text.splitlines() if line[0] != "#"])
    """
    assert run(program, tmp_path) == "['calls_total 5.0', 'runner_active_workers 2.0']\n"


# ---- test runners and notebooks


def test_pytest_xdist_runs_tests_that_use_it(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    (tmp_path / "test_pool.py").write_text(
        textwrap.dedent("""
        import logging, pytest
        from tasker import Config, Runner, ThreadPoolExecutor

        @pytest.mark.parametrize("number", range(4))
        def test_pool(number, capsys, caplog):
            with ThreadPoolExecutor(2) as pool:
                pool.submit(print, "printed", number).result()
                pool.submit(logging.getLogger("x").warning, "logged").result()
            with Runner(Config(on_create=dict, worker_count=1)) as runner:
                runner.submit(lambda _: print("by a runner")).result()
            assert capsys.readouterr().out == f"printed {number}\\nby a runner\\n"
            assert caplog.messages == ["logged"]
        """),
        "utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-n", "2"]
    done = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(tmp_path), "test_pool.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LONG_TIMEOUT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


@posix_only
@pytest.mark.timeout(120)
def test_in_a_notebook_a_print_goes_to_its_cell_and_an_interrupt_gets_through() -> None:
    manager_of = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    manager, client = manager_of.start_new_kernel(
        kernel_name="python3", startup_timeout=LONG_TIMEOUT
    )
    try:

        def send(code: str) -> str:
            return str(client.execute(textwrap.dedent(code)))

        def texts(cell: str) -> str:
            """What was printed for a cell, until it is done."""
            found, idle = "", False
            while not idle:
                message = client.get_iopub_msg(timeout=LONG_TIMEOUT)
                if message["parent_header"].get("msg_id") != cell:
                    continue
                content = message["content"]
                found += content.get("text", "") + content.get("ename", "")
                idle = content.get("execution_state") == "idle"
            return found

        setup = send("""
            import threading
            from tasker import Config, Runner
            runner = Runner(Config(on_create=dict, worker_count=2))
            print("ready")
        """)
        assert texts(setup) == "ready\n"
        cell = send("print(runner.submit(lambda _: print('from the task') or 7).result())")
        assert texts(cell) == "from the task\n7\n"
        assert texts(send("await runner.asubmit(len)\nprint('awaited')")) == "awaited\n"
        waiting = send("""
            entered, release = threading.Event(), threading.Event()
            future = runner.submit(lambda _: (entered.set(), release.wait(60)))
            entered.wait()
            print("waits", flush=True)
            future.result()
        """)
        while client.get_iopub_msg(timeout=LONG_TIMEOUT)["content"].get("text") != "waits\n":
            pass
        manager.interrupt_kernel()
        assert texts(waiting).endswith("KeyboardInterrupt")
        assert texts(send("release.set(); runner.stop(); print(runner.state)")) == "stopped\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
