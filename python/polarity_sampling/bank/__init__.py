"""A stored set of latents with their singular values."""

from polarity_sampling.bank.bank import Bank
from polarity_sampling.bank.metadata import BankMetadata, Environment

__all__ = ["Bank", "BankMetadata", "Environment"]
