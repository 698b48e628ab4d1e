"""Compares tasker with `ThreadPoolExecutor` and with a pool written by hand, in one run.

Run it in the root of a clone, on a quiet machine, with a release build installed:

    python -m benches.python.compare                        # everything, in the terminal
    python -m benches.python.compare --only "round trip"    # one workload
    python -m benches.python.compare --write-docs           # everything, into docs/performance.md
"""

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path

from benches.python import measure, report, setting
from benches.python.comparison import Row, all_workloads, compare
from tasker import _tasker


def main() -> None:
    """Measures what the command line asks for."""
    options = parse_arguments()
    if _tasker._debug_build:
        sys.exit(
            "this is an unoptimised build of tasker, whose figures mean nothing: use --release"
        )
    where = setting.describe()
    where["Method"] = (
        f"median of {options.rounds} rounds (lowest to highest), of 15 in *Lateness* and *Import*; "
        "in every round the contestants take turns, each time in another order"
    )
    if options.pin:
        where["Pinned"] = "everything on one core"
    print(report.setting_list(where), flush=True)
    rows: list[Row] = []
    begin = setting.ProcessorTime.so_far()
    with measure.on_one_core() if options.pin else nullcontext():
        for workload in all_workloads(options.scale, options.pin):
            if options.only and workload.name.lower() not in options.only:
                continue
            measured = list(compare(workload, options.rounds))
            print("", report.section(workload, measured), sep="\n", flush=True)
            rows += measured
    end = setting.ProcessorTime.so_far()
    if begin and end:
        share = end.share_of_others_since(begin)
        where["Others"] = f"{share:.0%} of all processor time went to other processes"
        print(f"\n{where['Others']}")
    if options.json:
        options.json.write_text(json.dumps(report.as_json(where, rows), indent=2), "utf-8")
    if options.write_docs:
        report.write_page(where, rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [workload.name.lower() for workload in all_workloads(scale=1, pinned=False)]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="WORKLOAD", help=", ".join(names)
    )
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--pin", action="store_true", help="keep everything on one core (Linux)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures")
    parser.add_argument(
        "--write-docs", action="store_true", help=f"put the tables into {report.PAGE.name}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of few tasks, to see that it runs"
    )
    options = parser.parse_args()
    options.scale = 1.0
    if options.quick:
        options.rounds, options.scale = 1, 0.01
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if options.pin and sys.platform != "linux":
        parser.error("--pin works on Linux only")
    if options.write_docs and (options.quick or options.pin or options.only):
        parser.error("--write-docs wants the whole run: no --quick, --pin or --only")
    return options


if __name__ == "__main__":
    main()
