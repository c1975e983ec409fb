"""Programs that measure: `python -m benchmarks.run`, or one of them by name."""
