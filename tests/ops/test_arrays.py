"""Arrays of any library: the bits of the torch ops, no copies, errors that name the argument."""

import ctypes
import gc
import sys
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import polarity_ext
from polarity_ext import arrays
from polarity_ext.caller import Caller
from tests.ops.array_ops import NUMPY_OPS, TORCH_ONLY, TORCH_OPS, ArrayOps, check_bits
from tests.ops.cases import OPS, Case, Op

SMALL = [
    pytest.param(op, case, id=f"{op.name} {case}")
    for op in OPS.values()
    for case in op.cases
    if case.bytes < 300_000 and op.name not in TORCH_ONLY and not case.cuda_only
]


@pytest.mark.parametrize("array_ops", [NUMPY_OPS, TORCH_OPS], ids=["numpy", "torch"])
@pytest.mark.parametrize(("op", "case"), SMALL)
def test_the_bits_of_the_torch_op(op: Op, case: Case, array_ops: ArrayOps, seed: int) -> None:
    check_bits(op, array_ops, case.inputs(seed), case.inputs(seed))


def test_every_other_kernel_has_an_entry_point() -> None:
    assert {row["name"] for row in polarity_ext.kernel_table()} - TORCH_ONLY == set(arrays.__all__)


# Before, NumPy speaks DLPack 0, in which read-only arrays cannot be exported.
numpy_with_dlpack_1 = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.1.0", reason=f"NumPy {np.__version__} speaks DLPack 0"
)


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


class Tensor1(ctypes.Structure):  # DLTensor
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_index", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("dtype", ctypes.c_uint32),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class Versioned(ctypes.Structure):  # DLManagedTensorVersioned
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor1),
    )


def inside(capsule: Any, kind: type[ctypes.Structure]) -> Any:
    """The structure a capsule points to, to look at or to change."""
    name = b"dltensor" if kind is Tensor1 else b"dltensor_versioned"
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return kind.from_address(get(capsule, name))


