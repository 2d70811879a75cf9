"""The small rows of the case table outside pytest: for tools that watch a whole process."""

from tests.ops.backends import Backend
from tests.ops.cases import OPS
from tests.ops.checks import check_values

LARGEST = 300_000  # bytes a case moves: two splits of gram, several blocks of everything


def run(backend: Backend, seed: int, largest: int = LARGEST) -> tuple[int, int]:
    """How many rows passed and how many failed; says which."""
    passed, failed = 0, 0
    for op in OPS.values():
        for case in op.cases:
            if case.bytes > largest or (case.cuda_only and not backend.cuda_kernels):
                continue
            try:
                check_values(op, case, backend, seed)
                passed += 1
            except (AssertionError, RuntimeError) as error:
                failed += 1
                print(f"{op.name} [{case}], {backend.name}, seed {seed}: {error}")
    return passed, failed
