"""The project's own benchmarks (``make bench``): they measure and write JSON, and are no tests."""
