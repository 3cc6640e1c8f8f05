"""GGUF files of random models, run by llama.cpp itself: are its logits those of the model?

    python -m bench.gguf_families --python PYTHON [--only qwen3 …] [--output FILE.json]

PYTHON is an interpreter that `llama_cpp_logits.py` can run in. Each file is written by the export's own writer in bf16
and widened to fp32, so that no rounding hides a wrong order of rows, scale or turn. Prints, by family, the error of all
logits as a share of their spread, and how often the next token is the same.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from bench import gguf_models

ROWS = [[5 + 7 * number % 1500 for number in range(260)], list(range(900, 1000))]
RESULTS = Path(__file__).with_name("results") / "gguf-llama-cpp.json"


def measure(case: str, folder: Path, python: str) -> dict[str, Any]:
    """What llama.cpp's logits of one family are off by; or why there is no file."""
    import torch

    from engine.errors import EngineError
    from engine.export import parity
    from engine.export.gguf_write import write_gguf

    merged = gguf_models.write_model(case, folder / "merged")
    try:
        write_gguf(merged, folder / "narrow.gguf", "bf16", "x")
    except EngineError as error:
        return {"refused": error.message}
    _widen(folder / "narrow.gguf", folder / "wide.gguf")
    (folder / "rows.json").write_text(json.dumps(ROWS))
    found = [torch.from_numpy(each) for each in _by_llama_cpp(python, folder)]
    off = parity.distance(parity.logits_of(gguf_models.load(merged), ROWS), found)
    return {"relative_rms": float(f"{off.relative:.2g}"), "same_next_token": round(off.top1, 4)}


def _by_llama_cpp(python: str, folder: Path) -> list[Any]:
    import numpy as np

    script = Path(__file__).with_name("llama_cpp_logits.py")
    files = [str(folder / name) for name in ("wide.gguf", "rows.json", "logits.npz")]
    done = subprocess.run([python, str(script), *files], capture_output=True, text=True, check=False)
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        raise RuntimeError("; ".join(told[-3:]) or done.stderr[-500:])
    loaded = np.load(folder / "logits.npz")
    return [loaded[name] for name in loaded]


def _widen(source: Path, target: Path) -> None:
    """The same file with every tensor in fp32."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.get_field("general.architecture").contents()))
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), kind, inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Measure, print each family as it is done, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, metavar="PYTHON")
    parser.add_argument("--only", nargs="+", default=[], choices=tuple(gguf_models.CASES), metavar="FAMILY")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    found = {}
    for case in arguments.only or gguf_models.CASES:
        with tempfile.TemporaryDirectory() as folder:
            found[case] = measure(case, Path(folder), arguments.python)
        print(case, json.dumps(found[case]), file=sys.stderr, flush=True)
    arguments.output.write_text(json.dumps({"llama_cpp": "b11549", "families": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
