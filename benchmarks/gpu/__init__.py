"""What `benchmarks/gpu.py` measures: cases, the processes that run them, and the table."""
