"""`scripts/check_layers.py` reports each kind of dependency that it must, and only those."""

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "check_layers.py"
LAYERS = """
[rust]
clock = ["src/clock.rs"]
task = ["src/task"]
queue = ["src/queue"]
crate = ["src/lib.rs"]

[python]
native = ["python/tasker/_tasker.pyi"]
errors = ["python/tasker/_errors.py"]
map = ["python/tasker/_map.py", "python/tasker/_amap.py"]
package = ["python/tasker/__init__.py"]
"""
TREE = {
    "scripts/layers.toml": LAYERS,
    "src/lib.rs": "mod clock;\nmod queue;\nmod task;\n",
    "src/clock.rs": "pub struct Tick;\n",
    "src/task/mod.rs": "pub mod token;\nuse crate::clock::Tick;\n",
    "src/task/token.rs": "use std::{fmt, thread};\n",
    "src/queue/mod.rs": "pub mod lanes;\npub use self::lanes::Lane;\n",
    "src/queue/lanes.rs": "use crate::task::{self, token::Token};\n",
    "python/tasker/__init__.py": "from tasker._map import Map\n",
    "python/tasker/_tasker.pyi": "from tasker._errors import Error\n",
    "python/tasker/_errors.py": "from tasker._tasker import once\n",
    "python/tasker/_map.py": "from tasker import _errors\n",
    "python/tasker/_amap.py": "from tasker._map import Map\n",
}
TOKEN, ERRORS = "src/task/token.rs", "python/tasker/_errors.py"


