"""Who writes what other pools call it is told what it is called here."""

import dataclasses
import inspect
import pydoc
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tasker import Config, Runner
from tasker._hints import FIELD_SYNONYMS
from tasker._options import Options
from tasker.testing import InlineRunner

FIELD_NAMES = {field.name for field in dataclasses.fields(Config)}


@pytest.fixture
def runner() -> Iterator[Runner[object]]:
    with Runner(Config(on_create=object, worker_count=1)) as made:
        yield made


@pytest.mark.parametrize(("name", "meant"), sorted(FIELD_SYNONYMS.items()))
def test_a_config_says_which_field_is_meant(name: str, meant: str) -> None:
    assert name not in FIELD_NAMES
    assert meant in FIELD_NAMES
    message = f"Config() got an unexpected keyword argument '{name}'; did you mean '{meant}'?"
    make: Any
    for make in (
        lambda **given: Config(on_create=object, worker_count=1, **given),
        lambda **given: dataclasses.replace(Config(on_create=object, worker_count=1), **given),
        Config,
    ):
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            make(**{name: 3})


def test_a_config_from_a_context_manager_says_it_as_well() -> None:
    make: Any = Config.from_context_manager
    with pytest.raises(TypeError, match="did you mean 'worker_count'"):
        make(object, max_workers=1)


@pytest.mark.parametrize("kind", [Runner, InlineRunner])
def test_options_say_which_there_are(kind: Any) -> None:
    beginning = r"^options\(\) got an unexpected keyword argument "
    with kind(Config(on_create=object, worker_count=1)) as runner:
        with pytest.raises(
            TypeError,
            match=f"{beginning}'zzz'; there are priority, once, timeout, name, retry, key and "
            "serial$",
        ):
            runner.options(zzz=1)
        for strange, meant in (("time_out", "timeout"), ("retries", "retry")):
            with pytest.raises(
                TypeError, match=rf"{beginning}'{strange}'; did you mean '{meant}'\?$"
            ):
                runner.options(**{strange: 1})
    assert list(inspect.signature(kind.options).parameters)[1:] == list(Options._fields)


def test_a_slip_of_the_pen_is_told_as_well() -> None:
    make: Any = Config
    with pytest.raises(TypeError, match="did you mean 'worker_count'"):
        make(on_create=object, worker_cuont=1)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'zzz\\n'$"):
        make(on_create=object, worker_count=1, **{"zzz\n": 1})


def test_the_signature_of_a_config_is_that_of_its_fields() -> None:
    parameters = inspect.signature(Config).parameters
    assert list(parameters) == [field.name for field in dataclasses.fields(Config)]
    make: Any = Config
    message = "no positional arguments, got <class 'object'>; write Config(on_create=..., worker"
    with pytest.raises(TypeError, match=re.escape(message)):
        make(object, 2)
    with pytest.raises(TypeError, match="missing 2 required keyword-only arguments"):
        make()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"on_create": object, "worker_count": 1}, "on_create"),
        ({"worker_count": 1}, "worker_count"),
        ({"max_workers": 1}, "worker_count"),
        ({"initializer": object}, "on_create"),
    ],
)
def test_a_runner_says_that_settings_belong_into_its_config(
    given: dict[str, Any], meant: str
) -> None:
    make: Any = Runner
    name = next(iter(given))
    message = f"argument '{name}'; did you mean Runner(Config({meant}=...))?"
    with pytest.raises(TypeError, match=re.escape(message)):
        make(**given)
    with pytest.raises(TypeError, match=re.escape(message)):
        make(Config(on_create=object, worker_count=1), **given)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'zzz'$"):
        make(zzz=1)
    with pytest.raises(TypeError, match=r"^config must be a Config, got None$"):
        make()
    assert str(inspect.signature(Runner)) in {
        "(config, *, timeout=None)",
        "(config: 'Config[R]', *, timeout: 'float | None' = None) -> 'None'",
    }


def test_a_start_in_asyncio_says_so_as_well() -> None:
    make: Any = Runner.start
    config = Config(on_create=object, worker_count=1)
    for name, meant in [("on_create", "on_create"), ("on_craete", "on_create")]:
        message = (
            f"Runner.start() got an unexpected keyword argument '{name}'; "
            f"did you mean Runner.start(Config({meant}=...))?"
        )
        for args in ((), (config,)):
            with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
                make(*args, **{name: object})
    with pytest.raises(TypeError, match=r"argument 'zzz'$"):
        make(config, timeout=1, zzz=1)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'config'"):
        make()
    assert list(inspect.signature(Runner.start).parameters) == ["config", "timeout"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("shutdown", "stop"),
        ("close", "stop"),
        ("join", "stop"),
        ("aclose", "astop"),
        ("terminate", "kill"),
        ("cancel_all", "kill"),
        ("apply", "queue_task"),
        ("apply_async", "submit"),
        ("imap", "map"),
    ],
)
def test_a_runner_says_which_method_is_meant(name: str, meant: str, runner: Runner[object]) -> None:
    message = f"'Runner' object has no attribute '{name}'; did you mean '{meant}'?"
    with pytest.raises(AttributeError, match=f"^{re.escape(message)}$") as caught:
        getattr(runner, name)
    assert caught.value.name == name
    assert not hasattr(runner, name)
    assert not hasattr(Runner, name)
    assert name not in dir(runner)
    assert hasattr(runner, meant)


def test_help_says_of_what_is_not_there_what_is_meant() -> None:
    shown = pydoc.plain(pydoc.render_doc(Runner))
    assert re.search(r"\| +close\n.*There is no such method here: `stop` is what is meant\.", shown)


@pytest.mark.parametrize("verb", ["submit", "asubmit", "queue_task", "run_task"])
def test_help_says_how_a_task_is_called(verb: str) -> None:
    shown = pydoc.plain(pydoc.render_doc(getattr(Runner, verb)))
    assert "calls `fn(resource, *args, **kwargs)`" in shown


def test_a_runner_takes_its_config_alone_by_position() -> None:
    make: Any = Runner
    with pytest.raises(TypeError, match=r"its Config, got 2; .* Runner\(config, timeout=\.\.\.\)"):
        make(Config(on_create=object, worker_count=1), 5)


def test_other_attributes_are_as_they_were(runner: Runner[object]) -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'zzz'"):
        runner.zzz  # type: ignore[attr-defined] # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'stop'"), closing(runner):  # type: ignore[type-var]
        pass
    assert {"submit", "stop", "map", "config"} <= set(dir(runner))


def test_a_subclass_may_have_what_a_runner_has_not() -> None:
    class Closable(Runner[object]):
        def close(self) -> str:
            self.stop()
            return "closed"

    runner = Closable(Config(on_create=object, worker_count=1))
    runner.shutdown = runner.stop  # type: ignore[attr-defined]
    assert hasattr(runner, "shutdown")
    assert runner.close() == "closed"
