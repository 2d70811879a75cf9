"""Benchmarks, run as modules from the project's directory: ``python -m benchmarks.kernels``."""
