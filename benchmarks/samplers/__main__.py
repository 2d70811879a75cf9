"""`python -m benchmarks.samplers COMMAND`: measure samplers, and draw what was measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.samplers import calibration, distinct, efficiency, figure, online, warm_start

HERE = Path(__file__).parent
IMAGES = HERE.parents[1] / "docs" / "images"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.samplers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("efficiency", help="effective draws per log-volume, and a reference")
    command.add_argument("--case", action="append", default=[], choices=[c.name for c in efficiency.CASES])
    command.add_argument("--out", type=Path, default=HERE / "efficiency.csv")
    command.add_argument("--agreement", type=Path, default=HERE / "agreement.csv")
    command = commands.add_parser("calibration", help="are p-values uniform?")
    command.add_argument(
        "--sampler", action="append", default=[], choices=[s[0] for s in calibration.STUDIES]
    )
    command.add_argument("--out", type=Path, default=HERE / "calibration.csv")
    command.add_argument("--figure", type=Path, default=IMAGES / "samplers-calibration.png")
    command = commands.add_parser("figure", help="the picture of efficiency.csv")
    command.add_argument("--out", type=Path, default=IMAGES / "samplers-efficiency.png")
    commands.add_parser("distinct", help="speed of draws without replacement, beside NumPy")
    commands.add_parser("online", help="price of accepting latents by the volumes seen so far")
    command = commands.add_parser("warm_start", help="Krylov from the parent's singular vectors")
    command.add_argument("--generator", action="append", default=[], choices=warm_start.GENERATORS)
    command.add_argument("--out", type=Path, default=HERE / "warm_start.csv")
    options = parser.parse_args()
    if options.command == "efficiency":
        efficiency.main(options.case, options.out, options.agreement)
    elif options.command == "calibration":
        calibration.main(options.sampler, options.out, options.figure)
    elif options.command == "distinct":
        distinct.main()
    elif options.command == "online":
        online.main()
    elif options.command == "warm_start":
        warm_start.main(options.generator, options.out)
    else:
        figure.main(HERE / "efficiency.csv", options.out)


if __name__ == "__main__":
    main()
