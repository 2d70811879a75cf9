"""The table of least times in docs/kernels.md is the computed one; convolutions count as in torch."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.kernels.floors import PROGRAMS, Program, convolution, table
from tests.packaging.conftest import ROOT


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_the_page_has_the_table(program: Program) -> None:
    assert "\n".join(table(program)) in (ROOT / "docs" / "kernels.md").read_text()


def test_convolutions_are_counted_as_torch_counts_them() -> None:
    x, weight = torch.randn(6, 5, 8, 8), torch.randn(5, 7, 4, 4)
    with FlopCounterMode(display=False) as counter:
        F.conv_transpose2d(x, weight, stride=2, padding=1)
    assert convolution("", 3, 2, (5, 7), (8, 16), 16).flops == counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        F.conv2d(x, weight.mT.transpose(0, 1)[..., :3, :3], padding=1)
    assert convolution("", 3, 2, (5, 7), (8, 8), 9).flops == counter.get_total_flops()
