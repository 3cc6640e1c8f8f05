"""Triton kernels on a processor: what its interpreter (3.6) lacks for Liger's kernels, repaired for a test process.

`TRITON_INTERPRET=1` must be set before Triton is imported, and `repair()` must run before Liger's kernels are. bf16
arithmetic is done in fp32 and rounded to the nearest even number, as GPUs do it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any

import numpy as np

LACKING = " and ".join(name for name in ("triton", "liger_kernel") if importlib.util.find_spec(name) is None)
"""Packages that are not installed; empty where the kernels can run."""


def interprets() -> bool:
    """Whether this process was started to interpret kernels."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def widened(data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """bf16, held as uint16, as fp32."""
    return (data.astype(np.uint32) << 16).view(np.float32)


def rounded(data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """fp32 to bf16, held as uint16: to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(data, dtype=np.float32).view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(data), 0x7FC0, nearest).astype(np.uint16)


def repair() -> None:
    """Make the interpreter able to run Liger's kernels; once a process."""
    from triton.runtime import interpreter

    _language_patched_once(interpreter)
    _types_made_once(interpreter)
    _floats_as_tensors(interpreter)
    _scalars_as_indices(interpreter)
    _bf16_arithmetic(interpreter)
    _math_functions()


def _language_patched_once(interpreter: Any) -> None:
    """The interpreter changes the language before each launch and back after it; here once for the process."""
    import triton.language as tl

    patch = interpreter._patch_lang
    scopes: dict[frozenset[int], type] = {}

    def patched(kernel: Any) -> Any:
        modules = frozenset(id(each) for each in kernel.__globals__.values() if each is tl or each is tl.core)
        if modules not in scopes:
            scopes[modules] = type(patch(kernel))
        return scopes[modules]()  # nothing to restore

    interpreter._patch_lang = patched


def _types_made_once(interpreter: Any) -> None:
    """Each value makes its type and its shape anew and compares them, which takes longer than to calculate with it."""
    import triton.language as tl

    block, tensor = tl.block_type, tl.tensor
    make, equal, begin = block.__init__, block.__eq__, tensor.__init__
    blocks: dict[Any, dict[str, Any]] = {}
    empty = (tl.tuple([]), tl.constexpr(1))

    def made(self: Any, element: Any, shape: Any) -> None:
        key = (element, tuple(int(size) for size in shape))
        if key not in blocks:
            make(self, element, shape)
            held = tensor.__new__(tensor)
            begin(held, None, self)
            self.outline = (held.shape, held.numel)
            blocks[key] = vars(self).copy()
        vars(self).update(blocks[key])

    def hold(self: Any, handle: Any, kind: Any) -> None:
        self.handle, self.type, self.dtype = handle, kind, kind.scalar
        self.shape, self.numel = kind.outline if kind.is_block() else empty

    def same(self: Any, other: Any) -> bool:
        known = isinstance(other, block) and self.outline is other.outline
        return bool(self.element_ty == other.element_ty if known else equal(self, other))

    block.__init__, tensor.__init__ = made, hold
    block.__eq__ = same
    tl.pointer_type.__hash__ = block.__hash__ = lambda self: hash(self.name)
    interpreter._get_np_dtype = functools.cache(interpreter._get_np_dtype)


def _floats_as_tensors(interpreter: Any) -> None:
    """Kernels call `.to` on float arguments, which arrive as Python numbers."""
    import triton.language as tl

    convert = interpreter._implicit_cvt

    def converted(value: Any) -> Any:
        if not isinstance(value, float):
            return convert(value)
        return tl.tensor(interpreter.TensorHandle(np.array([value], dtype=np.float32), tl.float32), tl.float32)

    interpreter._implicit_cvt = converted


def _scalars_as_indices(interpreter: Any) -> None:
    """Loop bounds are arrays of one element, which numpy 2.4 no longer takes for an index."""
    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


def _bf16_arithmetic(interpreter: Any) -> None:
    """The interpreter holds bf16 as integers and would calculate with those."""
    import triton.language as tl

    builder, handle = interpreter.InterpreterBuilder, interpreter.TensorHandle
    binary_op, cast = builder.binary_op, builder.cast_impl

    def calculated(self: Any, left: Any, right: Any, operation: Any) -> Any:
        if left.dtype.scalar != tl.bfloat16:
            return binary_op(self, left, right, operation)
        result = operation(widened(left.data), widened(right.data))
        return handle(rounded(result) if result.dtype == np.float32 else result, tl.bfloat16)

    def converted(self: Any, source: Any, wanted: Any) -> Any:
        if tl.bfloat16 not in (source.dtype.scalar, wanted.scalar):
            return cast(self, source, wanted)
        data = widened(source.data) if source.dtype.scalar == tl.bfloat16 else source.data
        if wanted.scalar == tl.bfloat16:
            return handle(rounded(data.astype(np.float32)), tl.bfloat16)
        return handle(data.astype(interpreter._get_np_dtype(wanted)), wanted.scalar)

    builder.binary_op, builder.cast_impl = calculated, converted


def _math_functions() -> None:
    """CUDA's math library has no bodies here."""
    from triton.language.extra import libdevice

    from tests import triton_math

    libdevice.rsqrt, libdevice.tanh = triton_math.rsqrt, triton_math.tanh
