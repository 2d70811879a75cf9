import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.bank.metadata import BankMetadata

N, K = 40, 4


def write(path: Path, **arrays: Any) -> Path:
    """A file as the original authors' workers and compile script write it."""
    np.savez(path, **arrays)
    return path


def make_rows(seed: int = 0, n: int = N, values: int = 3) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    svds = -np.sort(-random.uniform(0.1, 5.0, (n, values)).astype(np.float32), axis=1)
    return {"latents": random.standard_normal((n, K)).astype(np.float32), "svds": svds}


def one_hot(labels: Any, classes: int) -> Any:
    return np.eye(classes, dtype=np.float32)[labels]


# --- reading theirs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("to_disk", [False, True])
def test_import(tmp_path: Path, mlp: ps.Generator, to_disk: bool) -> None:
    rows = make_rows()
    out = tmp_path / "bank" if to_disk else None
    bank = ps.Bank.import_npz(write(tmp_path / "svds.npz", **rows), mlp, out)
    assert len(bank) == N
    assert bank.top_k == 3
    assert bank.law == bank.base == ps.Normal()
    np.testing.assert_array_equal(bank.latents(bank.row_ids).numpy(), rows["latents"])
    np.testing.assert_array_equal(bank.singular_values.numpy(), rows["svds"].astype(np.float64))
    for top_k in (1, 3):
        value, error = bank.log_volume(top_k)
        np.testing.assert_allclose(value.numpy(), np.log(rows["svds"][:, :top_k].astype(np.float64)).sum(1))
        assert bool(error.isnan().all())
    assert bank.metadata.weight_hash == mlp.weight_hash()
    if to_disk:
        assert len(ps.Bank.open(tmp_path / "bank", mlp)) == N


def test_leading_axes_and_empty_labels_of_their_workers(tmp_path: Path) -> None:
    rows = make_rows()
    path = write(
        tmp_path / "worker.npz",
        latents=rows["latents"].reshape(5, 8, K),
        svds=rows["svds"].reshape(5, 8, 3),
        labels=np.array([]),
    )
    bank = ps.Bank.import_npz(path)
    np.testing.assert_array_equal(bank.latents(bank.row_ids).numpy(), rows["latents"])
    assert bank.labels is None
    assert bank.metadata.model == "worker"
    without_classes = write(tmp_path / "w.npz", **rows, labels=np.zeros((N, 0)))
    assert ps.Bank.import_npz(without_classes).labels is None


def test_one_hot_labels(tmp_path: Path, conditional: ps.Generator) -> None:
    labels = np.random.default_rng(1).integers(0, 3, N)
    path = write(tmp_path / "svds.npz", **make_rows(), labels=one_hot(labels, 3))
    bank = ps.Bank.import_npz(path, conditional, tmp_path / "bank")
    assert bank.labels is not None
    assert bank.labels.tolist() == labels.tolist()
    assert bank.num_classes == 3
    assert bank.metadata.class_prior == (1 / 3, 1 / 3, 1 / 3)


def test_rows_below_the_noise_are_flagged(tmp_path: Path) -> None:
    rows = make_rows()
    rows["svds"][3, 2] = rows["svds"][3, 0] * np.float32(0.9e-5)
    rows["svds"][4, 1:] = 0.0
    rows["svds"][5, 2] = rows["svds"][5, 0] * np.float32(1.1e-5)
    bank = ps.Bank.import_npz(write(tmp_path / "svds.npz", **rows))
    value, error = bank.log_volume()
    assert error.isinf().nonzero().flatten().tolist() == [3, 4]
    assert bool(value.isfinite().all())
    assert bank.log_volume(2)[1].isinf().nonzero().flatten().tolist() == [4]
    assert bool(bank.log_volume(1)[1].isnan().all())


def test_rows_never_computed_are_left_out(tmp_path: Path) -> None:
    rows = make_rows()
    rows["svds"][[2, 7]] = 0.0
    labels = one_hot(np.arange(N) % 3, 3)
    path = write(tmp_path / "svds.npz", **rows, labels=labels)
    with pytest.warns(ps.PolarityWarning, match="2 of 40 rows of svds are all zero"):
        bank = ps.Bank.import_npz(path)
    kept = np.delete(np.arange(N), [2, 7])
    np.testing.assert_array_equal(bank.latents(bank.row_ids).numpy(), rows["latents"][kept])
    assert bank.labels is not None
    assert bank.labels.tolist() == (kept % 3).tolist()


