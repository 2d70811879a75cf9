"""Tangent programs recorded as CUDA graphs: one launch for all stages of a chunk of probes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from polarity_sampling.jacobian.program import Program
from polarity_sampling.jacobian.stage import Residual

# Runs before recording, in which libraries choose algorithms and allocate workspaces.
_WARM_UP = 3


class GraphedProgram:
    """A program for one shape of probes and one batch of latents, replayed from a recording."""

    def __init__(self, program: Program, residuals: Sequence[Residual], probes: Tensor) -> None:
        self._given = probes.clone()
        # The recording reads them at their addresses.
        self._residuals = residuals
        stream = torch.cuda.Stream(probes.device)
        stream.wait_stream(torch.cuda.current_stream(probes.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                program.run(residuals, self._given)
        torch.cuda.current_stream(probes.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = program.run(residuals, self._given)

    def run(self, probes: Tensor) -> Tensor:
        """Result for other probes of the same shape; overwritten by the next call."""
        self._given.copy_(probes)
        self._graph.replay()
        return self._result
