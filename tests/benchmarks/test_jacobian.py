"""The benchmark of Jacobian products: a workload is on one device, and what does not fit is refused."""

import pytest
import torch

from benchmarks import devices
from benchmarks.jacobian import __main__ as program
from benchmarks.jacobian import measure
from benchmarks.jacobian.models import WORKLOADS, Workload
from benchmarks.jacobian.peers import columns, pull, push
from tests.architectures import mlp

SMALL = Workload(lambda: mlp.generator((6, 20, 20, 30), (0.7, 0.7)), batch=2, on_gpu=5)


def test_batches_of_a_gpu_are_larger_and_begin_from_the_same_weights() -> None:
    on_cpu, on_gpu = SMALL.on("cpu"), SMALL.on("meta")
    assert [on_cpu[1].shape[0], on_gpu[1].shape[0]] == [2, 5]
    assert [on_cpu[0].name, on_cpu[0].latent_dim] == [on_gpu[0].name, on_gpu[0].latent_dim]
    assert all(workload.on_gpu > workload.batch for workload in WORKLOADS.values())


def test_peers_are_where_the_generator_is() -> None:
    """The device without numbers refuses to meet the CPU's tensors as a GPU does."""
    generator, z, label = SMALL.on("meta")

    def flat(z: torch.Tensor) -> torch.Tensor:
        return generator.flat(z, label)

    probes = torch.eye(6, device="meta")[:3, None].expand(-1, 5, -1)
    assert push(flat, z, probes).shape == (3, 5, 30)
    assert pull(flat, z, torch.empty(4, 5, 30, device="meta")).shape == (4, 5, 6)
    assert columns(generator, z, label).device.type == "meta"


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_workload_is_measured(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUNDS", range(2, 3))
    monkeypatch.setitem(measure.GEMM, device, 64)
    monkeypatch.setattr(torch, "compile", lambda product, dynamic: product)  # which takes most of the time
    clock = devices.clock_of(device, "wall")
    found = measure.measure("small", SMALL, 1 << 30, clock, device)
    assert found["latents"] == (2 if device == "cpu" else 5)
    for side in ("forward", "adjoint"):
        assert found[side]["error"] < 1e-5
        assert found[side]["peer_error"] < 1e-5
        assert found[side]["seconds"]["median"] > 0
    assert ("graphs" in found) == (device == "cuda")
    assert found.get("graphs", {"error": 0.0})["error"] < 1e-5
    columns = len(program.COLUMNS) + (device == "cuda")
    assert len(program.row(found)) == columns


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda", "--clock", "cpu"], "--clock wall"),
        (["--device", "cuda", "--overhead"], "leave --device out"),
    ],
)
def test_what_a_gpu_cannot_do_is_refused(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks.jacobian", *words])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices, "_float32_products", lambda: None)
    with pytest.raises(SystemExit):
        program.main()
    assert message in capsys.readouterr().err
