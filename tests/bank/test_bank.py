import warnings
from pathlib import Path

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.volume.certificate import log_volume_and_error

import polarity_ext

N = 50
SMALL = {"top_k": 3, "batch_size": 8, "shard_rows": 32, "progress": False}


@pytest.fixture
def bank(mlp: ps.Generator, tmp_path: Path) -> ps.Bank:
    return ps.Bank.build(mlp, n=N, path=tmp_path / "bank", seed=4, **SMALL)


def test_properties(bank: ps.Bank, mlp: ps.Generator) -> None:
    assert len(bank) == N
    assert bank.top_k == 3
    assert bank.latent_dim == 4
    assert bank.law == bank.base == ps.Normal()
    assert bank.num_classes is None
    assert bank.labels is None
    assert bank.row_ids.tolist() == list(range(N))
    assert bank.singular_values.shape == (N, 3)
    assert bank.singular_values.dtype == torch.float64
    assert bool((bank.singular_values.diff(dim=1) <= 0.0).all())
    assert bank.metadata.weight_hash == mlp.weight_hash()
    assert repr(bank) == "Bank(mlp, 50 rows, top_k=3, law=Normal(mean=0.0, std=1.0))"


# --- opening ----------------------------------------------------------------------------------------


def test_open_checks_the_generator(
    bank: ps.Bank, mlp: ps.Generator, other_mlp: ps.Generator, tmp_path: Path
) -> None:
    path = tmp_path / "bank"
    for same in (None, mlp, mlp.module):
        assert len(ps.Bank.open(str(path), same)) == N
    with pytest.raises(ps.BankError, match=f"another generator: found weight hash {mlp.weight_hash()[:16]}"):
        ps.Bank.open(path, other_mlp)
    with torch.no_grad():
        mlp.module[0].bias[0] += 1e-6  # type: ignore[index]
    with pytest.raises(ps.BankError, match="another generator"):
        ps.Bank.open(path, mlp)


def test_open_refuses_an_interrupted_build(bank: ps.Bank, tmp_path: Path) -> None:
    (tmp_path / "bank" / "shard-000000.parquet").unlink()
    with pytest.raises(
        ps.BankError, match=r"holds 0 of 50 rows. Make the Bank.build call that began it again to resume$"
    ):
        ps.Bank.open(tmp_path / "bank")


