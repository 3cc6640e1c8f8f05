"""Quantized and GGUF exports: smaller, the same when they are loaded again, and usable as their cards say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.data.conversation import Conversation
from engine.export.ollama.go_parse import parse
from engine.export.ollama.go_run import execute
from engine.export.ollama.values import values_of
from tests.process.conftest import FAST, Shell
from tests.warm.use import use_template

pytestmark = pytest.mark.usefixtures("warm_workers")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, worker_template):
    shell = Shell(tmp_path_factory.mktemp("quantized"))
    with pytest.MonkeyPatch.context() as patch:
        use_template(worker_template, patch)
        done = shell.engine("train", shell.write("p.toml", FAST), "--json")
    assert done.code == 0, done.err
    return shell


HELLO = {"role": "user", "content": "Hello"}
STORED = {"nf4": "uint8", "int8": "int8", "int8-dynamic": "int8", "int8-static": "int8"}
CONTINUE = "\nprint('LOGITS', [round(float(x), 3) for x in model(**inputs).logits[0, -1, :5]])"


def run_cards(trained, **codes: tuple[str, str]) -> dict[str, str]:
    """What pieces of code print, each in a folder, in one fresh process that knows nothing of the engine."""
    script = "import contextlib, io, json, os, sys\nsaid = {}\n"
    for name, (folder, code) in codes.items():
        code = code.replace("max_new_tokens=128", "max_new_tokens=4")
        script += (
            f"os.chdir({folder!r})\nwith contextlib.redirect_stdout(io.StringIO()) as out:\n    exec({code!r}, {{}})\n"
        )
        script += f"said[{name!r}] = out.getvalue()\n"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script + "assert 'engine' not in sys.modules\nprint(json.dumps(said))"],
        env=trained.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, str] = json.loads(ran.stdout)
    return found


def test_each_kind_is_written_compared_and_runs_as_its_card_says(trained):
    done = trained.engine("export", "last", "--output", "out", *(f"--quantize={kind}" for kind in STORED), "--json")
    assert done.code == 0, done.err
    result = done.json
    entries = {made["format"]: made for made in result["parity"]["formats"]}
    assert list(entries) == ["adapter", "merged", *STORED]
    assert result["nf4_bytes"] < result["int8_bytes"] < result["merged_bytes"]
    for method, stored in STORED.items():
        found = entries[method]
        assert found["reloaded_max_abs_diff"] <= 1e-3
        assert found["top1_agreement"] > 0.5
        assert found["stored"][stored] > 0
        assert found["size_bytes"] < 0.7 * entries["merged"]["size_bytes"]
        assert found["memory_bytes"] < 0.7 * entries["merged"]["memory_bytes"]
        assert found["template_survives"]
        assert found["stops_survive"]
        assert 0.5 < found["perplexity"] / entries["merged"]["perplexity"] < 1.5
        assert len(found["rows"]) == 4
        assert len(found["answers"]) == 3
        card = (Path(result[method]) / "README.md").read_text()
        assert f"{method} by " in card
        assert "compared with the merged model in" in card
        assert "weights in memory:" in card
    page = (Path(result["output"]) / "parity.txt").read_text().splitlines()
    assert [line.split()[0] for line in page[:7]] == ["format", *entries]
    assert max(len(line) for line in page[:7]) <= 80
    assert json.loads((Path(result["output"]) / "parity.json").read_text()) == result["parity"]
    codes = {
        method: re.findall(r"```python\n(.*?)```", (Path(result[method]) / "README.md").read_text(), re.DOTALL)[0]
        for method in STORED
    }
    # Fixed scales change what the same weights answer: a card without them would load another model.
    loose = codes["int8-static"].partition("for name, scale")[0] + codes["int8-dynamic"].partition('"auto")')[2]
    said = run_cards(
        trained,
        nf4=(result["nf4"], codes["nf4"]),
        int8=(result["int8"], codes["int8"]),
        dynamic=(result["int8-dynamic"], codes["int8-dynamic"] + CONTINUE),
        static=(result["int8-static"], codes["int8-static"] + CONTINUE),
        loose=(result["int8-static"], loose + CONTINUE),
    )
    assert all(said.values())
    logits = {name: text.partition("LOGITS")[2] for name, text in said.items()}
    assert logits["loose"] == logits["dynamic"] != logits["static"]


def test_an_adapter_alone_is_not_quantized(trained):
    done = trained.engine("export", "last", "--no-merged", "--quantize", "nf4", "--json")
    assert done.code == 2
    assert "only a merged model is quantized" in done.json["error"]["message"]


def test_gguf_files_are_compared_and_come_with_a_modelfile(trained):
    kinds = ("f16", "q8_0", "q4_0")
    done = trained.engine("export", "last", "--output", "out", *(f"--gguf={kind}" for kind in kinds), "--json")
    assert done.code == 0, done.err
    result = done.json
    entries = {made["format"]: made for made in result["parity"]["formats"][2:]}
    assert tuple(entries) == kinds
    sizes = [found["size_bytes"] for found in entries.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert entries["f16"]["relative_rms"] < 1e-3
    # The rounding that gguf-py's own quantizer is known for.
    assert 0.06 < entries["q4_0"]["largest_weight_error"] < 0.12
    assert entries["q8_0"]["largest_weight_error"] < 0.01
    assert {path.name for path in Path(result["gguf"]).iterdir()} == {
        "Modelfile",
        *(found["file"] for found in entries.values()),
    }
    modelfile = (Path(result["gguf"]) / "Modelfile").read_text()
    assert f"FROM ./{entries['f16']['file']}\n" in modelfile
    assert 'PARAMETER stop "<|im_end|>"\n' in modelfile
    ollama = result["parity"]["ollama"]
    assert ollama["written"]
    assert ollama["equal"] == ollama["compared"] >= 200
    _, _, template = modelfile.partition('TEMPLATE """')
    written = execute(parse(template.partition('"""\nPARAMETER')[0]), values_of(Conversation([HELLO])))
    assert written == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    card = (Path(result["output"]) / "merged" / "README.md").read_text()
    assert f"{ollama['equal']} of {ollama['compared']} conversations" in card
    again = trained.write("again.toml", FAST.replace('"demo"', f'"{result["gguf"]}/{entries["f16"]["file"]}"', 1))
    checked = trained.engine("profile", "check", again, "--json")
    assert checked.code == 0, checked.out
    code = (
        "from transformers import AutoModelForCausalLM as Model, AutoTokenizer, GgufConfig\n"
        f"file = {entries['q4_0']['file']!r}\n"
        "tokenizer = AutoTokenizer.from_pretrained('.', gguf_file=file)\n"
        "whole = GgufConfig(gguf_file=file, dequantize=True)\n"
        "model = Model.from_pretrained('.', gguf_file=file, quantization_config=whole)\n"
        "inputs = tokenizer('<|im_start|>user\\nHello<|im_end|>\\n', return_tensors='pt')\n"
        "output = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3)\n"
        "print('NEW', output.shape[1] - inputs.input_ids.shape[1])\n"
    )
    assert "NEW 3" in run_cards(trained, gguf=(result["gguf"], code))["gguf"]


