"""Which class each draw has."""

import numpy as np
import pytest
import torch
from polarity_sampling.samplers.strata import requested_labels


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        (2, [2, 2, 2, 2, 2]),
        (np.int64(2), [2, 2, 2, 2, 2]),
        (torch.tensor(2), [2, 2, 2, 2, 2]),
        ([1], [1, 1, 1, 1, 1]),
        ([3, 0], [3, 0, 3, 0, 3]),
        ((0, 0, 1), [0, 0, 1, 0, 0]),
        (range(5), [0, 1, 2, 3, 4]),
        (torch.tensor([4, 3, 2, 1, 0]), [4, 3, 2, 1, 0]),
        (np.array([4, 1]), [4, 1, 4, 1, 4]),
        ("balanced", [0, 1, 2, 3, 4]),
    ],
)
def test_labels_are_repeated_cyclically(label, wanted):
    found = requested_labels(label, 5, 5)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, wanted)


def test_balanced_over_other_numbers_of_classes():
    np.testing.assert_array_equal(requested_labels("balanced", 5, 3), [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(requested_labels("balanced", 2, 3), [0, 1])


@pytest.mark.parametrize("num_classes", [None, 4])
def test_no_label_means_joint_draws(num_classes):
    assert requested_labels(None, 5, num_classes) is None


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (4, ValueError, "label=4: the classes are 0 to 3"),
        (-1, ValueError, "label=-1: the classes are 0 to 3"),
        ([0, 9], ValueError, "label=9"),
        ([], ValueError, "0 entries for n=2"),
        ([0, 1, 2], ValueError, "3 entries for n=2"),
        ("even", ValueError, "'balanced'"),
        (True, TypeError, "True"),
        (1.0, TypeError, "1.0"),
        ([0, "a"], TypeError, "'a'"),
        ([0.5], TypeError, "0.5"),
        ({1: 2}, TypeError, "expected an integer class"),
    ],
)
def test_labels_that_make_no_sense(label, error, message):
    with pytest.raises(error, match=message):
        requested_labels(label, 2, 4)


@pytest.mark.parametrize("label", [0, [0], "balanced"])
def test_an_unconditional_bank_has_no_classes(label):
    with pytest.raises(ValueError, match="unconditional"):
        requested_labels(label, 2, None)
