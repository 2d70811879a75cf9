"""Is the true error inside the reported one? Thousands of latents, every route, float64 truths.

Works off chunks of latents and keeps each in a file, so that it can be interrupted and gone on with; the
summary is made of whatever is there.
"""

import csv
import itertools
from pathlib import Path

import polarity_sampling as ps
import torch
from polarity_sampling.volume import SingularValues, svd
from polarity_sampling.volume.qr import triangular_factor

from benchmarks.volume.models import RESULTS, latents, load, some_directions
from tests.volume.planted import SPECTRA, planted

CHUNK = 50
ROUTES = {
    "exact, all": {"method": "exact", "top_k": None},
    "exact": {"method": "exact"},
    "auto": {"method": "auto"},
    "krylov": {"method": "krylov"},
    "range_finder": {"method": "range_finder"},
    "relative": {"tol_mode": "relative", "tol": 0.05},
}
PLANTED = ("gram", "qr", "preconditioned", "krylov", "range_finder")
SIZES = (64, 512)
CONDITIONS = (1.0, 1e2, 1e4, 1e8, 1e12)
COLUMNS = (
    "model", "route", "top_k", "latents", "above floor", "inside", "inside %", "median error",
    "largest error", "median reported", "median reported / true", "converged %", "mean products",
)  # fmt: skip


def truth(generator: ps.Generator, start: int, folder: Path, seed: int) -> torch.Tensor:
    """Singular values [CHUNK, n] of the float64 Jacobian; kept."""
    path = folder / f"{generator.name}.truth.{start}.pt"
    if not path.exists():
        z, label = latents(generator, start, CHUNK, seed)
        double = generator.in_dtype(torch.float64)
        parts = []
        for i in range(0, CHUNK, 10):
            labels = None if label is None else label[i : i + 10]
            columns = ps.jacobian(double, z[i : i + 10].double(), labels).to_dense()
            parts.append(torch.linalg.svdvals(triangular_factor(columns)))
        torch.save(torch.cat(parts), path)
    kept: torch.Tensor = torch.load(path)
    return kept


def study_model(name: str, count: int, folder: Path, seed: int) -> None:
    generator = load(name)
    for start in range(0, count, CHUNK):
        sigma = truth(generator, start, folder, seed)
        for route, arguments in ROUTES.items():
            path = folder / f"{name}.{route}.{start}.pt"
            if path.exists():
                continue
            z, label = latents(generator, start, CHUNK, seed)
            lv = ps.log_volume(generator, z, label, **{"top_k": some_directions(generator)} | arguments)  # type: ignore[arg-type]
            clipped = torch.maximum(sigma[:, : lv.top_k], lv.floor[:, None])
            rows = [lv.value, lv.error, clipped.log().sum(1), lv.converged.double(), lv.spent.double()]
            torch.save({"top_k": lv.top_k, "rows": torch.stack(rows, 1)}, path)
        print(f"{name}: {start + CHUNK} of {count}", flush=True)


def study_planted(repeats: int, folder: Path, seed: int) -> None:
    """Every spectrum and condition; four operators each time, with fresh singular vectors."""
    for size, spectrum, condition in itertools.product(SIZES, SPECTRA, CONDITIONS):
        sigma = SPECTRA[spectrum](size, condition)
        top_k = size // 16
        for repeat in range(repeats):
            missing = [
                (method, path)
                for method in PLANTED
                if not (
                    path := folder / f"planted {size}.{method}.{spectrum}.{condition:g}.{repeat}.pt"
                ).exists()
            ]
            if not missing:
                continue
            matrix = planted(sigma, 4, size + 8, 1000 * (seed + repeat) + size)
            for method, path in missing:
                found: SingularValues = svd(matrix, top_k, method=method, seed=seed + repeat)  # type: ignore[arg-type]
                value = found.values.log().sum(1)
                rows = [
                    value,
                    found.error,
                    sigma[:top_k].log().sum().expand_as(value),
                    (found.error <= 1e-2).double(),
                    found.products.double(),
                ]
                torch.save({"top_k": top_k, "rows": torch.stack(rows, 1)}, path)
        print(f"planted {size}, {spectrum}, condition {condition:g}", flush=True)


def _summary(model: str, route: str, paths: list[Path]) -> dict[str, object]:
    kept = [torch.load(path) for path in sorted(paths)]
    value, error, true, converged, products = torch.cat([k["rows"] for k in kept]).T
    able = torch.isfinite(error) & torch.isfinite(true)
    off, error = (value - true).abs()[able], error[able]
    # A float64 truth of sixteen digits is itself off by some 1e-12 for a sum of logarithms.
    inside = int((off <= error + 1e-12).sum())
    figures = ["", "", "", "", ""]
    if off.numel():
        # Where the route is as exact as the truth a ratio says nothing.
        ratio = (error / off)[off > 1e-12]
        numbers = (off.median(), off.max(), error.median())
        figures = [f"{100 * inside / off.numel():.2f}", *(f"{float(x):.1e}" for x in numbers)]
        figures.append(f"{float(ratio.median()):.1f}" if 2 * ratio.numel() > off.numel() else "")
    row = (model, route, kept[0]["top_k"], value.numel(), off.numel(), inside, *figures)
    spent = (f"{100 * float(converged.mean()):.1f}", f"{float(products.mean()):.0f}")
    return dict(zip(COLUMNS, row + spent, strict=True))


def summarise(folder: Path) -> list[dict[str, object]]:
    """One row for every model and route found in the folder; written to results/study.csv."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for path in folder.glob("*.pt"):
        model, route = path.name.split(".")[:2]
        if route != "truth":
            groups.setdefault((model, route), []).append(path)
    table = [_summary(model, route, paths) for (model, route), paths in sorted(groups.items())]
    with (RESULTS / "study.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(table)
    return table
