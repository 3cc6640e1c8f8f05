"""What nine minutes on one CUDA card can prove; `bench/gpu.sh` runs it, docs/benchmarks.md shows what came out."""
