"""The steps of benchmarks/gpu.py: modules with `measure(given)`, each run in a process of its own."""
