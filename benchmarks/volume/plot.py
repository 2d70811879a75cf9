"""Accuracy against cost: what each route's products buy, model by model."""

from pathlib import Path

import polarity_sampling as ps
import torch
from polarity_sampling.volume import dense, svd
from polarity_sampling.volume.calibration import calibration_grams
from polarity_sampling.volume.fixed_krylov import fixed_krylov
from polarity_sampling.volume.krylov import block_krylov
from polarity_sampling.volume.range_finder import leading_directions

from benchmarks.volume.models import load, some_directions

LATENTS = 24
BASIS = 8
TOLERANCES = (3.0, 1.0, 0.3, 0.1, 1e-2, 1e-3, 1e-4)

Points = list[tuple[float, float]]


def curves(generator: ps.Generator) -> dict[str, Points]:
    """(products, nats) of every route, from the Gram matrices of some latents in float64.

    The nats are medians of the true error; for fixed routes, whose offset is common to all latents, half the
    range over latents.
    """
    top_k = some_directions(generator)
    grams = calibration_grams(generator, BASIS + LATENTS, "1GiB")
    shared = leading_directions(grams[:BASIS].mean(0), generator.latent_dim)
    values, vectors = dense.eigenvectors(grams[BASIS:])
    factors = values.clamp(min=0.0).sqrt()[:, :, None] * vectors.mT
    truth = 0.5 * values[:, :top_k].clamp(min=1e-300).log().sum(1)

    def error(sigma: torch.Tensor) -> float:
        return float((sigma.clamp(min=1e-150).log().sum(1) - truth).abs().median())

    def fixed(width: int, steps: int) -> tuple[float, float]:
        found = fixed_krylov(factors, shared[:, :width], steps)
        off = 0.5 * found.eigenvalues[:, :top_k].clamp(min=1e-300).log().sum(1) - truth
        return float(found.products), float(off.max() - off.min()) / 2.0

    size = generator.latent_dim
    out: dict[str, Points] = {"block Krylov: error": [], "block Krylov: certified": []}
    for tol in TOLERANCES:
        found = block_krylov(factors, top_k, tol=tol, max_products=4 * size)
        products = float(found.products.double().mean())
        out["block Krylov: error"].append((products, error(found.values)))
        out["block Krylov: certified"].append((products, float(found.error.median())))
    out["range finder, 0 to 3 power steps: error"] = [
        (float(found.products.double().mean()), error(found.values))
        for steps in range(4)
        for found in [svd(factors, top_k, method="range_finder", power_steps=steps)]
    ]
    step = max(1, size // 20)
    out["shared directions: half range"] = [fixed(m, 1) for m in range(top_k, size, step)]
    width = max(2, top_k // 2)
    out["Krylov of fixed length: half range"] = [
        fixed(width, s) for s in range(2, 14) if top_k <= width * s < size and (2 * s - 1) * width < 2 * size
    ]
    return out


def draw(names: list[str], path: Path) -> None:
    import matplotlib.pyplot as plt

    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.2 * rows), squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        generator = load(name)
        for label, points in curves(generator).items():
            x, y = zip(*sorted(points), strict=True) if points else ((), ())
            style = "--" if "certified" in label else "-"
            y = [max(nats, 1e-10) for nats in y]
            axis.plot(x, y, style, marker="o", markersize=2.5, linewidth=1.2, label=label)
        axis.axvline(generator.latent_dim, color="0.6", linewidth=1, label="exact")
        title = f"{name}\nK = {generator.latent_dim}, top {some_directions(generator)}"
        axis.set_title(title, fontsize=9)
        axis.set(yscale="log", ylim=(1e-8, 10))
        axis.set_xlim(0, 2.0 * generator.latent_dim)
        axis.grid(alpha=0.3)
        print(name, flush=True)
    for axis in list(axes.flat)[len(names) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("nats")
    for axis in axes[-1]:
        axis.set_xlabel("products per latent")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=110)
