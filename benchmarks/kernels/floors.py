"""``python -m benchmarks.kernels.floors``: the least time that tangent programs could take on an H100.

Computed, not measured: a stage takes as long as its bytes at the memory's rate, or as its floating-point
operations at the rate of the units that do them, whichever is longer. What a stage reads or writes moves
once. Convolutions are the library's, in float32 without tensor cores or in tf32.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

# NVIDIA H100 SXM5, by its data sheet: bytes, and floating-point operations without sparsity, each second.
MEMORY = 3.35e12
RATES = {"fp32": 67e12, "tf32": 494e12}
ITEM = 4  # bytes of a float32


class Stage(NamedTuple):
    name: str
    kernel: str
    numbers: int  # read and written
    flops: int
    is_product: bool = False  # whether tensor cores can do it

    def seconds(self, precision: str) -> float:
        rate = RATES[precision if self.is_product else "fp32"]
        return max(ITEM * self.numbers / MEMORY, self.flops / rate)


class Program(NamedTuple):
    name: str
    probes: int
    batch: int
    stages: list[Stage]


def convolution(
    name: str, probes: int, batch: int, channels: tuple[int, int], sizes: tuple[int, int], taps: int
) -> Stage:
    """``taps`` meet each pixel of the smaller image: of the input, where a stride upsamples."""
    (inputs, outputs), (before, after) = channels, sizes
    moved = probes * batch * (inputs * before**2 + outputs * after**2) + inputs * outputs * taps
    return Stage(name, "library", moved, 2 * probes * batch * inputs * outputs * taps * min(sizes) ** 2, True)


def scaling(name: str, probes: int, batch: int, size: int) -> Stage:
    return Stage(name, "scale_tangents", (2 * probes + 1) * batch * size, probes * batch * size)


def modulation(name: str, probes: int, batch: int, size: int) -> Stage:
    return Stage(name, "modulate_tangents", (2 * probes + 1) * batch * size, 3 * probes * batch * size)


def gram(probes: int, batch: int, size: int) -> Stage:
    """Its products are float64, which an H100 forms at half the rate of float32."""
    flops = batch * size * probes * (probes + 1)
    return Stage("Gram matrix", "gram", batch * (size * probes + 2 * probes**2), 2 * flops)


def dcgan(probes: int = 100, batch: int = 64) -> Iterator[Stage]:
    """64 px: 100 latents, 512 to 64 channels, transposed convolutions of 4 x 4 with stride 2."""
    channels = (512, 256, 128, 64, 3)
    first = channels[0] * 16
    product = probes * (probes + first) + probes * first
    yield Stage("first layer, shared", "library", product, 2 * probes * probes * first, True)
    yield Stage(
        "ReLU, 4 px", "scale_tangents", probes * first + (probes + 1) * batch * first, probes * batch * first
    )
    for i, (before, after) in enumerate(pairwise(channels)):
        size = 8 << i
        yield convolution(f"convolution to {size} px", probes, batch, (before, after), (size // 2, size), 16)
        yield scaling(f"{'tanh' if after == 3 else 'ReLU'}, {size} px", probes, batch, after * size**2)
    yield gram(probes, batch, 3 * 64**2)


def stylegan2(probes: int = 512, batch: int = 4) -> Iterator[Stage]:
    """64 px: mapping of eight layers, 512 channels throughout, modulation by scaled activations."""
    width = 512
    for i in range(8):
        moved = 2 * probes * batch * width + width**2 + batch * width
        yield Stage(f"mapping {i + 1}", "linear_tangents", moved, 2 * probes * batch * width**2, True)
    for size in (4, 8, 16, 32, 64):
        for up in (True, False) if size > 4 else (False,):
            before = size // 2 if up else size
            what = f"{size} px{', up' if up else ''}"
            yield modulation(f"modulation, {what}", probes, batch, width * before**2)
            yield convolution(f"convolution, {what}", probes, batch, (width, width), (before, size), 9)
            if up:
                image = probes * batch * width * size**2
                yield Stage(f"filter, {what}", "upfirdn2d", 2 * image, 2 * 16 * image)
            yield modulation(f"demodulation, {what}", probes, batch, width * size**2)
            yield scaling(f"leaky ReLU, {what}", probes, batch, width * size**2)
        yield modulation(f"modulation to RGB, {size} px", probes, batch, width * size**2)
        yield convolution(f"to RGB, {size} px", probes, batch, (width, 3), (size, size), 1)
    yield gram(probes, batch, 3 * 64**2)


PROGRAMS = (
    Program("DCGAN, 64 px", 100, 64, list(dcgan(100, 64))),
    Program("StyleGAN2, 64 px", 512, 4, list(stylegan2(512, 4))),
)


def table(program: Program) -> list[str]:
    """Lines of Markdown: stages of one kernel together."""
    lines = ["| Kernel | Stages | GB | GFLOP | ms | ms in tf32 |", "|---|---|---|---|---|---|"]

    def line(name: str, stages: list[Stage]) -> str:
        gigabytes = sum(ITEM * stage.numbers for stage in stages) / 1e9
        gigaflops = sum(stage.flops for stage in stages) / 1e9
        times = [1e3 * sum(stage.seconds(precision) for stage in stages) for precision in RATES]
        figures = f"{len(stages)} | {gigabytes:.2f} | {gigaflops:.0f} | {times[0]:.2f} | {times[1]:.2f}"
        return f"| {name} | {figures} |"

    kernels = dict.fromkeys(stage.kernel for stage in program.stages)
    lines += [
        line(f"`{k}`" if k != "library" else k, [s for s in program.stages if s.kernel == k]) for k in kernels
    ]
    return [*lines, line("all", program.stages)]


def main() -> None:
    for program in PROGRAMS:
        print(f"**{program.name}**, {program.probes} probes, {program.batch} samples:\n")
        print("\n".join(table(program)), end="\n\n")


if __name__ == "__main__":
    main()
