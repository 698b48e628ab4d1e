"""What a module of an extra says where its library is missing."""

from __future__ import annotations

from importlib import import_module


def need(extra: str, module: str, library: str | None = None) -> None:
    """Imports a module that comes with an extra.

    Args:
        extra: The extra, and the module of the package that is called so.
        module: What is imported.
        library: What it is called where it is installed from, if otherwise.

    Raises:
        ModuleNotFoundError: It is not there; the text says what to install. What the library itself
            misses is named by its own name.
    """
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        is_own = f"{module}.".startswith(f"{error.name}.")
        missing = library if library and is_own else error.name
        message = f"tasker.{extra} needs {missing}: pip install 'tasker-rs[{extra}]'"
        raise ModuleNotFoundError(message, name=error.name) from error
