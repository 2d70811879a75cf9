"""Registration: schemas, fake kernels on any device, CUDA kernels wherever the build has them."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import polarity_ext
from tests.ops.backends import CPU, CUDA
from tests.ops.cases import OPS, Case, Op

SCHEMAS = (
    "gaussian_",
    "uniform_",
    "gram",
    "layer_gram",
    "scale_tangents",
    "scale_tangents_",
    "activation",
    "normalize_tangents",
    "softmax_tangents",
    "symmetric_eigenvalues",
    "weighted_draw",
    "cholesky",
    "floored_log_sum",
    "gaussian_product",
    "jacobi_singular_values",
    "solve_triangular",
    "mlp_tangents",
    "modulate_tangents",
    "modulate_tangents_",
    "modulate_cotangents",
    "upfirdn2d",
    "linear_tangents",
    "rectify",
    "mask_tangents",
    "mask_tangents_",
    "winograd",
    "convolve_to_few",
)
COMPOSED = ("convolution_chain", "mlp_gram")  # of kernels with schemas of their own
ON_A_CPU = ("active_convolutions",)  # alone; the function of that name takes the library's elsewhere
SMALL = [
    pytest.param(op, case, id=f"{op.name} {case}")
    for op in OPS.values()
    for case in op.cases
    if case.bytes < 100_000 and not case.cuda_only
]


def has_kernel(name: str, key: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"polarity::{name}", key)


@pytest.mark.parametrize("name", SCHEMAS + COMPOSED)
def test_kernels_are_registered(name: str) -> None:
    assert has_kernel(name, "CPU")
    assert has_kernel(name, "Meta")
    assert has_kernel(name, "CUDA") == bool(polarity_ext.build_info()["cuda"])


@pytest.mark.parametrize("name", ON_A_CPU)
def test_kernels_of_a_cpu_alone_are_registered(name: str) -> None:
    assert has_kernel(name, "CPU")
    assert has_kernel(name, "Meta")
    assert not has_kernel(name, "CUDA")


def test_the_kernel_table_names_every_op() -> None:
    everywhere = "cpu cuda" if polarity_ext.build_info()["cuda"] else "cpu"
    wanted = {name.rstrip("_"): everywhere for name in SCHEMAS} | dict.fromkeys(ON_A_CPU, "cpu")
    assert {row["name"]: row["backends"] for row in polarity_ext.kernel_table()} == wanted


def overload(op: Op) -> torch._ops.OpOverload:
    name = {"gaussian": "gaussian_", "uniform": "uniform_"}.get(op.name, op.name)
    return getattr(torch.ops.polarity, name).default


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_autocast_changes_nothing(op: Op, device: str, seed: int) -> None:
    """Products of torch inside an op would come out in half precision, and be read as what they are not."""
    place = (CUDA if device == "cuda" else CPU).place
    case = next(case for case in op.cases if case.bytes > 10_000)
    expected = op.run(torch.ops.polarity, *map(place, case.inputs(seed)))
    with torch.autocast(device, dtype=torch.bfloat16):
        got = op.run(torch.ops.polarity, *map(place, case.inputs(seed)))
    for value, wanted in zip(got, expected, strict=True):
        assert value.dtype == wanted.dtype
        assert torch.equal(value.nan_to_num(), wanted.nan_to_num())


@pytest.mark.parametrize(("op", "case"), SMALL)
def test_schema_and_fake_kernel(op: Op, case: Case, device: str, seed: int) -> None:
    """Nothing is mutated or aliased that the schema does not say; shapes, dtypes and strides are foretold.

    Derivatives are torch.autograd.Functions around the raw ops, so opcheck's tests of autograd do not apply.
    """
    backend = CPU if device == "cpu" else CUDA
    inputs = tuple(backend.place(value) for value in case.inputs(seed))
    torch.library.opcheck(overload(op), inputs, test_utils=("test_schema", "test_faketensor"))


def test_fake_tensors_on_cuda_need_no_gpu() -> None:
    with FakeTensorMode():
        y = torch.empty(2, 30, 5, device="cuda")
        gram = polarity_ext.gram(y)
        assert (gram.shape, gram.dtype, gram.device.type) == ((2, 5, 5), torch.float64, "cuda")
        t = torch.empty(7, 2, 30, device="cuda")
        d = torch.empty(2, 30, device="cuda")
        assert polarity_ext.scale_tangents(t, d).device.type == "cuda"
        assert polarity_ext.scale_tangents_(t, d) is t
        assert all(out.device.type == "cuda" for out in polarity_ext.activation(t, "tanh"))
        spectrum = polarity_ext.symmetric_eigenvalues(gram, 3)
        assert (spectrum.shape, spectrum.device.type) == ((2, 3), "cuda")
        assert polarity_ext.gaussian(0, 0, (3,), device="cuda").device.type == "cuda"
        assert polarity_ext.uniform(0, 0, (3,), device="cuda").device.type == "cuda"


def test_instruction_sets() -> None:
    available = polarity_ext._C.instruction_sets()
    assert available[-1] == "baseline"
    assert polarity_ext._C.instruction_set() == available[0]
    with pytest.raises(ValueError, match="this machine has no 'sse9'"):
        polarity_ext._C.use_instruction_set("sse9")
