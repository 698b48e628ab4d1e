"""What can be done with the package from a shell: `python -m tasker`."""

from __future__ import annotations

import argparse
import sys

from tasker import __version__


def main(arguments: list[str] | None = None) -> int:
    """Does what the command line asks for.

    Args:
        arguments: What follows `python -m tasker`. `None`: that of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tasker", description=__doc__)
    parser.add_argument("--version", action="version", version=f"tasker {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="crawl a server that breaks, three ways, and compare what was lost",
        description="Crawls a server that breaks, three ways, and compares. It takes about 15 "
        "seconds, and uses the loopback interface and a temporary folder only.",
    )
    demo.add_argument("--pages", type=int, default=2000, metavar="N", help="pages to fetch")
    demo.add_argument("--seed", type=int, metavar="N", help="makes the order repeatable")
    given = parser.parse_args(arguments)
    # Nothing of the demo is loaded before it is asked for.
    from tasker._demo.run import run  # noqa: PLC0415

    return run(pages=given.pages, seed=given.seed)


if __name__ == "__main__":
    sys.exit(main())
