"""LLaMA-Factory's keys that have no place in a profile, with the reason for each."""

from __future__ import annotations

from engine.profile.foreign import shared
from engine.profile.foreign.draft import Draft, Rule, Rules, is_off, listed, missing, needless
from engine.profile.foreign.yamltext import Entry

TEXT_ONLY = "only text is trained here"
_OTHER_STEP = "of another step than training: engine export, engine chat and engine evaluate"
_OTHER_STEPS = (
    "export_dir",
    "export_size",
    "export_device",
    "export_legacy_format",
    "export_quantization_bit",
    "export_quantization_dataset",
    "export_quantization_nsamples",
    "export_quantization_maxlen",
    "export_hub_model_id",
    "infer_backend",
    "infer_dtype",
    "use_kv_cache",
    "offload_folder",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "num_beams",
    "max_length",
    "repetition_penalty",
    "length_penalty",
    "eval_num_beams",
)
_DETAILS = {
    "galore": ("target", "rank", "update_interval", "scale", "proj_type", "layerwise"),
    "apollo": (
        "target",
        "rank",
        "update_interval",
        "scale",
        "proj",
        "proj_type",
        "scale_type",
        "layerwise",
        "scale_front",
    ),
    "badam": ("mode", "start_block", "switch_mode", "switch_interval", "update_ratio", "mask_mode", "verbose"),
}
_SWANLAB = ("project", "workspace", "run_name", "mode", "logdir", "api_key", "lark_webhook_url", "lark_secret")


def _of(owner: str) -> Rule:
    """A detail of a method: says nothing unless that is on, and is not carried over then."""

    def rule(draft: Draft, entry: Entry) -> None:
        off = is_off(draft.value(owner))
        reason = f"a detail of {owner}, which is off" if off else f"a detail of {owner}, which is not here"
        draft.note("not needed" if off else "left out", entry.key, f"{listed(entry.value, entry.key)}: {reason}")

    return rule


ABSENT: Rules = {
    "new_special_tokens_config": missing("new marks start from the mean of the others (add_special_tokens)"),
    "init_special_tokens": _of("new_special_tokens_config"),
    "image_max_pixels": missing(TEXT_ONLY),
    "video_max_pixels": missing(TEXT_ONLY),
    "image_min_pixels": missing(TEXT_ONLY),
    "video_min_pixels": missing(TEXT_ONLY),
    "video_fps": missing(TEXT_ONLY),
    "video_maxlen": missing(TEXT_ONLY),
    "use_audio_in_video": missing(TEXT_ONLY),
    "audio_sampling_rate": missing(TEXT_ONLY),
    "low_cpu_mem_usage": needless("weights go straight from file to device"),
    "cache_dir": needless("models are found where the hub keeps them: HF_HOME"),
    "compute_accuracy": needless("engine evaluate RUN scores answers"),
    "include_effective_tokens_per_second": needless("speed is always counted"),
    "print_param_status": needless("engine profile check says what learns"),
    "disable_shuffling": shared.off_unless(False, "examples are always shuffled by the seed"),
    "use_reentrant_gc": needless("there is one way of checkpointing"),
    "use_unsloth_gc": missing("train.activation_checkpointing = 'offload' moves inputs to main memory"),
    "kto_chosen_weight": shared.off_unless(1.0, "good and bad answers weigh the same"),
    "kto_rejected_weight": shared.off_unless(1.0, "good and bad answers weigh the same"),
    "dpo_label_smoothing": missing("no label smoothing"),
    "pref_bco_weight": missing("no other loss is added to the preference loss"),
    "simpo_gamma": shared.off_unless(0.5, "a detail of SimPO, which is not here"),
    "ref_model": missing("answers are compared with the base itself"),
    "ref_model_adapters": missing("answers are compared with the base itself"),
    "create_new_adapter": missing("training goes on with the adapter that it starts from (tuning.adapter)"),
    "loraplus_lr_embedding": shared.off_unless(1e-6, "embeddings learn at the rate of the other weights"),
    "moe_aux_loss_coef": missing("the router of a mixture stays frozen"),
    "upcast_layernorm": missing("norms compute in their own precision"),
    "upcast_lmhead_output": missing("the head computes in the precision of the others"),
    "shift_attn": missing("attention sees whole documents"),
    **{key: missing(_OTHER_STEP) for key in _OTHER_STEPS},
    **{
        key: missing("this method is not here")
        for key in (
            "use_galore",
            "use_apollo",
            "use_badam",
            "use_muon",
            "use_adam_mini",
            "use_llama_pro",
            "fp8",
            "use_kt",
        )
    },
    **{
        key: missing("this loss is not here")
        for key in ("use_dft_loss", "use_asft_loss", "use_eaft_loss", "mixture_of_depths")
    },
    **{f"{owner}_{name}": _of(f"use_{owner}") for owner, details in _DETAILS.items() for name in details},
    **{f"swanlab_{name}": _of("use_swanlab") for name in _SWANLAB},
    "asft_alpha": _of("use_asft_loss"),
    "eaft_alpha": _of("use_eaft_loss"),
    "fp8_backend": _of("fp8"),
    "fp8_enable_fsdp_float8_all_gather": _of("fp8"),
    "ray_num_workers": needless("one machine is used"),
    "use_v1_kernels": needless("kernels are chosen for the machine: train.kernels"),
    "use_swanlab": missing("known are tensorboard, wandb, mlflow and trackio (train.report_to)"),
}
