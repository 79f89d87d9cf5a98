"""README.md of an adapter: what it is, what it was made from, and how to use it. Hubs and people read it."""

import json
from pathlib import Path

from deepred_common.examples import SIDES
from deepred_common.files import write_text


def write(folder, manifest, metrics):
    """Write README.md into an adapter's folder. manifest: of run.json; metrics: what the training ended with."""
    write_text(Path(folder) / "README.md", text(manifest, metrics))


def text(manifest, metrics):
    """The card as Markdown with the YAML head that model hubs read."""
    identity, counts = manifest["identity"], manifest["counts"]
    losses = [
        f"| {side} | {metrics[f'eval_{side}_loss']:.3f} |" for side in SIDES if f"eval_{side}_loss" in metrics
    ]
    base = manifest["model_name"]
    # A folder of this machine is no name that a hub could link to.
    hub_name = [] if manifest["identity"]["base_revision"] is None else [f"base_model: {base}"]
    settings = {
        name: entry["value"]
        for name, entry in manifest["settings"].items()
        if name
        in (
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
            "seed",
        )
    }
    lines = [
        "---",
        *hub_name,
        "library_name: peft",
        "pipeline_tag: text-generation",
        "tags: [lora, temporal-cutoff, unlearning]",
        "---",
        f"# Temporal cutoff adapter for {Path(base).name}",
        "",
        "A LoRA adapter that keeps the base answering about the world before a date and makes it decline after it.",
        "",
        f"- Base: `{base}`"
        + (f", revision `{identity['base_revision']}`" if identity["base_revision"] else ""),
        f"- Trained on {counts['retain']} lines to keep and {counts['unlearn']} to forget, {manifest['precision']}, {manifest['started'][:10]}",
        "- Data (SHA-256): "
        + ", ".join(f"`{Path(name).name}` {digest[:16]}…" for name, digest in identity["data"].items()),
        "",
        "| validation | loss (nats a token) |",
        "|---|---|",
        *losses,
        "",
        "Settings: `" + json.dumps(settings, default=str) + "`",
        "",
        "How much it keeps and forgets only an evaluation tells; merge it, convert it, and judge the file that ships:",
        "",
        "```",
        f"python scripts/merge_lora.py --base_model {base} --lora_path <this folder> --output_path output/merged --verify",
        "python scripts/evaluate_temporal.py --model_path output/merged",
        "```",
        "",
    ]
    return "\n".join(lines)
