"""Run the benchmarks: `make bench`, or `python -m benchmarks.run [names, see BENCHMARKS] [--quick] [--save]`."""

from __future__ import annotations

import argparse
import json

from benchmarks import cliffs, overhead, startup, tape, unshared
from benchmarks.harness import RESULTS, headline, machine

BENCHMARKS = {
    "overhead": overhead.measure,
    "startup": startup.measure,
    "tape": tape.measure,
    "unshared": unshared.measure,
    "cliffs": cliffs.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="benchmark", help=f"any of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that all works")
    parser.add_argument("--save", action="store_true", help=f"write Markdown and JSON into {RESULTS.name}/ as well")
    args = parser.parse_args()
    if unknown := set(args.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")

    facts = machine()
    text = headline(facts)
    print(text)
    tables = {}
    for name in args.names or BENCHMARKS:
        tables[name] = BENCHMARKS[name](args.quick)
        print(tables[name].markdown())

    if args.save:
        RESULTS.mkdir(exist_ok=True)
        stem = RESULTS / f"{facts['date'][:19].replace(':', '')}-{'-'.join(tables)}"
        stem.with_suffix(".md").write_text("\n".join([text, *(table.markdown() for table in tables.values())]))
        values = {name: {"columns": table.columns, "rows": table.rows} for name, table in tables.items()}
        stem.with_suffix(".json").write_text(json.dumps({"machine": facts, "tables": values}, indent=1) + "\n")
        print(f"Written to {stem}.md and .json")


if __name__ == "__main__":
    main()
