"""Times of the compiled ops over the perf rows of the case table (tests/ops/cases)."""
