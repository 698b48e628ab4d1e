"""Tries again what docs/libraries-and-threads.md says of each library, with the releases it names.

Not part of the tests: it needs some thirty packages. In an environment that has this package:

    pip install $(python scripts/try_libraries.py --pins)
    python scripts/try_libraries.py            # or the names of some

Each trial runs in a process of its own, on workers of a runner, and prints the row of the page.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tasker import Config, Runner

PINS = {
    "apsw": "3.54.1.0",
    "clingo": "5.8.3",
    "cvc5": "1.4.2",
    "duckdb": "2.0.1",
    "h5py": "3.16.0",
    "highspy": "1.16.0",
    "kuzu": "0.11.3",
    "lmdb": "3.0.0",
    "lupa": "2.8",
    "lxml": "6.1.3",
    "mini-racer": "0.14.1",
    "onnxruntime": "1.32.0",
    "pymupdf": "2.0",
    "pypdfium2": "5.15.2",
    "python-sat": "1.9.dev24",
    "pyturso": "0.8.3",
    "pyzmq": "27.3.0",
    "quickjs": "1.19.4",
    "tree-sitter": "0.26.1",
    "wasmtime": "50.0.1",
    "z3-solver": "5.4.1.0",
}
"""The releases that the page speaks of."""

Trial = Callable[[], Iterator[str]]
TRIALS: dict[str, Trial] = {}


def trial(package: str) -> Callable[[Trial], Trial]:
    """Registers what a library is tried with; it yields the cells of its row."""

    def register(function: Trial) -> Trial:
        TRIALS[package] = function
        return function

    return register


def library(name: str) -> Any:
    """Imports what may not be there, and has no types that the checkers could see."""
    return importlib.import_module(name)


@contextmanager
def owned(create: Callable[[], Any], close: Callable[[Any], object] | None = None) -> Iterator[Any]:
    """Two workers with one each, both of which have been used at the same time."""
    with Runner(Config(on_create=create, on_destroy=close, worker_count=2)) as runner:
        yield runner


def lets_go(runner: Any, work: Callable[[Any], object]) -> str:
    """Says whether other Python threads run while a worker is in the library."""
    longest = 0.0
    future = runner.submit(work)
    begin = last = time.perf_counter()
    while not future.done():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        time.sleep(0.001)
    future.result()
    whole = time.perf_counter() - begin
    # One that keeps the interpreter's lock stops this thread for nearly the whole of it.
    return "yes" if longest < whole / 2 else "no"


def ended(runner: Any, work: Callable[[Any], object], end: Callable[[Any], object]) -> str:
    """Ends a call from outside within five seconds, and says what the task got."""
    running: list[Any] = []
    begun = threading.Event()

    def task(resource: Any) -> object:
        running.append(resource)
        begun.set()
        return work(resource)

    future = runner.submit(task)
    begun.wait()
    time.sleep(0.3)
    begin = time.perf_counter()
    end(running[0])
    try:
        got = repr(future.result(30))
    except Exception as error:
        got = f"`{type(error).__name__}`"
    seconds = time.perf_counter() - begin
    assert seconds < 5, f"it went on for {seconds:.1f} s"
    return got


ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


@trial("apsw")
def try_apsw() -> Iterator[str]:
    """Another face of SQLite."""
    apsw = library("apsw")

    with owned(lambda: apsw.Connection(":memory:"), apsw.Connection.close) as runner:
        yield "yes"
        yield "rows; not a half-read cursor"
        got = ended(runner, lambda db: db.execute(ENDLESS).fetchall(), apsw.Connection.interrupt)
        yield f"`interrupt()`: {got}"
        assert runner.queue_task(lambda db: db.execute("select 1").fetchall()) == [(1,)]
        few = ENDLESS.replace("from n)", "from n where i < 3000000)")
        yield lets_go(runner, lambda db: db.execute(few).fetchall())


@trial("duckdb")
def try_duckdb() -> Iterator[str]:
    """An analytical database in the process."""
    duckdb = library("duckdb")

    heavy = "select count(*) from range(200000) a, range(200000) b where a.range * b.range % 7 = 3"
    with owned(duckdb.connect, lambda db: db.close()) as runner:
        yield "yes"
        yield "fetched rows; not what `execute` returns"
        got = ended(runner, lambda db: db.execute(heavy).fetchall(), lambda db: db.interrupt())
        yield f"`interrupt()`: {got}"
        assert runner.queue_task(lambda db: db.execute("select 1").fetchall()) == [(1,)]
        yield lets_go(runner, lambda db: db.execute(heavy.replace("200000", "15000")).fetchall())


@trial("lmdb")
def try_lmdb() -> Iterator[str]:
    """A key-value store."""
    lmdb = library("lmdb")

    path = tempfile.mkdtemp()
    first = lmdb.open(path)
    try:
        lmdb.open(path)
    except lmdb.Error as error:
        assert "already open" in str(error), error
        yield "**no**: one `Environment` a path and process, shared"
    with owned(lambda: first) as runner:

        def put(db: Any) -> None:
            with db.begin(write=True) as transaction:
                transaction.put(b"a", b"1")

        runner.queue_task(put)
        with first.begin() as reading:
            assert reading.get(b"a") == b"1"
        yield "bytes"
        yield "nothing needed"
        yield "not measured"


@trial("h5py")
def try_h5py() -> Iterator[str]:
    """Arrays in files."""
    h5py = library("h5py")

    path = f"{tempfile.mkdtemp()}/a.h5"
    with h5py.File(path, "w") as made:
        made["a"] = [1, 2, 3]
    with owned(lambda: h5py.File(path, "r"), h5py.File.close) as runner:
        yield "yes, all read or one that writes"
        assert runner.queue_task(lambda file: file["a"][:].tolist()) == [1, 2, 3]
        yield "arrays; not a `Dataset`"
        yield "nothing"
        yield "not measured"


@trial("kuzu")
def try_kuzu() -> Iterator[str]:
    """A graph database in the process."""
    kuzu = library("kuzu")

    database = kuzu.Database(f"{tempfile.mkdtemp()}/g")
    heavy = (
        "unwind range(1, 30000) as a unwind range(1, 30000) as b "
        "with a, b where a * b % 7 = 3 return count(*)"
    )

    def rows(db: Any, query: str) -> Any:
        return db.execute(query).get_all()

    def insist(db: Any) -> None:
        for _ in range(20):
            db.interrupt()
            time.sleep(0.1)

    with owned(lambda: kuzu.Connection(database), lambda db: db.close()) as runner:
        yield "a `Connection` each; **one `Database`** for all"
        yield "fetched rows"
        got = ended(runner, lambda db: rows(db, heavy), insist)
        yield f"`interrupt()`, more than once: one in four is not heeded: {got}"
        assert runner.queue_task(rows, "return 1") == [[1]]
        yield lets_go(runner, lambda db: rows(db, heavy.replace("30000", "3000")))


@trial("pyturso")
def try_turso() -> Iterator[str]:
    """SQLite, written anew."""
    turso = library("turso")

    with owned(lambda: turso.connect(":memory:"), lambda db: db.close()) as runner:
        yield "yes"
        yield "rows"
        got = ended(runner, lambda db: db.execute(ENDLESS).fetchall(), lambda db: db.interrupt())
        yield f"`interrupt()`: {got}"
        yield "not measured"


@trial("quickjs")
def try_quickjs() -> Iterator[str]:
    """JavaScript."""
    quickjs = library("quickjs")

    loop = "let t = 0; for (let i = 0; i < 2e7; i++) t += i; t"
    with owned(quickjs.Context) as runner:
        yield "yes"
        assert runner.queue_task(lambda js: js.eval("1 + 1")) == 2
        yield "yes, not while the engine is in use"

        def limited(js: Any) -> str:
            js.set_time_limit(0.2)
            try:
                js.eval("for (;;) {}")
            except quickjs.JSException as error:
                return type(error).__name__
            finally:
                js.set_time_limit(-1)
            return "nothing"

        yield f"`set_time_limit`, before: `{runner.queue_task(limited)}`"
        yield lets_go(runner, lambda js: js.eval(loop))


@trial("mini-racer")
def try_mini_racer() -> Iterator[str]:
    """JavaScript, with V8."""
    v8 = library("py_mini_racer")

    with owned(v8.MiniRacer, lambda js: js.close()) as runner:
        yield "yes"
        assert runner.queue_task(lambda js: js.eval("1 + 1")) == 2
        yield "yes"

        def limited(js: Any) -> str:
            try:
                js.eval("for (;;) {}", timeout_sec=0.2)
            except v8.JSTimeoutException as error:
                assert isinstance(error, TimeoutError)
                return type(error).__name__
            return "nothing"

        yield f"`eval(timeout_sec=)`: `{runner.queue_task(limited)}`"
        loop = "let t = 0; for (let i = 0; i < 1e9; i++) t += i; t"
        yield lets_go(runner, lambda js: js.eval(loop))


@trial("lupa")
def try_lupa() -> Iterator[str]:
    """Lua."""
    lupa = library("lupa")

    with owned(lupa.LuaRuntime) as runner:
        yield "yes"
        assert runner.queue_task(lambda lua: lua.eval("1 + 1")) == 2
        yield "yes; each touch waits for the runtime"
        yield "only at a call into Python"
        loop = "local t = 0; for i = 1, 1e8 do t = t + i end"
        yield lets_go(runner, lambda lua: lua.execute(loop))


@trial("wasmtime")
def try_wasmtime() -> Iterator[str]:
    """WebAssembly."""
    wasmtime = library("wasmtime")

    settings = wasmtime.Config()
    settings.epoch_interruption = True
    engine = wasmtime.Engine(settings)
    module = wasmtime.Module(engine, '(module (func (export "f") (loop br 0)))')

    def run(store: Any) -> None:
        store.set_epoch_deadline(1)
        wasmtime.Instance(store, module, []).exports(store)["f"](store)

    with owned(lambda: wasmtime.Store(engine), lambda store: store.close()) as runner:
        yield "a `Store` each; `Engine` and `Module` shared"
        yield "with their store, until it is closed"
        got = ended(runner, run, lambda _: engine.increment_epoch())
        yield f"`Engine.increment_epoch()`: {got}"
        yield "yes"


@trial("z3-solver")
def try_z3() -> Iterator[str]:
    """A solver of formulas."""
    z3 = library("z3")

    def hard(context: Any) -> str:
        solver = z3.Solver(ctx=context)
        x, y, n = (z3.Int(name, context) for name in "xyn")
        solver.add(x > 1, y > 1, x**3 + y**3 == n**3, n > 1)
        return str(solver.check())

    with owned(z3.Context) as runner:
        yield "a `Context` each"
        yield "with their context; not mixed"
        yield f"`Context.interrupt()`: {ended(runner, hard, z3.Context.interrupt)}"

        def easy(context: Any) -> str:
            solver = z3.Solver(ctx=context)
            solver.add(z3.Int("x", context) > 1)
            return str(solver.check())

        assert runner.queue_task(easy) == "sat"
        yield "yes"


@trial("clingo")
def try_clingo() -> Iterator[str]:
    """Answer set programming."""
    clingo = library("clingo")

    def make() -> Any:
        control = clingo.Control()
        pigeons = "1 {at(P, H) : H = 1..10} 1 :- P = 1..11. :- at(P, H), at(Q, H), P < Q."
        control.add("base", [], pigeons)
        control.ground([("base", [])])
        return control

    with owned(make) as runner:
        yield "yes"
        yield "models inside the callback only"
        got = ended(
            runner, lambda control: str(control.solve()), lambda control: control.interrupt()
        )
        yield f"`interrupt()`: {got}; a late one spoils the next solve"
        yield "yes"


@trial("python-sat")
def try_python_sat() -> Iterator[str]:
    """SAT solvers."""
    pigeons = library("pysat.examples.genhard").PHP
    solver_of = library("pysat.solvers").Glucose4

    def make() -> Any:
        return solver_of(bootstrap_with=pigeons(nof_holes=12).clauses)

    def run(solver: Any) -> Any:
        return solver.solve_limited(expect_interrupt=True)

    with owned(make, lambda solver: solver.delete()) as runner:
        yield "yes"
        yield "plain lists"
        got = ended(runner, run, lambda solver: solver.interrupt())
        yield f"`interrupt()` in `solve_limited(expect_interrupt=True)`: {got}"
    with owned(lambda: solver_of(bootstrap_with=pigeons(nof_holes=8).clauses)) as runner:
        yield f"so only; `solve()`: {lets_go(runner, lambda solver: solver.solve())}"


@trial("cvc5")
def try_cvc5() -> Iterator[str]:
    """A solver of formulas."""
    cvc5 = library("cvc5")

    def check(manager: Any) -> str:
        solver = cvc5.Solver(manager)
        solver.setOption("tlimit-per", "700")
        solver.setLogic("QF_NIA")
        integer = manager.getIntegerSort()
        x, y, z = (manager.mkConst(integer, name) for name in "xyz")
        a, b, c = (manager.mkTerm(cvc5.Kind.MULT, term, term, term) for term in (x, y, z))
        both = manager.mkTerm(cvc5.Kind.ADD, a, b)
        solver.assertFormula(manager.mkTerm(cvc5.Kind.EQUAL, both, c))
        for term in (x, y, z):
            solver.assertFormula(manager.mkTerm(cvc5.Kind.GT, term, manager.mkInteger(1)))
        return str(solver.checkSat())

    with owned(cvc5.TermManager) as runner:
        yield "a `TermManager` each"
        yield "yes, not mixed"
        yield "its own option `tlimit-per`, before"
        yield lets_go(runner, check)


@trial("highspy")
def try_highs() -> Iterator[str]:
    """Linear and integer programs."""
    highspy = library("highspy")

    def solve(model: Any) -> str:
        model.setOptionValue("threads", 1)
        return str(model.maximize(model.addVariable(lb=0, ub=1)).name)

    with owned(highspy.Highs) as runner:
        assert runner.queue_task(solve) == "kOk"
        yield "yes; one value of `threads` for all models of a worker"
        yield "yes"
        yield "its callbacks, its time limit"
        yield "not measured"


@trial("lxml")
def try_lxml() -> Iterator[str]:
    """XML and HTML."""
    etree = library("lxml.etree")

    text = b"<r>" + b"<a b='1'>text</a>" * 300_000 + b"</r>"
    with owned(etree.XMLParser) as runner:
        tree = runner.queue_task(lambda parser: etree.fromstring(b"<r><a/></r>", parser))
        assert len(tree) == 1
        yield "not needed: a parser per thread is the default"
        yield "yes"
        yield "nothing"
        yield lets_go(runner, lambda parser: etree.fromstring(text, parser))


@trial("tree-sitter")
def try_tree_sitter() -> Iterator[str]:
    """Syntax trees of programs."""
    tree_sitter, grammar = library("tree_sitter"), library("tree_sitter_python")

    language = tree_sitter.Language(grammar.language())
    text = b"def f(x):\n    return [x, {1: 2}, (3, 4)]\n" * 60_000
    with owned(lambda: tree_sitter.Parser(language)) as runner:
        tree = runner.queue_task(lambda parser: parser.parse(b"x = 1"))
        assert tree.root_node.child_count == 1
        yield "yes"
        yield "yes"
        yield "nothing"
        yield lets_go(runner, lambda parser: parser.parse(text))


def a_pdf() -> bytes:
    """Makes a file of one page."""
    fitz = library("fitz")

    document = fitz.open()
    document.new_page().insert_text((72, 72), "hello")
    return bytes(document.tobytes())


@trial("pymupdf")
def try_pymupdf() -> Iterator[str]:
    """PDF files."""
    fitz = library("fitz")

    data = a_pdf()
    with owned(lambda: fitz.open(stream=data), lambda document: document.close()) as runner:
        assert "hello" in runner.queue_task(lambda document: document[0].get_text())
        yield "yes"
        yield "text and pixels"
        yield "nothing"
        # One long call: between short ones Python switches threads anyway.
        yield lets_go(runner, lambda document: document[0].get_pixmap(dpi=1500))


@trial("pypdfium2")
def try_pdfium() -> Iterator[str]:
    """PDF files."""
    pypdfium2 = library("pypdfium2")

    data = a_pdf()
    # One worker: the library must not be used by two threads at a time.
    config = Config(
        on_create=lambda: pypdfium2.PdfDocument(data),
        on_destroy=lambda document: document.close(),
        worker_count=1,
    )
    with Runner(config) as runner:
        size = runner.queue_task(lambda document: document[0].get_size())
        assert len(size) == 2
        yield "**one worker in all**"
        yield "numbers, text, bytes"
        yield "nothing"
        yield "not measured"


@trial("onnxruntime")
def try_onnxruntime() -> Iterator[str]:
    """Models."""
    np, onnxruntime = library("numpy"), library("onnxruntime")
    get_example = library("onnxruntime.datasets").get_example

    path, zeros = get_example("sigmoid.onnx"), np.zeros((3, 4, 5), np.float32)
    with owned(lambda: onnxruntime.InferenceSession(path)) as runner:
        (made,) = runner.queue_task(lambda session: session.run(None, {"x": zeros}))
        assert float(made.mean()) == 0.5
        yield "not needed: one session may serve all; set `intra_op_num_threads`"
        yield "yes"
        yield "`RunOptions.terminate`, a fresh one per call"
        yield "not measured"


@trial("pyzmq")
def try_zmq() -> Iterator[str]:
    """Messages."""
    zmq = library("zmq")

    context = zmq.Context()
    server = context.socket(zmq.REP)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    threading.Thread(target=lambda: server.send(server.recv()), daemon=True).start()

    def connect() -> Any:
        client = context.socket(zmq.REQ)
        client.connect(f"tcp://127.0.0.1:{port}")
        return client

    def ask(client: Any) -> bytes:
        client.send(b"hello")
        return bytes(client.recv())

    with owned(connect, lambda client: client.close(linger=0)) as runner:
        assert runner.queue_task(ask) == b"hello"
        yield "a socket each; the `Context` shared"
        yield "bytes"
        yield "a time-out of the socket, `RCVTIMEO`"
        yield "yes"


def main() -> int:
    """Tries what was asked for; each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=sorted(TRIALS), metavar="LIBRARY")
    parser.add_argument("--pins", action="store_true", help="print what to install")
    parser.add_argument("--here", help="try one in this process")
    given = parser.parse_args()
    if given.pins:
        print(*(f"{name}=={version}" for name, version in PINS.items()), "tree-sitter-python")
        return 0
    if given.here:
        print(f"| {given.here} {PINS[given.here]} |", " | ".join(TRIALS[given.here]()), "|")
        return 0
    failed = 0
    for name in given.names:
        command = [sys.executable, __file__, "--here", name]
        tried = subprocess.run(command, check=False, timeout=120, capture_output=True, text=True)
        shown = [line for line in tried.stdout.splitlines() if line.startswith("| ")]
        print(*(shown or [f"{name}: FAILED\n{tried.stderr}"]), flush=True)
        failed += not shown or tried.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
