"""K-quants: the program that makes them is found, run and not believed."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from engine.errors import EngineError, ExitCode
from engine.export import gguf_read, llama_quantize


def program(folder: Path, code: str) -> Path:
    path = folder / "llama-quantize"
    path.write_text(f"#!{sys.executable}\nimport sys, shutil\n{code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_it_is_looked_for_where_a_person_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv(llama_quantize.VARIABLE, raising=False)
    with pytest.raises(EngineError, match="not on PATH") as caught:
        llama_quantize.find(None)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "q8_0" in caught.value.hint
    own = program(tmp_path, "")
    assert llama_quantize.find(str(own)) == own
    monkeypatch.setenv(llama_quantize.VARIABLE, str(own))
    assert llama_quantize.find(None) == own
    with pytest.raises(EngineError, match="no program that can be run") as caught:
        llama_quantize.find(str(tmp_path / "other"))
    assert caught.value.where == "--llama-quantize"
    monkeypatch.delenv(llama_quantize.VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert llama_quantize.find(None) == own


def test_it_is_asked_for_the_type_in_capitals(tmp_path: Path) -> None:
    own = program(tmp_path, "open(sys.argv[2], 'w').write(' '.join(sys.argv[3:]))")
    llama_quantize.run(own, tmp_path / "in.gguf", tmp_path / "out.gguf", "q4_k_m", 2)
    assert (tmp_path / "out.gguf").read_text() == "Q4_K_M 2"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('noise'); sys.exit('unknown tensor \\x1b[2Jtype')", "ended with 1: .*unknown tensor"),
        ("sys.exit(3)", "ended with 3: it said nothing"),
        ("", "wrote no file"),
    ],
)
def test_its_failures_are_told_in_its_words(tmp_path: Path, code: str, said: str) -> None:
    with pytest.raises(EngineError, match=said) as caught:
        llama_quantize.run(program(tmp_path, code), tmp_path / "in", tmp_path / "out", "q4_k_m", 1)
    assert caught.value.code is ExitCode.ENVIRONMENT
    assert "\x1b" not in caught.value.message


def test_its_full_disk_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        llama_quantize.run(
            program(tmp_path, "sys.exit('write: No space left on device')"), tmp_path, tmp_path, "q6_k", 1
        )


def file_of(path: Path, named: str = "Q4_K_M", **tensors: tuple[str, int]) -> Path:
    """A GGUF file that calls itself `named`, a matrix for each name with its type and length of rows."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{named}"])
    for name, (kind, row) in tensors.items():
        stored = gguf.GGMLQuantizationType[kind]
        block, size = gguf.GGML_QUANT_SIZES[stored]
        data = np.zeros((2, row // block * size), dtype=np.uint8)
        if kind in ("F16", "F32"):
            data = np.zeros((2, row), dtype={"F16": np.float16, "F32": np.float32}[kind])
        writer.add_tensor(name, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_that_holds_what_its_name_says(tmp_path: Path) -> None:
    path = file_of(tmp_path / "x", up=("Q4_K", 512), down=("Q6_K", 256), odd=("Q5_0", 576), thin=("F16", 40))
    problems, told = gguf_read.judge_k_quant(path, "q4_k_m")
    assert problems == []
    assert told == [
        "1 matrices with rows of 576 values, no multiple of 256, are stored as q5_0",
        "1 matrices with rows of 40 values, no multiple of 256, are stored as f16",
    ]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"up": ("F16", 512)}, "up is stored as f16"),
        ({"up": ("Q4_K", 512), "odd": ("F16", 576)}, "odd is stored as f16"),
        ({"up": ("Q3_K", 512)}, "up is stored as q3_k"),
        ({"up": ("Q4_K", 512), "named": "F16"}, "its metadata names another type"),
        ({f"up{number}": ("Q8_0", 512) for number in range(9)}, "and 6 more"),
    ],
)
def test_a_file_that_holds_other_types_is_an_error(tmp_path: Path, tensors: dict[str, Any], said: str) -> None:
    problems, _ = gguf_read.judge_k_quant(file_of(tmp_path / "x", **tensors), "q4_k_m")
    assert said in "; ".join(problems)
