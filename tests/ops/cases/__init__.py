"""The case table: for every op its inputs, cost, reference and tolerance.

One row drives the test of values on every backend (tests/ops/test_<op>.py) and, where it says ``perf``,
the benchmark (``python -m benchmarks.kernels``). On a GPU the benchmark takes the rows of ``gpu_cases``
instead, whose values tests/ops/test_gpu_rows.py looks at there. A new op is a new file here and an entry in
`OPS`.
"""

from tests.ops.cases.activation import ACTIVATION
from tests.ops.cases.case import Case, Op
from tests.ops.cases.cholesky import CHOLESKY
from tests.ops.cases.convolve_to_few import CONVOLVE_TO_FEW
from tests.ops.cases.floored_log_sum import FLOORED_LOG_SUM
from tests.ops.cases.gaussian_product import GAUSSIAN_PRODUCT
from tests.ops.cases.gram import GRAM
from tests.ops.cases.jacobi_singular_values import JACOBI_SINGULAR_VALUES
from tests.ops.cases.layer_gram import LAYER_GRAM
from tests.ops.cases.linear_tangents import LINEAR_TANGENTS
from tests.ops.cases.mask_tangents import MASK_TANGENTS, MASK_TANGENTS_IN_PLACE, RECTIFY
from tests.ops.cases.mlp_tangents import MLP_TANGENTS
from tests.ops.cases.modulate_tangents import (
    MODULATE_COTANGENTS,
    MODULATE_TANGENTS,
    MODULATE_TANGENTS_IN_PLACE,
)
from tests.ops.cases.normalize_tangents import NORMALIZE_TANGENTS
from tests.ops.cases.random import GAUSSIAN, UNIFORM
from tests.ops.cases.scale_tangents import SCALE_TANGENTS, SCALE_TANGENTS_IN_PLACE
from tests.ops.cases.softmax_tangents import SOFTMAX_TANGENTS
from tests.ops.cases.solve_triangular import SOLVE_TRIANGULAR
from tests.ops.cases.symmetric_eigenvalues import SYMMETRIC_EIGENVALUES
from tests.ops.cases.upfirdn2d import UPFIRDN2D
from tests.ops.cases.weighted_draw import WEIGHTED_DRAW
from tests.ops.cases.winograd import WINOGRAD

OPS = {
    op.name: op
    for op in (
        GAUSSIAN,
        UNIFORM,
        GRAM,
        LAYER_GRAM,
        SCALE_TANGENTS,
        SCALE_TANGENTS_IN_PLACE,
        ACTIVATION,
        NORMALIZE_TANGENTS,
        SOFTMAX_TANGENTS,
        SYMMETRIC_EIGENVALUES,
        WEIGHTED_DRAW,
        CHOLESKY,
        FLOORED_LOG_SUM,
        GAUSSIAN_PRODUCT,
        JACOBI_SINGULAR_VALUES,
        SOLVE_TRIANGULAR,
        MLP_TANGENTS,
        MODULATE_TANGENTS,
        MODULATE_TANGENTS_IN_PLACE,
        MODULATE_COTANGENTS,
        UPFIRDN2D,
        LINEAR_TANGENTS,
        WINOGRAD,
        CONVOLVE_TO_FEW,
        RECTIFY,
        MASK_TANGENTS,
        MASK_TANGENTS_IN_PLACE,
    )
}

__all__ = ["OPS", "Case", "Op"]