def test_k_quants_without_their_program_or_with_a_liar(trained):
    done = trained.engine("export", "last", "--gguf=q4_k_m", "--llama-quantize=./nothing", "--json")
    assert done.code == 9
    assert "no program that can be run" in done.json["error"]["message"]
    liar = Path(trained.folder) / "llama-quantize"
    liar.write_text(f"#!{sys.executable}\nimport shutil, sys\nshutil.copy(sys.argv[1], sys.argv[2])\n")
    liar.chmod(0o755)
    done = trained.engine("export", "last", "--gguf=q4_k_m", f"--llama-quantize={liar}", "--json")
    assert done.code == 9
    assert "is stored as bf16, not q4_k_m" in done.json["error"]["message"] or "f16" in done.json["error"]["message"]
    assert not (trained.runs[0] / "export").exists()


def test_pushing_needs_a_token_before_anything_is_exported(trained):
    done = trained.engine("export", "last", "--push", "me/model", "--json")
    assert done.code == 9
    assert "no token" in done.json["error"]["message"]
    assert not (trained.runs[0] / "export").exists()
    assert trained.engine("export", "last", "--public", "--json").code == 2


def test_files_that_are_not_what_was_quantized_are_an_error():
    from engine.export.parity import Distance
    from engine.export.quantized import _problems

    same, off = (Distance(0.0, 0.0, share, 0.0, 1.0, 9) for share in (0.0, 0.2))
    assert _problems("nf4", same, {"uint8": 5, "bf16": 1}) == []
    assert _problems("int8-static", off, {"bf16": 5}) == [
        "loaded again, its int8-static logits are off by 0.2 of their spread",
        "it is stored as bf16, not int8-static",
    ]


def test_names_are_the_same_everywhere():
    from typing import get_args

    from engine.export.formats import BY_NAME, GGUF, QUANTIZED
    from engine.profile.tables.outcome import Export

    def literals(kind):
        parts = get_args(kind)
        return [text for part in parts for text in ([part] if isinstance(part, str) else literals(part))]

    assert set(literals(Export.model_fields["quantized"].annotation)) == set(QUANTIZED)
    assert set(literals(Export.model_fields["gguf"].annotation)) == set(GGUF)
    assert set(BY_NAME) == {*QUANTIZED, *GGUF}
