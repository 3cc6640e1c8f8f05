#!/bin/sh
# Speed and memory on one card, beside other trainers: `bench/gpu.sh --help`, docs/benchmarks.md.
root=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -P -m bench.gpu "$@"