Check = Callable[[dict[str, str]], tuple[int, list[str]]]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Checks the tree above with some text added to some of its files."""
    main = runpy.run_path(str(SCRIPT))["main"]

    def planted(changes: dict[str, str]) -> tuple[int, list[str]]:
        for file in TREE | changes:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(TREE.get(file, "") + changes.get(file, ""), "utf-8")
        return main(tmp_path), capsys.readouterr().out.splitlines()

    return planted


def test_a_tree_without_faults_passes(check: Check) -> None:
    status, printed = check({})
    assert status == 0
    assert printed == ["11 files in 8 layers: no dependency goes upwards, none makes a circle"]


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        pytest.param("use crate::queue::lanes::Lane;", {2: "queue::lanes::Lane"}, id="use"),
        pytest.param("pub use crate::queue::lanes::*;", {2: "queue::lanes"}, id="glob"),
        pytest.param("use super::super::queue::Lane as L;", {2: "queue::Lane"}, id="super"),
        pytest.param(
            "use crate::{\n clock::Tick,\n queue::{\n  self,\n  lanes::{Lane, take}}};",
            {5: "queue", 6: "queue::lanes::Lane|queue::lanes::take"},
            id="nested group",
        ),
        pytest.param(
            "fn f() { crate::queue::lanes::take() }", {2: "queue::lanes::take"}, id="call"
        ),
        pytest.param(
            "type T<'a> = &'a [super::super::queue::Lane];", {2: "queue::Lane"}, id="type"
        ),
        pytest.param(
            "macro_rules! m { () => { $crate::queue::Lane } }", {2: "queue::Lane"}, id="macro"
        ),
        pytest.param(
            "use crate::queue::{self as q};\nfn f() { q::lanes::take() }",
            {2: "queue", 3: "queue::lanes::take"},
            id="alias of a module",
        ),
        pytest.param(
            "mod inner {\n    use super::super::super::queue::Lane;\n}",
            {3: "queue::Lane"},
            id="module in a file",
        ),
        pytest.param(
            "#[cfg(not(test))]\nmod inner {\n    use crate::queue::Lane;\n}",
            {4: "queue::Lane"},
            id="module that is no test",
        ),
        pytest.param(
            "const QUOTE: char = '\"';\nuse crate::queue::Lane; // \"",
            {3: "queue::Lane"},
            id="behind a quote",
        ),
    ],
)
def test_a_path_upwards_in_rust_is_reported(
    check: Check, text: str, reported: dict[int, str]
) -> None:
    status, printed = check({TOKEN: text + "\n"})
    assert status == 1
    assert printed == [
        f"{TOKEN}:{line}: task -> queue (crate::{path})"
        for line, paths in reported.items()
        for path in paths.split("|")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "// crate::queue::Lane\n/* crate::queue::Lane /* nested */ crate::queue::Lane */",
        'const TEXT: &str = "crate::queue::Lane \\" crate::queue::Lane";',
        'const TEXT: &str = r#"crate::queue::Lane " crate::queue::Lane"#;',
        "#[cfg(test)]\nmod tests {\n    use crate::queue::Lane;\n    mod more {}\n}",
        "#[cfg(all(test, not(loom)))]\n#[expect(x)]\nmod tests {\n    use crate::queue::Lane;\n}",
        "pub(in crate::task) fn f(queue: super::super::clock::Tick) {}",
        "mod queue;\nfn f() -> impl Fn() + use<> { other::queue::lanes::take }",
    ],
)
def test_what_is_no_dependency_passes(check: Check, text: str) -> None:
    assert check({TOKEN: text + "\n"})[0] == 0


def test_files_of_test_modules_pass(check: Check) -> None:
    changes = {
        "src/task/mod.rs": "#[cfg(all(test, loom))]\nmod tests;\n",
        "src/task/tests.rs": "mod more;\nuse crate::queue::Lane;\n",
        "src/task/tests/more.rs": "use crate::queue::Lane;\n" * 600,
    }
    assert check(changes)[0] == 0


def test_a_circle_inside_a_layer_is_reported(check: Check) -> None:
    status, printed = check({"src/task/mod.rs": "fn f(of: token::Token) {}\n"})
    assert status == 0
    status, printed = check(
        {"src/task/mod.rs": "fn f(of: token::Token) {}\n", TOKEN: "use super::Task;\n"},
    )
    assert status == 1
    assert printed == [
        "src/task/mod.rs:3: task -> task (crate::task::token::Token), in a circle",
        "src/task/token.rs:2: task -> task (crate::task::Task), in a circle",
    ]


def test_a_re_export_depends_on_what_it_hands_on(check: Check) -> None:
    status, printed = check({"src/queue/lanes.rs": "use super::Lane as Mine;\n"})
    assert status == 1
    assert printed == [
        "src/queue/lanes.rs:2: queue -> queue (crate::queue::Lane), in a circle",
        "src/queue/mod.rs:2: queue -> queue (crate::queue::lanes::Lane), in a circle",
    ]


@pytest.mark.parametrize(
    ("text", "line", "layer", "path"),
    [
        ("import tasker._map\n", 2, "map", "tasker._map"),
        ("from tasker import _map\n", 2, "map", "tasker._map"),
        ("from tasker import Map\n", 2, "package", "tasker.Map"),
        ("from ._map import Map\n", 2, "map", "tasker._map.Map"),
        ("from . import _map as m\n", 2, "map", "tasker._map"),
        ("if TYPE_CHECKING:\n    from tasker._map import Map\n", 3, "map", "tasker._map.Map"),
        ("def f():\n    from tasker._map import Map\n", 3, "map", "tasker._map.Map"),
    ],
)
def test_an_import_upwards_in_python_is_reported(
    check: Check, text: str, line: int, layer: str, path: str
) -> None:
    status, printed = check({ERRORS: text})
    assert status == 1
    assert printed == [f"{ERRORS}:{line}: errors -> {layer} ({path})"]


def test_a_circle_of_python_modules_is_reported(check: Check) -> None:
    status, printed = check({"python/tasker/_map.py": "import tasker._amap\n"})
    assert status == 1
    assert printed == [
        "python/tasker/_amap.py:1: map -> map (tasker._map.Map), in a circle",
        "python/tasker/_map.py:2: map -> map (tasker._amap), in a circle",
    ]


@pytest.mark.parametrize(
    ("file", "code", "none"),
    [
        (TOKEN, "const A: &str = \"\n//\";\n", "\n// words\n/* more\nwords */\n"),
        (ERRORS, "A = 1\nB = 2\n", '\n# words\n"""Words\n\nand more."""\n'),
    ],
)  # fmt: skip
def test_a_file_with_too_much_code_is_reported(
    check: Check, file: str, code: str, none: str
) -> None:
    assert check({file: code * 249 + none * 200})[0] == 0
    status, printed = check({file: code * 250 + none * 200})
    assert status == 1
    assert printed == [f"{file}:1: 501 lines of code, 500 at most"]


def test_a_file_in_no_layer_is_reported(check: Check) -> None:
    status, printed = check({"src/new.rs": "", "python/tasker/_new.py": ""})
    assert status == 1
    assert printed == [
        "python/tasker/_new.py:1: in no layer of scripts/layers.toml",
        "src/new.rs:1: in no layer of scripts/layers.toml",
    ]


def test_a_place_without_files_is_reported(check: Check) -> None:
    status, printed = check({"scripts/layers.toml": 'other = ["src/gone"]\n'})
    assert status == 1
    assert printed == ["scripts/layers.toml:1: src/gone: there is no such file"]


KNOT = """
[[knot]]
reason = "Each calls the other."
files = ["src/queue/mod.rs", "src/task/token.rs"]
"""


def test_a_knot_is_let_through(check: Check) -> None:
    up, down = "use crate::queue::Lane;\n", "use crate::task::token::Token;\n"
    changes = {"scripts/layers.toml": KNOT, TOKEN: up, "src/queue/mod.rs": down}
    # Through `mod.rs`, which hands it on, `lanes.rs` belongs to the knot and is not named there.
    status, printed = check(changes)
    assert status == 1
    assert printed == [
        "src/queue/lanes.rs:1: queue -> task (crate::task::token::Token), in a circle",
        "src/queue/mod.rs:2: queue -> queue (crate::queue::lanes::Lane), in a circle",
    ]
    named = KNOT.replace("files = [", 'files = ["src/queue/lanes.rs", ')
    assert check(changes | {"scripts/layers.toml": named})[0] == 0


def test_a_knot_that_is_none_is_reported(check: Check) -> None:
    status, printed = check({"scripts/layers.toml": KNOT})
    assert status == 1
    assert printed == [
        "scripts/layers.toml:1: src/queue/mod.rs: is in a knot and needs none",
        "scripts/layers.toml:1: src/task/token.rs: is in a knot and needs none",
    ]


def test_more_than_a_few_files_in_knots_are_reported(check: Check) -> None:
    files = [f"src/task/f{number}.rs" for number in range(7)]
    uses = {file: f"use super::f{(number + 1) % 7}::F;\n" for number, file in enumerate(files)}
    knot = f'[[knot]]\nreason = "A ring."\nfiles = {files}\n'
    status, printed = check(uses | {"scripts/layers.toml": knot})
    assert status == 1
    assert printed == ["scripts/layers.toml:1: 7 files in knots, 6 at most"]


def test_a_forbidden_import_in_this_repository_is_reported(tmp_path: Path) -> None:
    for folder in ("src", "python", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    uses = "use crate::engine::Engine;\n", "from tasker import Runner\n"
    for file, use in zip(("src/sync.rs", "python/tasker/_texts.py"), uses, strict=True):
        path = tmp_path / file
        path.write_text(use + path.read_text("utf-8"), "utf-8")
    run = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    printed = run.stdout.splitlines()
    assert run.returncode == 1
    assert "src/sync.rs:1: sync -> api (crate::engine::Engine)" in printed
    assert "python/tasker/_texts.py:1: texts -> package (tasker.Runner)" in printed