def nudge(monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    """Another platform: one number of the gaussian stream comes out one unit in the last place higher."""
    real = polarity_ext.gaussian

    def gaussian(seed: int, offset: int, shape: tuple[int, ...], **options: object) -> torch.Tensor:
        numbers = real(seed, offset, shape, **options)  # type: ignore[arg-type]
        if offset <= index < offset + numbers.numel():
            flat = numbers.view(-1)
            flat[index - offset] = torch.nextafter(flat[index - offset], torch.tensor(9.0))
        return numbers

    monkeypatch.setattr(polarity_ext, "gaussian", gaussian)


def test_latents_with_other_bits_are_refused(
    bank: ps.Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nudge(monkeypatch, index=4 * 20 + 1)  # row 20
    bank.latents(torch.tensor([19, 21]))
    with pytest.raises(
        ps.BankError, match=r"1 of 2 latents come out with other bits here.*store_latents=True"
    ):
        bank.latents(torch.tensor([20, 3]))
    with pytest.raises(ps.BankError, match="other bits"):
        ps.Bank.open(tmp_path / "bank")


def test_stored_latents_travel(mlp: ps.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ps.Bank.build(mlp, n=N, path=tmp_path / "bank", store_latents=True, seed=4, **SMALL)
    expected = ps.Normal().draw(4, torch.arange(N), 4)
    nudge(monkeypatch, index=81)
    stored = ps.Bank.open(tmp_path / "bank")
    assert torch.equal(stored.latents(torch.arange(N)), expected)
    assert torch.equal(stored.latents(torch.tensor([49, 0, 0])), expected[[49, 0, 0]])


# --- reading ----------------------------------------------------------------------------------------


def test_latents_in_any_order(bank: ps.Bank) -> None:
    rows = torch.tensor([49, 3, 3, 0, 17])
    assert torch.equal(bank.latents(rows), ps.Normal().draw(4, torch.arange(N), 4)[rows])
    assert bank.latents(rows[:0]).shape == (0, 4)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (torch.tensor([0, N]), r"rows span \[0, 50\]: expected row ids in \[0, 50\)"),
        (torch.tensor([-1]), r"\[-1, -1\]"),
        (torch.tensor([[0]]), r"shape \(1, 1\)"),
        (torch.tensor([0.0]), "torch.float32"),
        (torch.tensor([0], dtype=torch.int32), "torch.int32"),
    ],
)
def test_bad_rows(bank: ps.Bank, rows: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bank.latents(rows)


def test_log_volume_of_fewer_values(bank: ps.Bank, mlp: ps.Generator) -> None:
    z = bank.latents(bank.row_ids)
    for top_k in (1, 2, 3):
        value, error = bank.log_volume(top_k)
        direct = ps.log_volume(mlp, z, top_k=top_k)
        torch.testing.assert_close(value, direct.value, rtol=0.0, atol=1e-5)
        torch.testing.assert_close(error, direct.error, rtol=0.2, atol=0.0)
        torch.testing.assert_close(value, bank.singular_values[:, :top_k].log().sum(1), rtol=1e-14, atol=0.0)
    assert all(torch.equal(a, b) for a, b in zip(bank.log_volume(), bank.log_volume(3), strict=True))
    columns = bank._columns
    again = log_volume_and_error(columns.singular_values, columns.floor, columns.eta, columns.delta)
    assert all(torch.equal(a, b) for a, b in zip(bank.log_volume(), again, strict=True))


@pytest.mark.parametrize("top_k", [0, -1, 4])
def test_bad_top_k(bank: ps.Bank, top_k: int) -> None:
    with pytest.raises(ValueError, match=f"top_k={top_k}: this bank stores 3.*Pass 1 to 3"):
        bank.log_volume(top_k)


def test_rows_that_are_no_tensor(bank: ps.Bank) -> None:
    with pytest.raises(TypeError, match="rows is a list: expected a tensor of int64 row ids"):
        bank.latents([0, 1])  # type: ignore[arg-type]


def test_flagged_rows_keep_an_infinite_error(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 6))
    bank = ps.Bank.build(module, n=400, path=tmp_path, top_k=4, progress=False)
    _, error = bank.log_volume()
    rank = ps.log_volume(module, bank.latents(bank.row_ids), top_k=4).rank
    assert 0 < int((rank < 4).sum()) < 400  # dead units: some Jacobians are rank-deficient
    assert torch.equal(error.isinf(), rank < 4)
    assert torch.equal(bank.log_volume(2)[1].isinf(), rank < 2)


def test_conditional_bank_reads_back(conditional: ps.Generator, tmp_path: Path) -> None:
    built = ps.Bank.build(conditional, n=N, path=tmp_path, **SMALL)
    opened = ps.Bank.open(tmp_path, conditional)
    assert opened.num_classes == 3
    assert built.labels is not None
    assert opened.labels is not None
    assert torch.equal(opened.labels, built.labels)
    assert opened.labels.dtype == torch.int64


def test_float64_generator(mlp: ps.Generator, tmp_path: Path) -> None:
    double = ps.Generator(mlp.module.double(), name="double")
    bank = ps.Bank.build(double, n=20, path=tmp_path, **SMALL)
    assert bank.latents(bank.row_ids).dtype == torch.float32
    expected = ps.log_volume(double, bank.latents(bank.row_ids).double(), top_k=3).value
    torch.testing.assert_close(bank.log_volume()[0], expected, rtol=0.0, atol=1e-12)


def test_reading_warns_of_nothing(bank: ps.Bank, mlp: ps.Generator, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = ps.Bank.open(tmp_path / "bank", mlp)
        opened.latents(opened.row_ids)
        opened.log_volume(2)
