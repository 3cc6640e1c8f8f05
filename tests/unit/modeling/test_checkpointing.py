"""Recomputed layers: the same gradients whatever they keep, products that are not repeated, inputs on the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.modeling import attention, attention_kernels, checkpointing, forward, frozen, fused_lora, offload
from tests.tiny_llama import VOCABULARY, tiny_llama

LAYERS = 3


def make() -> Any:
    model = tiny_llama(LAYERS)
    fused_lora.fuse(model)
    return model.train()


def batch() -> dict[str, Any]:
    ids = torch.randint(0, VOCABULARY, (2, 32), generator=torch.Generator().manual_seed(1))
    return {
        "input_ids": ids,
        "labels": ids.clone(),
        "position_ids": torch.arange(32).expand(2, 32),
        "cu_seq_lens": torch.tensor([0, 20, 32, 64], dtype=torch.int32),
        "max_doc_length": 32,
    }


def gradient(model: Any) -> torch.Tensor:
    model.zero_grad(set_to_none=True)
    forward.loss_sum(model, batch()).backward()
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"keep_last": True},
        {"keep_attention": True},
        {"offload": True},
        {"reentrant": True},
        {"offload": True, "keep_last": True, "keep_attention": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("every", [1, 2])
def test_every_way_gives_the_same_gradient(every, options):
    expected = gradient(make())
    model = make()
    checkpointing.enable(model, every, **options)
    assert torch.equal(gradient(model), expected)


@pytest.fixture
def products(monkeypatch):
    """How many frozen products were formed up to now."""
    counts = {"made": 0}

    def counting(kind: Any) -> None:
        original = kind.forward

        def counted(*arguments: Any) -> Any:
            counts["made"] += 1
            return original(*arguments)

        monkeypatch.setattr(kind, "forward", counted)

    counting(frozen._AddProduct)
    counting(fused_lora._Complete)
    return counts


@pytest.mark.parametrize(
    ("options", "again"),
    [({}, 6 * LAYERS), ({"keep_last": True}, 6 * (LAYERS - 1)), ({"reentrant": True}, 7 * LAYERS)],
    ids=str,
)
def test_a_recomputed_layer_stops_before_its_last_product(products, options, again):
    model = make()
    checkpointing.enable(model, 1, **options)
    gradient(model)
    assert products["made"] == 7 * LAYERS + again


def test_no_checkpointing_recomputes_nothing(products):
    model = make()
    checkpointing.enable(model, 0)
    gradient(model)
    assert products["made"] == 7 * LAYERS


def test_the_next_input_sets_out_when_attention_goes_back(monkeypatch):
    """Layers below the last are parked; each attention's backward pass lets the one before it set out."""
    order: list[str] = []

    def note(word: str, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.numel():  # torch 2.11 saves an empty tensor beside the input
            order.append(word)
        return tensor

    monkeypatch.setattr(offload.Offload, "park", lambda self, tensor: note("park", tensor))
    monkeypatch.setattr(offload.Offload, "fetch", lambda self, parked: note("fetch", parked))
    monkeypatch.setattr(offload.Offload, "start_next", lambda self: order.append("start"))
    plain = attention._by_document

    def by_function(*arguments: Any) -> Any:
        return Announced.apply(plain(*arguments), attention_kernels._current.before_backward)

    monkeypatch.setattr(attention, "_by_document", by_function)
    model = make()
    checkpointing.enable(model, 1, offload=True)
    gradient(model)
    assert [each for each in order if each != "park"] == ["start", "fetch", "start", "fetch", "start"]
    assert order.count("park") == LAYERS - 1


class Announced(torch.autograd.Function):
    """Passes on its input; calls what a fused attention would when its backward pass begins."""

    @staticmethod
    def forward(ctx: Any, out: torch.Tensor, before: Any) -> torch.Tensor:
        ctx.before = before
        return out.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        ctx.before()
        return gradients[0], None


class Event:
    """Stands in for a CUDA event; `order` is shared with its stream."""


class Stream:
    """Stands in for a CUDA stream: work happens at once, what it waited for is noted."""

    def __init__(self, name: str) -> None:
        self.name, self.waited = name, []

    def wait_stream(self, other: Any) -> None:
        self.waited.append(other)

    def wait_event(self, event: Any) -> None:
        self.waited.append(event)

    def record_event(self) -> Event:
        return Event()


class OnCard:
    """Stands in for a tensor on the card, whose data lie here."""

    is_cuda = True
    device = torch.device("cpu")

    def __init__(self, data: torch.Tensor) -> None:
        self.data, self.shape, self.dtype = data, data.shape, data.dtype

    def numel(self) -> int:
        return self.data.numel()

    def element_size(self) -> int:
        return self.data.element_size()

    def is_floating_point(self) -> bool:
        return self.data.is_floating_point()


@pytest.fixture
def storage(monkeypatch):
    """An Offload whose streams are stand-ins and whose host memory is plain."""
    import contextlib

    warnings: list[tuple[str, str]] = []
    found = offload.Offload(lambda code, message: warnings.append((code, message)))
    found._out, found._in = Stream("out"), Stream("in")
    compute = Stream("compute")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: compute)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    plain_copy = torch.Tensor.copy_

    def copy(to: torch.Tensor, source: Any, non_blocking: bool = False) -> torch.Tensor:
        return plain_copy(to, source.data if isinstance(source, OnCard) else source)

    monkeypatch.setattr(torch.Tensor, "copy_", copy)
    found.buffers.pinned = False
    return found, compute, warnings