class Exporter:
    """Memory of a NumPy array, exported as another library would."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] = (1, 0), **changes: Any) -> None:
        self.array, self.device, self.changes = array, device, changes

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int | None = None) -> Any:  # as before DLPack 1.0
        capsule = self.array.__dlpack__()
        tensor = inside(capsule, Tensor1)
        tensor.device_type, tensor.device_index = self.device
        for name, value in self.changes.items():
            setattr(tensor, name, value)
        return capsule


@numpy_with_dlpack_1
def test_inputs_are_not_copied() -> None:
    y = np.ones((4, 6, 5))[::2, ::-1, 1:]
    exported = inside(Caller("gram", {"y": y}, {}, None).capsule("y", y), Versioned)
    assert exported.tensor.data + exported.tensor.byte_offset == address(y)


def test_out_is_filled_where_it_is_and_returned(rng: np.random.Generator) -> None:
    y = rng.standard_normal((2, 30, 4)).astype(np.float32)
    out = np.full((2, 4, 4), np.nan)
    place = address(out)
    assert arrays.gram(y, out=out) is out
    assert address(out) == place
    np.testing.assert_array_equal(out, arrays.gram(y))
    tensor = torch.full((2, 4, 4), torch.nan, dtype=torch.float64)
    assert arrays.gram(y, out=tensor) is tensor  # of another library
    np.testing.assert_array_equal(out, tensor.numpy())


@given(
    starts=st.tuples(*[st.integers(0, 2)] * 3),
    steps=st.tuples(*[st.sampled_from([1, 2, -1, -3])] * 3),
    order=st.permutations(range(3)),
)
def test_gram_of_any_view(starts: tuple[int, ...], steps: tuple[int, ...], order: list[int]) -> None:
    whole = np.random.default_rng(0).standard_normal((5, 40, 9)).transpose(order)
    view = whole[tuple(slice(None, None, step) for step in steps)][tuple(slice(s, None) for s in starts)]
    np.testing.assert_array_equal(arrays.gram(view), arrays.gram(view.copy()))


def test_expanded_inputs(rng: np.random.Generator) -> None:
    row = rng.standard_normal((1, 30, 4))
    expanded = np.lib.stride_tricks.as_strided(row, (3, 30, 4), (0, *row.strides[1:]))
    np.testing.assert_array_equal(arrays.gram(expanded), np.repeat(arrays.gram(row), 3, axis=0))


@numpy_with_dlpack_1
def test_read_only_arrays(rng: np.random.Generator) -> None:
    y = np.broadcast_to(rng.standard_normal((30, 4)), (3, 30, 4))
    assert not y.flags.writeable
    np.testing.assert_array_equal(arrays.gram(y), arrays.gram(y.copy()))
    out = np.ones((3, 4, 4))
    out.flags.writeable = False
    with pytest.raises(ValueError, match="gram: out is read-only"):
        arrays.gram(y, out=out)
    assert bool((out == 1).all())
    with pytest.raises(ValueError, match="y does not start at a multiple of its element size"):
        arrays.gram(np.frombuffer(bytes(49), np.float64, offset=1).reshape(1, 2, 3))


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) >= "2.1.0", reason="this NumPy exports them")
def test_read_only_arrays_of_an_old_numpy() -> None:
    y = np.broadcast_to(np.ones((30, 4)), (3, 30, 4))
    with pytest.raises(BufferError, match=r"gram: y cannot be exported through DLPack: .*readonly"):
        arrays.gram(y)


def test_layout_is_kept(rng: np.random.Generator) -> None:
    t = rng.standard_normal((3, 2, 5, 6, 4)).transpose(0, 1, 4, 2, 3)
    d = rng.standard_normal((2, 5, 6, 4)).transpose(0, 3, 1, 2)
    got = arrays.scale_tangents(t, d)
    np.testing.assert_array_equal(got, t * d)
    assert got.strides == t.strides
    for output in arrays.activation(d, "gelu"):
        assert output.strides == d.strides
    style, style_tangents = rng.standard_normal((2, 4)), rng.standard_normal((3, 2, 4))
    got = arrays.modulate_tangents(t, d, style, style_tangents)
    expected = t * style[:, :, None, None] + d * style_tangents[:, :, :, None, None]
    np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-14)
    assert got.strides == t.strides
    back, sums = arrays.modulate_cotangents(t, d, style)
    np.testing.assert_array_equal(back, t * style[:, :, None, None])
    np.testing.assert_allclose(sums, (t * d).sum((3, 4)), rtol=1e-13, atol=1e-13)
    assert back.strides == t.strides
    blurred = arrays.upfirdn2d(d, np.full((2, 2), 0.25), down=(2, 2), padding=(0, 0, 0, 1))
    np.testing.assert_allclose(
        blurred[:, :, :2], d[:, :, :4].reshape(2, 4, 2, 2, 3, 2).mean((3, 5)), rtol=1e-14, atol=1e-14
    )
    assert blurred.strides == (3 * 3 * 4 * 8, 8, 3 * 4 * 8, 4 * 8)  # channels last, as d


def test_results_outlive_inputs_and_inputs_are_let_go(rng: np.random.Generator) -> None:
    y = rng.standard_normal((2, 30, 4))
    expected = np.einsum("bdi,bdj->bij", y, y)
    count, gone = sys.getrefcount(y), weakref.ref(y)
    got = arrays.gram(y)
    assert sys.getrefcount(y) == count
    del y
    gc.collect()
    assert gone() is None
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_random_numbers() -> None:
    shape = (3, 5)
    got = arrays.gaussian(7, 2, shape)
    assert isinstance(got, np.ndarray)
    np.testing.assert_array_equal(got, polarity_ext.gaussian(7, 2, shape).numpy())
    wanted = polarity_ext.uniform(7, 2, shape, dtype=torch.float64).numpy()
    np.testing.assert_array_equal(arrays.uniform(7, 2, shape, "float64"), wanted)
    assert isinstance(arrays.gaussian(7, 2, shape, out=torch.empty(shape)), Tensor)


def test_an_exporter_from_before_dlpack_1(rng: np.random.Generator) -> None:
    y = rng.standard_normal((2, 30, 4))
    got = arrays.gram(Exporter(y))
    assert isinstance(got, np.ndarray)  # it names no array namespace
    np.testing.assert_array_equal(got, arrays.gram(y))
    np.testing.assert_array_equal(arrays.gram(Exporter(y, strides=None)), got)


def test_another_library_gets_its_own_arrays(rng: np.random.Generator) -> None:
    class Namespace:
        @staticmethod
        def from_dlpack(array: np.ndarray) -> tuple[str, np.ndarray]:
            return "mine", array

    class Foreign(Exporter):
        def __array_namespace__(self) -> type:
            return Namespace

    x = rng.standard_normal(4)
    for (owner, value), wanted in zip(
        arrays.activation(Foreign(x), "silu"), arrays.activation(x, "silu"), strict=True
    ):
        assert owner == "mine"
        np.testing.assert_array_equal(value, wanted)
    out = np.empty((1, 1, 1))
    assert arrays.gram(Foreign(x.reshape(1, 4, 1)), out=out) is out


def test_arguments_that_are_no_arrays_of_floats() -> None:
    t = np.ones((2, 3, 4))
    with pytest.raises(TypeError, match="gram: y is a list; expected an array that exports DLPack"):
        arrays.gram([[[1.0]]])  # type: ignore[type-var]
    with pytest.raises(TypeError, match="gram: y is int64; it must be float32 or float64"):
        arrays.gram(t.astype(np.int64))
    with pytest.raises(TypeError, match="scale_tangents: d is complex128"):
        arrays.scale_tangents(t, np.ones((3, 4), np.complex128))
    with pytest.raises(ValueError, match="d is float32; it must be float64, as the arguments before it"):
        arrays.scale_tangents(t, np.ones((3, 4), np.float32))
    with pytest.raises(BufferError, match=r"gram: y cannot be exported through DLPack: .*detach"):
        arrays.gram(torch.ones(1, 2, 3, requires_grad=True))
    with pytest.raises(ValueError, match="kind is 'swish'; expected one of relu"):
        arrays.activation(t, "swish")


def test_shapes_and_layouts_that_do_not_fit() -> None:
    t, d = np.ones((2, 3, 4)), np.ones((3, 4))
    with pytest.raises(ValueError, match=r"gram: y must be \[B, D, L\], got \[3, 4\]"):
        arrays.gram(d)
    with pytest.raises(ValueError, match=r"got t \[2, 3, 4\] and d \[4\]"):
        arrays.scale_tangents(t, np.ones(4))
    with pytest.raises(ValueError, match=r"scale_tangents: t has a t\[l, b\] with gaps; make it contiguous"):
        arrays.scale_tangents(np.ones((2, 3, 8))[..., ::2], d)
    with pytest.raises(ValueError, match=r"d has its d\[b\] in another memory order"):
        arrays.scale_tangents(np.ones((2, 3, 4, 5)), np.ones((3, 5, 4)).transpose(0, 2, 1))
    image, style = np.ones((3, 4, 5)), np.ones((3, 4))
    with pytest.raises(ValueError, match=r"got tx \[2, 3, 4, 5\], x \[3, 4, 5\] and s \[3, 5\]"):
        arrays.modulate_tangents(np.ones((2, 3, 4, 5)), image, np.ones((3, 5)), np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"ts must be \[L, B, C\] of tx \[2, 3, 4, 5\], got \[2, 3, 5\]"):
        arrays.modulate_tangents(np.ones((2, 3, 4, 5)), image, style, np.ones((2, 3, 5)))
    with pytest.raises(ValueError, match="u and x are not both contiguous or both channels last"):
        arrays.modulate_cotangents(np.ones((2, 3, 5, 4)).transpose(0, 1, 3, 2), image, style)
    with pytest.raises(
        ValueError, match="g has 6 taps along x, more than the padded x has numbers; pad more"
    ):
        arrays.upfirdn2d(image[None], np.ones((1, 6)))
    with pytest.raises(ValueError, match=r"must be at least 1, got up \[1, 0\]"):
        arrays.upfirdn2d(image[None], np.ones((1, 1)), up=(1, 0))
    with pytest.raises(ValueError, match="x is neither contiguous nor channels last"):
        arrays.upfirdn2d(image.transpose(1, 0, 2)[None], np.ones((1, 1)))
    with pytest.raises(ValueError, match="activation: x has gaps"):
        arrays.activation(d[:, ::2], "relu")
    with pytest.raises(ValueError, match="seed must be >= 0, got -1"):
        arrays.gaussian(-1, 0, (3,))
    with pytest.raises(ValueError, match="offset must be >= 0, got -2"):
        arrays.uniform(0, -2, (3,))
    with pytest.raises(ValueError, match="dtype is 'float16'; it must be 'float32' or 'float64'"):
        arrays.uniform(0, 0, (3,), "float16")


def test_outputs_that_do_not_fit() -> None:
    t, d = np.ones((2, 3, 4)), np.ones((3, 4))
    with pytest.raises(ValueError, match=r"gram: out has shape \[2, 3, 3\]; it must be \[2, 4, 4\]"):
        arrays.gram(t, out=np.empty((2, 3, 3)))
    with pytest.raises(ValueError, match="gram: out is float32; it must be float64"):
        arrays.gram(t, out=np.empty((2, 4, 4), np.float32))
    with pytest.raises(ValueError, match="gram: out must be contiguous"):
        arrays.gram(t, out=np.empty((2, 4, 4)).transpose(0, 2, 1))
    with pytest.raises(ValueError, match="out has elements that share an address"):
        arrays.gram(t, out=np.lib.stride_tricks.as_strided(np.empty(4), (2, 4, 4), (0, 0, 8)))
    with pytest.raises(ValueError, match=r"activation: out\[1\] must be laid out like x"):
        arrays.activation(d, "relu", out=(np.empty((3, 4)), np.empty((4, 3)).T))
    with pytest.raises(ValueError, match="upfirdn2d: out must be laid out like x"):
        arrays.upfirdn2d(t[None], np.ones((1, 1)), out=np.empty((1, 3, 4, 2)).transpose(0, 3, 1, 2))


def test_outputs_that_share_memory() -> None:
    memory = np.ones(100)
    t, d = memory[:24].reshape(2, 3, 4), np.ones((3, 4))
    with pytest.raises(ValueError, match="out shares memory with another argument"):
        arrays.scale_tangents(t, d, out=memory[1:25].reshape(2, 3, 4))
    with pytest.raises(ValueError, match="out shares memory with another argument"):
        arrays.scale_tangents(t, t[0], out=t)
    with pytest.raises(ValueError, match=r"out\[0\] shares memory with another argument"):
        arrays.activation(d, "relu", out=(d, np.empty((3, 4))))
    same = np.empty((3, 4))
    with pytest.raises(ValueError, match=r"out\[1\] shares memory with another argument"):
        arrays.activation(d, "relu", out=(same, same))
    backwards = np.ones(24)[::-1].reshape(2, 12)
    with pytest.raises(ValueError, match="out shares memory with another argument"):
        arrays.gram(backwards[:1].reshape(1, 6, 2), out=backwards.base[20:].reshape(1, 2, 2))
    assert bool((memory == 1).all())


def test_devices_that_do_not_fit() -> None:
    t, d = np.ones((2, 3, 4)), np.ones((3, 4))
    with pytest.raises(ValueError, match="d is on cuda:3, but the call is on the CPU"):
        arrays.scale_tangents(t, Exporter(d, device=(2, 3)))
    with pytest.raises(ValueError, match="t is on a device of DLPack type 10; expected 1"):
        arrays.scale_tangents(Exporter(t, device=(10, 0)), d)
    with pytest.raises(ValueError, match="stream is 3, but the arrays are on the CPU"):
        arrays.gram(t, stream=3)


def test_out_of_a_library_that_forbids_writing() -> None:
    with pytest.raises(TypeError, match="gram: out is a Exporter; expected an array of NumPy, CuPy or torch"):
        arrays.gram(np.ones((1, 2, 3)), out=Exporter(np.ones((1, 3, 3))))


@numpy_with_dlpack_1
def test_capsules_that_cannot_be_read() -> None:
    y = np.ones((1, 2, 3))

    class Future(Exporter):
        def __dlpack__(self, **_: Any) -> Any:
            capsule = self.array.__dlpack__(max_version=(1, 0))
            inside(capsule, Versioned).major = 2
            return capsule

    class Broken(Exporter):
        def __dlpack__(self, **_: Any) -> Any:
            return "not a capsule"

    with pytest.raises(BufferError, match="gram: y came as DLPack 2; this extension reads version 1"):
        arrays.gram(Future(y))
    with pytest.raises(TypeError, match="gram: y: __dlpack__ returned no unused DLPack capsule"):
        arrays.gram(Broken(y))
