"""A written model loaded as a stranger would, by plain transformers and what its card says.

The parity check reads this model. Raises EngineError(MODEL) with the error that a stranger would see.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from engine.data.chat import adapted, choose_template
from engine.data.conversation import Conversation
from engine.errors import EngineError, ExitCode
from engine.export.report import FormatAnswer
from engine.inference import scales
from engine.modeling.wrappers import generating_class


def load_again(folder: Path) -> tuple[Any, Any]:
    """(model, tokenizer) from the files alone, in the dtype that they store."""
    from transformers import AutoTokenizer

    with readable("the written model cannot be loaded again", folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = loader_of(folder).from_pretrained(folder, dtype="auto", local_files_only=True, use_safetensors=True)
        scales.put_on_from(model, folder)
    return model.eval(), tokenizer


def loader_of(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """transformers' auto class of the model in `folder`: a model that also sees is loaded whole."""
    from transformers import AutoConfig

    return generating_class(
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    )


@contextmanager
def readable(otherwise: str, path: Path) -> Iterator[None]:
    """What libraries raise for files that they cannot read, as EngineError(MODEL) that says `otherwise`."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineError(
            f"{otherwise}: {first}",
            code=ExitCode.MODEL,
            where=path.name,
            hint="an earlier export stands as it was; please report this with the run's log",
        ) from error


@torch.inference_mode()
def answer(model: Any, tokenizer: Any, conversation: Conversation, max_new_tokens: int) -> FormatAnswer:
    """One greedy answer with the model's own stop tokens: its text, tokens, and whether it ended by itself."""
    if tokenizer.chat_template is None:
        inputs = tokenizer(conversation.turns[-1]["content"], return_tensors="pt").to(model.device)
    else:
        asked = adapted(tokenizer, choose_template(tokenizer), conversation)
        inputs = tokenizer.apply_chat_template(
            list(asked.turns),
            tools=list(asked.tools) or None,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
            **asked.arguments,
        ).to(model.device)
    own = model.generation_config.eos_token_id
    stops = own if isinstance(own, list) else [own]
    output = model.generate(
        **inputs, max_new_tokens=max_new_tokens, do_sample=False, temperature=None, top_p=None, top_k=None
    )
    new = output[0, inputs["input_ids"].shape[1] :].tolist()
    stopped = bool(new) and new[-1] in stops
    text = tokenizer.decode(new, skip_special_tokens=True)
    return FormatAnswer(text, len(new), stopped)
