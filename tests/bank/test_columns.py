import math

import numpy as np
import polarity_sampling as ps
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polarity_sampling.bank.columns import Columns, certify, latent_check


def make_columns(n: int, k: int, *, labels: bool, dim: int | None) -> Columns:
    generator = torch.Generator().manual_seed(n)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Columns(
        row_id=torch.arange(n),
        singular_values=random(n, k),
        log_volume=random(n),
        error=random(n).masked_fill(torch.arange(n) % 2 == 0, math.inf),
        rank=torch.arange(n) + 1,
        floor=random(n),
        eta=random(n).masked_fill(torch.arange(n) % 3 == 0, math.nan),
        delta=random(n),
        latent_check=torch.arange(n) - 2**62,
        label=torch.arange(n) % 3 if labels else None,
        latent=random(n, dim).float() if dim else None,
    )


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("dim", [None, 5])
@pytest.mark.parametrize("n", [1, 7])
def test_table_round_trip(labels: bool, dim: int | None, n: int) -> None:
    columns = make_columns(n, 3, labels=labels, dim=dim)
    table = columns.to_table()
    assert table.num_rows == len(columns) == n
    assert ("label" in table.column_names) == labels
    back = Columns.from_table(table).present()
    assert list(back) == list(columns.present())
    for name, value in columns.present().items():
        torch.testing.assert_close(back[name], value, rtol=0, atol=0, equal_nan=True)
        back[name].zero_()  # own memory: writing is safe


def test_concat_undoes_slicing() -> None:
    columns = make_columns(10, 3, labels=True, dim=2)
    whole = Columns.concat([columns[:4], columns[4:5], columns[5:]])
    for name, value in columns.present().items():
        torch.testing.assert_close(whole.present()[name], value, rtol=0, atol=0, equal_nan=True)
    chunked = Columns.from_table(columns.to_table().slice(3, 4))
    assert torch.equal(chunked.singular_values, columns.singular_values[3:7])


@given(
    bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_latent_check_sees_any_change_of_one_number(bits: list[int], data: st.DataObject) -> None:
    numbers = np.array([bits, bits], dtype=np.uint32)
    column = data.draw(st.integers(0, len(bits) - 1))
    numbers[1, column] ^= data.draw(st.integers(1, 2**32 - 1))
    check = latent_check(torch.from_numpy(numbers.view(np.float32)))
    assert check[0] != check[1]


def test_latent_check_by_definition_and_in_blocks() -> None:
    z = ps.Normal().draw(0, torch.arange(30_000), 50)  # more than one block
    bits = z.numpy().view(np.int32).astype(object)
    phi = 0x9E3779B97F4A7C15
    check = latent_check(z)
    for row in (0, 29_999):
        expected = sum(int(b) * phi ** (i + 1) for i, b in enumerate(bits[row])) % 2**64
        assert int(check[row]) % 2**64 == expected
    swapped = z[:, [1, 0, *range(2, 50)]]
    assert not (latent_check(swapped) == check).any()


def test_certify_keeps_unknown_and_flagged_apart() -> None:
    values = torch.tensor([[4.0, 2.0], [4.0, 1e-9], [4.0, 2.0], [4.0, 1e-9]], dtype=torch.float64)
    floor = torch.full((4,), 4e-5, dtype=torch.float64)
    known = torch.tensor([math.nan, math.nan, 1e-6, 1e-6], dtype=torch.float64)
    value, error = certify(values, floor, known, known)
    assert error[0].isnan()
    assert error[1] == error[3] == math.inf
    assert 0.0 < error[2] < 1e-5
    assert value[:2].tolist() == pytest.approx([math.log(8.0), math.log(4.0 * 4e-5)])