def test_values_are_sorted(tmp_path: Path) -> None:
    rows = make_rows()
    path = write(tmp_path / "svds.npz", latents=rows["latents"], svds=rows["svds"][:, ::-1])
    np.testing.assert_array_equal(ps.Bank.import_npz(path).singular_values.numpy(), rows["svds"])


def test_base_law(tmp_path: Path, mlp: ps.Generator) -> None:
    path = write(tmp_path / "svds.npz", **make_rows())
    assert ps.Bank.import_npz(path, base=ps.TruncatedNormal(2.0)).law == ps.TruncatedNormal(2.0)
    assert ps.Bank.import_npz(path, base="uniform").base == ps.Uniform()
    of_generator = ps.Generator(mlp.module, base="uniform")
    assert ps.Bank.import_npz(path, of_generator).base == ps.Uniform()
    assert ps.Bank.import_npz(path, name="theirs").metadata.model == "theirs"


# --- files that are not theirs ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"svds": None}, "has no svds, only latents"),
        ({"latents": None, "svds": None, "x": np.zeros(2)}, "has no latents and no svds, only x"),
        ({"latents": np.arange(N)}, "seeds in place of latents cannot be imported"),
        ({"latents": np.arange(N)[:, None]}, "latents is int64"),
        ({"latents": np.zeros((N - 1, K))}, "39 latents but 40 rows of svds"),
        ({"svds": np.ones(N)}, r"svds is float64 \(40,\)"),
        ({"svds": np.ones((0, 3))}, r"svds has shape \(0, 3\)"),
        ({"svds": np.ones((N, K + 1))}, "5 singular values of 4 latent coordinates"),
        ({"svds": -np.ones((N, 3))}, "non-negative"),
        ({"svds": np.full((N, 3), np.nan)}, "finite"),
        ({"latents": np.full((N, K), np.inf)}, "finite"),
        ({"latents": np.full((N, K), 1e300)}, "finite in float32"),
        ({"svds": np.zeros((N, 3))}, "nothing was computed"),
        ({"labels": np.zeros((N, 3))}, "40 one-hot rows"),
        ({"labels": np.ones((N, 3))}, "40 one-hot rows"),
        ({"labels": one_hot(np.zeros(N - 1, dtype=int), 3)}, "40 one-hot rows"),
        ({"labels": np.arange(N) % 3}, "one-hot rows"),
        ({"labels": np.array(3)}, "one-hot rows"),
        ({"svds": np.array([[1.0], None], dtype=object)}, "not an .npz of plain arrays"),
    ],
)
def test_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    arrays = {name: value for name, value in (make_rows() | change).items() if value is not None}
    with pytest.raises(ps.BankError, match=words):
        ps.Bank.import_npz(write(tmp_path / "svds.npz", **arrays), out=tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


def test_damaged_member(tmp_path: Path) -> None:
    path = tmp_path / "svds.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("latents.npy", b"rubbish")
        file.writestr("svds.npy", b"rubbish")
    with pytest.raises(ps.BankError, match="latents is damaged"):
        ps.Bank.import_npz(path)


def test_not_an_npz(tmp_path: Path) -> None:
    path = write(tmp_path / "svds.npz", **make_rows())
    content = path.read_bytes()
    for broken in (b"", b"text", content[: len(content) // 2]):
        path.write_bytes(broken)
        with pytest.raises(ps.BankError, match=r"svds\.npz"):
            ps.Bank.import_npz(path)
    np.save(tmp_path / "array.npy", np.zeros((2, 2)))
    with pytest.raises(ps.BankError, match="single array"):
        ps.Bank.import_npz(tmp_path / "array.npy")
    with pytest.raises(ps.BankError, match="No such file"):
        ps.Bank.import_npz(tmp_path / "absent.npz")


def test_generator_must_fit(tmp_path: Path, mlp: ps.Generator, conditional: ps.Generator) -> None:
    path = write(tmp_path / "svds.npz", **make_rows())
    with pytest.raises(ps.BankError, match="found None classes, conditional has 3"):
        ps.Bank.import_npz(path, conditional)
    with pytest.raises(ps.BankError, match="found latent_dim 4, Linear has 7"):
        ps.Bank.import_npz(path, torch.nn.Linear(7, 9))
    labelled = write(tmp_path / "l.npz", **make_rows(), labels=one_hot(np.arange(N) % 3, 3))
    with pytest.raises(ps.BankError, match="found 3 classes, mlp has None"):
        ps.Bank.import_npz(labelled, mlp)


# --- the bank they become ---------------------------------------------------------------------------


def test_imported_without_a_generator_opens_with_a_warning(tmp_path: Path, mlp: ps.Generator) -> None:
    ps.Bank.import_npz(write(tmp_path / "svds.npz", **make_rows()), out=tmp_path / "bank")
    with pytest.warns(ps.PolarityWarning, match="imported without a generator"):
        ps.Bank.open(tmp_path / "bank", mlp)


def test_import_goes_on_and_refuses_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlp: ps.Generator
) -> None:
    monkeypatch.setattr("polarity_sampling.bank.npz._SHARD_ROWS", 16)
    path, out = write(tmp_path / "svds.npz", **make_rows()), tmp_path / "bank"
    first = ps.Bank.import_npz(path, mlp, out)
    (out / "shard-000001.parquet").unlink()
    kept = (out / "shard-000000.parquet").stat().st_mtime_ns
    again = ps.Bank.import_npz(path, mlp, out)
    assert torch.equal(again.singular_values, first.singular_values)
    assert (out / "shard-000000.parquet").stat().st_mtime_ns == kept

    other = write(tmp_path / "other.npz", **make_rows(seed=1))
    with pytest.raises(ps.BankError, match=r"holds another bank .*origin"):
        ps.Bank.import_npz(other, mlp, out)
    with pytest.raises(ps.BankError, match="origin: found 'npz"):
        ps.Bank.build(mlp, n=100, path=out, progress=False)


# --- writing theirs ---------------------------------------------------------------------------------


def test_export_then_import(tmp_path: Path, conditional: ps.Generator) -> None:
    bank = ps.Bank.build(conditional, n=30, top_k=3, class_prior=[1, 1, 0], progress=False)
    bank.export_npz(tmp_path / "svds.npz")
    with np.load(tmp_path / "svds.npz") as file:
        assert sorted(file) == ["labels", "latents", "svds"]
        assert file["labels"].shape == (30, 3)
        # What their sampler makes of the file.
        assert bank.labels is not None
        assert file["labels"].argmax(axis=-1).tolist() == bank.labels.tolist()
        np.testing.assert_allclose(
            np.log(file["svds"][:, :2].astype(np.float64)).sum(1), bank.log_volume(2)[0].numpy()
        )
    back = ps.Bank.import_npz(tmp_path / "svds.npz", conditional)
    assert torch.equal(back.singular_values, bank.singular_values)
    assert torch.equal(back.latents(back.row_ids), bank.latents(bank.row_ids))
    assert back.labels is not None
    assert torch.equal(back.labels, bank.labels)
    torch.testing.assert_close(back.log_volume()[0], bank.log_volume()[0], rtol=1e-14, atol=0.0)


def test_unconditional_export_has_no_labels(tmp_path: Path, mlp: ps.Generator) -> None:
    ps.Bank.build(mlp, n=8, top_k=3, progress=False).export_npz(tmp_path / "svds.npz")
    with np.load(tmp_path / "svds.npz") as file:
        assert sorted(file) == ["latents", "svds"]


def test_export_to_nowhere(tmp_path: Path, mlp: ps.Generator) -> None:
    bank = ps.Bank.build(mlp, n=8, top_k=3, progress=False)
    with pytest.raises(ps.BankError, match=r"writing .*svds\.npz failed"):
        bank.export_npz(tmp_path / "absent" / "svds.npz")


def test_imported_metadata_is_plain_json(tmp_path: Path) -> None:
    ps.Bank.import_npz(write(tmp_path / "svds.npz", **make_rows()), out=tmp_path / "bank")
    metadata = BankMetadata.read(tmp_path / "bank")
    assert metadata.origin.startswith("npz ")
    assert metadata.store_latents
    assert math.isfinite(metadata.tol)
