"""Every branch that a CUDA card takes, run without one; `bench/cuda_dry.py` is its command."""
