"""`python -m benchmarks.samplers efficiency` and `... calibration`: measure, and write what was measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.samplers import efficiency

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.samplers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("efficiency", help="effective draws per log-volume")
    command.add_argument("--case", action="append", default=[], choices=[c.name for c in efficiency.CASES])
    command.add_argument("--out", type=Path, default=HERE / "efficiency.csv")
    options = parser.parse_args()
    efficiency.main(options.case, options.out)


if __name__ == "__main__":
    main()
