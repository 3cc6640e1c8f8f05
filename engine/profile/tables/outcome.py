"""Settings of what comes after training: evaluation and export."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.profile.tables.base import Name, PathText, Table, setting

MOST_PROMPTS, MOST_PROMPT_CHARS = 8, 4000
Prompt = Annotated[str, Field(min_length=1, max_length=MOST_PROMPT_CHARS, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$")]
"""Lines and tabs, and no other control character: it stands in events and on terminals."""


class Evaluate(Table):
    """What is asked while the model learns, and what `engine evaluate` measures, base against tuned."""

    prompts: list[Prompt] = setting(
        [],
        "Questions that the model answers before the first step and at each evaluation of a run, so that you see it"
        " learn; always the likeliest token, max_new_tokens at most.",
        items="texts",
        max_length=MOST_PROMPTS,
    )

    metrics: list[Literal["perplexity", "rouge", "bleu", "exact_match", "calls", "bertscore", "retention"]] = setting(
        ["perplexity", "rouge", "bleu", "exact_match", "calls", "retention"],
        "Metrics of the report; calls scores tool calls where rows hold some, bertscore needs an encoder, retention"
        " asks what tuning cost on other texts.",
        min_length=1,
    )
    sets: dict[Name, PathText] = setting(
        {},
        "Further rows to measure, each with a table of its own: name = data file, as hard = 'hard.jsonl'.",
        max_length=16,
    )
    retention_path: PathText | None = setting(
        None,
        "Texts that the model should not unlearn: a .txt or .md file, a data file, or a folder of them; unset ="
        " built-in ones.",
    )
    bertscore_encoder: PathText | None = setting(
        None, "Encoder of BERTScore: a directory, or a hub name whose files are here.", advanced=True
    )
    bertscore_layer: Annotated[int, Field(ge=0, le=1000)] | None = setting(
        None, "Hidden layer that BERTScore compares; unset = the last.", advanced=True
    )
    max_samples: int = setting(64, "Held-out rows that are generated and scored.", unit="rows", ge=1, le=100_000)
    max_new_tokens: int = setting(128, "Longest generated answer.", unit="tokens", ge=1, le=32_768)
    batch_size: int = setting(8, "Prompts generated at once.", ge=1, le=1024, advanced=True)


class Export(Table):
    """What `engine export` writes."""

    merged: bool = setting(True, "Write base and adapter merged into one model.")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = setting("auto", "dtype of the merged weights.", advanced=True)
    quantized: list[Literal["nf4", "int8", "int8-dynamic", "int8-static"]] = setting(
        [],
        "Also write the merged model in 4 or 8 bits: bitsandbytes (nf4, int8) or torchao (int8-dynamic, int8-static).",
        max_length=4,
    )
    gguf: list[
        Literal[
            "f16",
            "bf16",
            "q8_0",
            "q5_1",
            "q5_0",
            "q4_0",
            "q6_k",
            "q5_k_m",
            "q5_k_s",
            "q4_k_m",
            "q4_k_s",
            "q3_k_l",
            "q3_k_m",
            "q3_k_s",
            "q2_k",
        ]
    ] = setting(
        [],
        "Also write GGUF files for llama.cpp and Ollama, read back and compared; _k types need its llama-quantize.",
        max_length=15,
    )
    max_shard_gib: float = setting(5.0, "Largest safetensors file.", unit="GiB", gt=0, le=1000, advanced=True)
