import dataclasses
import json
import shutil
from pathlib import Path

import polarity_sampling as ps
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polarity_sampling.bank.metadata import FORMAT, BankMetadata, Environment

from tests.bank.conftest import make_mlp

text = st.text(max_size=20)
count = st.integers(1, 2**40)
law = st.sampled_from(
    [ps.Normal(), ps.Uniform(-2.0, 3.0), ps.TruncatedNormal(2.0), ps.Sphere(), ps.Ball(1.5)]
)
metadata = st.builds(
    BankMetadata,
    model=text,
    weight_hash=st.none() | text,
    latent_dim=count,
    directions=count,
    base=law,
    law=law,
    num_classes=st.none() | count,
    class_prior=st.none() | st.lists(st.floats(0, 1), max_size=4).map(tuple),
    seed=st.integers(0, 2**63 - 1),
    n=count,
    top_k=count,
    top_k_auto=st.booleans(),
    tol=st.floats(1e-9, 1.0),
    batch_size=count,
    shard_rows=count,
    store_latents=st.booleans(),
    memory=count,
    origin=text,
    created=text,
    environments=st.lists(st.builds(Environment, text, text, count, text), max_size=3).map(tuple),
    format=st.just(FORMAT),
)


@given(metadata)
def test_json_round_trip(metadata: BankMetadata) -> None:
    back = BankMetadata.from_json(json.loads(json.dumps(metadata.to_json())))
    assert back == metadata
    assert back.fingerprint() == metadata.fingerprint()
    assert back.differences(metadata) == []


INFORMATIVE = {"model", "directions", "n", "top_k_auto", "created", "environments"}


@given(metadata, metadata)
def test_fingerprint_covers_every_decisive_field(a: BankMetadata, b: BankMetadata) -> None:
    for field in dataclasses.fields(BankMetadata):
        changed = dataclasses.replace(a, **{field.name: getattr(b, field.name)})
        if changed == a or field.name == "format":
            continue
        decisive = field.name not in INFORMATIVE
        assert (changed.fingerprint() != a.fingerprint()) == decisive
        assert [text.split(":")[0] for text in changed.differences(a)] == [field.name] * decisive


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "bank"
    ps.Bank.build(make_mlp(), n=8, path=path, top_k=3, batch_size=8, shard_rows=8, progress=False)
    return path


@pytest.fixture
def bank(built: Path, tmp_path: Path) -> Path:
    """A copy to spoil; its generator is `mlp`."""
    return Path(shutil.copytree(built, tmp_path / "bank"))


def edit(bank: Path, **change: object) -> None:
    path = bank / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_a_bank_that_does_not_say_how_many_directions_counts_all(bank: Path) -> None:
    path = bank / "metadata.json"
    data = json.loads(path.read_text())
    assert data.pop("directions") == 4
    path.write_text(json.dumps(data))
    assert ps.Bank.open(bank).directions == 4


def test_newer_format_is_refused_by_name(bank: Path, mlp: ps.Generator) -> None:
    edit(bank, format=FORMAT + 1, a_field_of_the_future=1)
    for use in (lambda: ps.Bank.open(bank), lambda: ps.Bank.build(mlp, n=8, path=bank, progress=False)):
        with pytest.raises(
            ps.BankError, match=rf"format {FORMAT + 1}, this library reads up to {FORMAT}.*upgrade"
        ):
            use()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"format": 1}', "\x00"],
)
def test_damaged_file_is_refused(bank: Path, content: str) -> None:
    (bank / "metadata.json").write_text(content)
    with pytest.raises(ps.BankError, match=r"metadata\.json is damaged"):
        ps.Bank.open(bank)


@pytest.mark.parametrize(
    "change",
    [
        {"law": {"law": "cauchy"}},
        {"unknown": 1},
        {"environments": [{"torch": 1}]},
        {"format": "1"},
        {"n": "8"},
        {"n": 0},
        {"shard_rows": -1},
    ],
)
def test_edited_fields_of_wrong_kind_are_refused(bank: Path, change: dict[str, object]) -> None:
    edit(bank, **change)
    with pytest.raises(ps.BankError, match=r"metadata\.json is damaged"):
        ps.Bank.open(bank)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"weight_hash": "0" * 64}, {"top_k": 2}, {"law": ps.Ball(1.0).to_json()}]
)
def test_edited_settings_do_not_match_the_shards(bank: Path, change: dict[str, object]) -> None:
    edit(bank, **change)
    with pytest.raises(ps.BankError, match="metadata was edited"):
        ps.Bank.open(bank)


def test_claiming_more_rows_makes_a_bank_incomplete(bank: Path) -> None:
    edit(bank, n=9)
    with pytest.raises(ps.BankError, match="holds 8 of 9 rows"):
        ps.Bank.open(bank)


@pytest.mark.parametrize("content", [None, "file"])
def test_no_bank_there(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "absent"
    if content:
        path.write_text(content)
    with pytest.raises(ps.BankError, match=r"is not a bank \(no metadata.json\)"):
        ps.Bank.open(path)
