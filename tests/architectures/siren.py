"""A SIREN: the colour of a pixel from its position and the latent, through sines (Sitzmann et al. 2020,
arXiv 2006.09661)."""

import polarity_sampling as ps
import torch
from torch import Tensor, nn

from tests.architectures import weights


class Siren(nn.Module):
    def __init__(self, dim: int, width: int, layers: int, size: int, frequency: float = 10.0) -> None:
        super().__init__()
        axis = torch.linspace(-1, 1, size)
        self.register_buffer("positions", torch.cartesian_prod(axis, axis))  # [size², 2]
        self.first = nn.Linear(2 + dim, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.out = nn.Linear(width, 3)
        self.size, self.frequency = size, frequency

    def forward(self, z: Tensor) -> Tensor:
        batch, pixels = z.shape[0], self.size**2
        positions = self.positions.expand(batch, -1, -1)
        x = torch.cat([self.frequency * positions, z[:, None].expand(-1, pixels, -1)], -1)
        x = torch.sin(self.first(x))
        for layer in self.layers:
            x = torch.sin(3.0 * layer(x))
        return self.out(x).mT.reshape(batch, 3, self.size, self.size)


def generator(dim: int = 8, width: int = 24, layers: int = 2, size: int = 8) -> ps.Generator:
    module = Siren(dim, width, layers, size)
    weights.draw(module, seed=7)
    return ps.Generator(module.eval(), dim, name="SIREN")
