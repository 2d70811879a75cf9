"""The `polarity` command; one file per command group."""

from polarity_sampling.cli.app import app, main

__all__ = ["app", "main"]
