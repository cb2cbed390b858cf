"""The steps of benchmarks/gpu.py, each a module with `measure(given)`, run in a process of its own."""