def activation(seed: int) -> OnCard:
    return OnCard(torch.randn(512, 1024, generator=torch.Generator().manual_seed(seed)))


def test_inputs_come_back_in_the_opposite_order_one_ahead(storage):
    found, compute, _ = storage
    parked = [found.park(activation(seed)) for seed in range(3)]
    assert found.buffers.total_bytes == 3 * 512 * 1024 * 4
    for seed in (2, 1, 0):
        back = found.fetch(parked[seed])
        assert torch.equal(back, activation(seed).data)
        assert parked[seed].arrived in compute.waited, "the layer waits for its input"
        if seed:
            assert parked[seed - 1].back is None, "the widest moment of the layer is still to come"
            found.start_next()
            assert parked[seed - 1].back is not None, "the next one is on its way"
            assert parked[seed - 1].written in found._in.waited, "but not before it was written"


def test_an_input_stays_until_the_compute_stream_waits_for_its_copy(storage):
    """So that whatever gets its memory comes after the copy, however far the host is ahead."""
    found, compute, _ = storage
    first = found.park(activation(0))
    assert found._leaving is not None
    assert first.written not in compute.waited, "the layer itself does not wait for its own input's copy"
    second = found.park(activation(1))
    assert first.written in compute.waited
    assert second.written not in compute.waited
    found.settle()
    assert second.written in compute.waited
    assert found._leaving is None


def test_the_second_step_uses_the_first_ones_buffers(storage):
    found, _, _ = storage
    for _ in range(3):
        parked = [found.park(activation(seed)) for seed in range(4)]
        reads = [each.slot.read for each in parked]
        assert all(read in found._out.waited for read in reads if read is not None), "no buffer is filled while read"
        for each in reversed(parked):
            found.fetch(each)
    assert found.buffers.total_bytes == 4 * 512 * 1024 * 4


def test_a_pass_that_broke_off_gives_its_buffers_back(storage):
    found, _, _ = storage
    parked = [found.park(activation(seed)) for seed in range(3)]
    found.fetch(parked.pop())
    found._last = None
    del parked
    assert sum(len(free) for free in found.buffers._free.values()) == 3


def test_small_tensors_and_numbers_stay_on_the_card(storage):
    found, _, _ = storage
    small, ids = OnCard(torch.zeros(16)), OnCard(torch.zeros(2**20, dtype=torch.int64))
    assert found.park(small) is small
    assert found.fetch(found.park(ids)) is ids


def test_memory_that_cannot_be_pinned_is_said(monkeypatch):
    warnings: list[tuple[str, str]] = []
    buffers = offload.HostBuffers(lambda code, message: warnings.append((code, message)))
    plain = torch.empty

    def refused(*sizes: Any, **options: Any) -> torch.Tensor:
        if options.get("pin_memory"):
            raise RuntimeError("CUDA error: out of memory")
        return plain(*sizes, **options)

    monkeypatch.setattr(torch, "empty", refused)
    assert buffers.take(64).buffer.numel() == 64
    assert buffers.take(64).buffer.numel() == 64
    ((code, message),) = warnings
    assert code == "offload_not_pinned"
    assert "CUDA error: out of memory" in message
