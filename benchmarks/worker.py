"""A process that does one side of one figure and prints what it took as JSON."""

import json
import sys
from dataclasses import asdict

from benchmarks.figures import find_figure
from benchmarks.measure import Setting, measure


def main() -> None:
    """Prepare, work, print."""
    name, side, setting = sys.argv[1:]
    work = find_figure(name).sides[side](Setting.from_json(setting))
    print(json.dumps(asdict(measure(work))))


if __name__ == "__main__":
    main()
