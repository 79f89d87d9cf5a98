"""README.md of a result: what it is, what it was made from, and how to use it. Model hubs and people read
it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepred_common.examples import ALL_SIDES
from deepred_common.files import write_text
from deepred_common.training import validation
from deepred_common.training.settings import UNUSED

SHOWN_SETTINGS = (
    "epochs",
    "batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "max_seq_length",
    "lora_r",
    "lora_alpha",
    "use_4bit",
    "use_8bit",
    "mix",
    "replay_share",
    "seed",
)
SHOWN_HASH_DIGITS = 16


def write(folder: Path, manifest: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Write README.md into the folder of a result. manifest: of run.json; metrics: of the last validation."""
    write_text(Path(folder) / "README.md", text(manifest, metrics))


def text(manifest: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """The card as Markdown with the YAML head that model hubs read."""
    identity, counts, base = manifest["identity"], manifest["counts"], manifest["model_name"]
    revision = identity["base_revision"]
    # A base without a revision is a folder of this machine; a hub could not link to it.
    hub_name = [] if revision is None else [f"base_model: {base}"]
    with_revision = f", revision `{revision}`" if revision else ""
    settings = {
        name: entry["value"]
        for name, entry in manifest["settings"].items()
        if name in SHOWN_SETTINGS and entry["value"] != UNUSED
    }
    name = Path(base).name
    if identity.get("full"):
        library, tags, folder = "transformers", "temporal-cutoff, unlearning", "MODEL_FOLDER"
        title = f"{name} with a temporal cutoff"
        what = "All weights of the base were trained. It"
    else:
        library, tags, folder = "peft", "lora, temporal-cutoff, unlearning", "ADAPTER_FOLDER"
        title = f"Temporal cutoff adapter for {name}"
        what = "A LoRA adapter. With it the base"
    data = [f"`{name}` {digest[:SHOWN_HASH_DIGITS]}…" for name, digest in identity["data"].items()]
    objective = identity["objective"]
    parameters = {name: value for name, value in objective.items() if name != "name"}
    losses = [
        f"| {side} | {metrics[f'eval_{side}_loss']:.3f} |"
        for side in ALL_SIDES
        if f"eval_{side}_loss" in metrics
    ]
    kept = []
    if "kept_update" in manifest:
        figures = validation.text(metrics)
        kept = [f"- Update {manifest['kept_update']} of {manifest['updates']}{figures and f': {figures}'}"]
    merge = f"python scripts/merge_lora.py --base_model {shlex.quote(base)} --lora_path {folder}"
    return "\n".join(
        [
            "---",
            *hub_name,
            f"library_name: {library}",
            "pipeline_tag: text-generation",
            f"tags: [{tags}]",
            "---",
            f"# {title}",
            "",
            f"{what} answers about the world before a date, and declines after it.",
            "",
            f"- Base: `{base}`{with_revision}",
            f"- Trained on {counts['retain']} retain, {counts['unlearn']} unlearn and "
            f"{counts.get('chat', 0)} chat examples, "
            f"{manifest['precision']}, {manifest['started'][:10]}",
            f"- Objective: `{objective['name']}` {json.dumps(parameters)}",
            f"- Data (SHA-256): {', '.join(data)}",
            *kept,
            "",
            "| validation | loss (nats) |",
            "|---|---|",
            *losses,
            "",
            f"Settings: `{json.dumps(settings, default=str)}`",
            "",
            "Only an evaluation shows what it answers and what it declines. "
            "Merge it, convert it, and evaluate the file that you use:",
            "",
            "```",
            f"{merge} --output_path output/merged --verify",
            "python scripts/convert_to_gguf.py --model_path output/merged --output_path output/merged.gguf",
            "python scripts/evaluate_temporal.py --model_path output/merged.gguf",
            "```",
            "",
        ]
    )
