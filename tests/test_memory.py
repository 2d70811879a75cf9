import pytest
from polarity_sampling.memory import parse_memory


@pytest.mark.parametrize(
    ("text", "size"), [("1GiB", 2**30), ("2GB", 2 * 10**9), ("1.5 MiB", 3 * 2**19), ("77", 77), (5, 5)]
)
def test_sizes(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "many", "-1", 0, -5, "3XB", True, 1.5, None])
def test_not_sizes(text):
    with pytest.raises(ValueError, match="memory is"):
        parse_memory(text)
