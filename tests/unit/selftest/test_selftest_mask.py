"""What is replaced in words of errors, and what stays."""

from __future__ import annotations

import pytest

from engine.selftest.mask import clean
from engine.selftest.record import to_json

REPLACED = [
    ("cannot open /mnt/my data/ann smith/x: no such file", "cannot open <path>: no such file"),
    ("cannot open /mnt/my data/ann smith/x", "cannot open <path>"),
    (
        "[Errno 2] No such file: '/mnt/my data/ann smith/x.bin', see",
        "[Errno 2] No such file: '<path>', see",
    ),
    ('"/mnt/ann\'s data/model.safetensors" is damaged', '"<path>" is damaged'),
    ("'/mnt/ann's data/y' and `/srv/b c`", "'<path>' and `<path>`"),
    ("in /mnt/ann's data/y: no", "in <path>: no"),
    ("/a b/c:d e/f:12: wrong", "<path>:12: wrong"),
    ("first /a b/c\nsecond line", "first <path>\nsecond line"),
    ("in ~/my models/x: no", "in <path>: no"),
    ("in ~ann/my models/x: no", "in <path>: no"),
    (r"in C:\Users\ann smith\x: no", "in <path>: no"),
    (r"in \\tower\ann smith\x: no", "in <path>: no"),
    ("(/opt/secret)", "(<path>"),
    ("cwd=/opt/secret", "cwd=<path>"),
    (
        'File "/home/ann b/lib/python3.12/site-packages/torch/nn/modules/linear.py", line 3',
        'File "<path>/torch/nn/modules/linear.py", line 3',
    ),
    ("see https://ann:pw@git.firm.example/x?y=1 now", "see <address> now"),
    ("file:///mnt/ann/x", "<address>"),
    ("ask ann.smith+x@firm.example or ann@tower", "ask <mail> or <mail>"),
    ("no route to node-7.cluster3.firm.com.", "no route to <host>."),
    ("gpu01.physik.uni-x.de:29500 is closed", "<host>:29500 is closed"),
    ("annas.lan and ann.local and a.b.io", "<host> and <host> and <host>"),
    ("10.1.2.3:29500 and 192.168.0.12", "<address>:29500 and <address>"),
    ("fe80::1%eth0, [2001:db8::7]:80 and ::1", "<address>, [<address>]:80 and <address>"),
    ("de:ad:be:ef:00:01", "<address>"),
]
KEPT = [
    "torch.nn.functional.linear, torch.io, torch.int, model.to(device), self.co(), x.it()",
    "model.safetensors, adapter_model.bin, tokenizer.json, train.py, x.pt, README.md, nn.so",
    "torch 2.13.0+cu130, driver 580.95.05, cuDNN 9.10.2.21, CUDA 13.0",
    "1,234 tokens/s, 3 / 4, and/or, n/a, error +/-5 %, 12:30:45, </s>, bf16/fp16",
    "at::native::add, c10::Error, std::vector<int>, a::b",
    "smollm2-135m-instruct lora bf16, Qwen2.5-0.5B, llama-3.2-1b, meta-llama/Llama-3.1-8B",
    "2026-11-27 12:00 UTC, 4.9e-07, x = y @ z",
]


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    monkeypatch.setattr("engine.selftest.mask._users", set)
    monkeypatch.setattr("engine.selftest.mask._hosts", set)


@pytest.mark.parametrize(("text", "cleaned"), REPLACED)
def test_what_tells_where_somebody_is_goes(text, cleaned):
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned, "once is enough"


@pytest.mark.parametrize("text", KEPT)
def test_what_an_issue_needs_stays(text):
    assert clean(text) == text


def test_a_record_without_names_stays_as_it_is(record):
    found = to_json(record())
    assert clean(found) == found
