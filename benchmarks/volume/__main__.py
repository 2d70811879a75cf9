"""``python -m benchmarks.volume study | speed | lanczos | plot``: are errors true, and what do they cost?"""

import argparse
import tempfile
from pathlib import Path

import polarity_sampling as ps
import torch

from benchmarks import devices
from benchmarks.volume import peers, plot, speed, study
from benchmarks.volume.models import NAMES, ONE_STEP, RESULTS, SEED, STYLEGAN2, latents, load

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.volume", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("study", "true errors against reported ones; resumes; writes results/study.csv"),
        (
            "speed",
            "time per latent beside other ways; writes results/speed.csv, or one for each GPU beside it",
        ),
        ("lanczos", "stochastic Lanczos quadrature against the exact full volume"),
        ("plot", "accuracy against cost, into docs/images/volume-accuracy.png"),
    ):
        command = commands.add_parser(name, help=text)
        names = [*NAMES, ONE_STEP, STYLEGAN2] if name == "speed" else NAMES
        command.add_argument("--models", nargs="*", default=names, metavar="NAME", help="; ".join(names))
        if name == "study":
            command.add_argument("--latents", type=int, default=2000, help="of each model")
            command.add_argument("--planted", type=int, default=5, help="repeats of each planted spectrum")
            command.add_argument("--seed", type=int, default=SEED, help="of latents and planted operators")
            command.add_argument("--folder", type=Path, help="what is done already (one for each seed)")
        if name == "speed":
            devices.add_arguments(command)
    arguments = parser.parse_args()
    if arguments.command == "study":
        seed = arguments.seed
        folder = arguments.folder or Path(tempfile.gettempdir()) / f"polarity-volume-study-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        study.study_planted(arguments.planted, folder, seed)
        for name in arguments.models:
            study.study_model(name, arguments.latents, folder, seed)
        table = study.summarise(folder)
        for row in table:
            print("  ".join(str(value) for value in row.values()))
    elif arguments.command == "speed":
        device, clock = arguments.device, arguments.clock
        devices.prepare(parser, device, clock)
        for case in speed.cases(device):
            if case.model in arguments.models:
                rows = speed.measure(case, clock, device)
                speed.show(rows)
                speed.keep(rows, RESULTS / devices.file_name("speed", device))
    elif arguments.command == "lanczos":
        for name in arguments.models:
            compare_lanczos(load(name))
    else:
        plot.draw(arguments.models, ROOT / "docs" / "images" / "volume-accuracy.png")


def compare_lanczos(generator: ps.Generator) -> None:
    """The full volume from as many products as the exact route takes, and four times as many."""
    z, label = latents(generator, 0, 8)
    exact = ps.log_volume(generator, z, label, top_k=None, method="float64").value
    for factor in (1, 4):
        steps = min(20, generator.latent_dim)
        probes = max(1, factor * generator.latent_dim // (2 * steps))
        off = (peers.stochastic_lanczos(generator, probes, steps).run(z, label) - exact).abs()
        print(
            f"{generator.name}: {2 * probes * steps} products, median error {float(off.median()):.1e} nats, "
            f"exact takes {generator.latent_dim}"
        )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
