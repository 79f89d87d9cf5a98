"""The parts of a training: tokens, the base model, the adapter on it, the trainer over all, and what a finished run leaves.

args, everywhere: the settings of finetune_temporal.py, as its parser gives them.
"""

import json

from deepred_common import chat, cli, devices
from deepred_common.cli import UserError
from deepred_common.files import whole_folder, write_text
from deepred_common.models import loading
from deepred_common.training import model_card, run_folder, token_rows


def prepare_tokenizer(args):
    """The base's tokenizer with the chat template that will travel into the GGUF."""
    tokenizer = loading.load_tokenizer(args.model_name, args.trust_remote_code)
    if chat.ensure_template(tokenizer):
        cli.warn(
            "the base has no chat template; a plain question-answer template is used and saved with the adapter."
        )
    if chat.remove_dates(tokenizer):
        cli.progress(
            "the chat template tells the model today's date; these lines are taken out, since they are a leak of the present."
        )
    elif year := chat.date_in_prompt(tokenizer):
        cli.warn(
            f"the chat template puts the year {year} into every prompt, which tells the model what it should not know."
        )
    if tokenizer.pad_token is None:
        # Harmless for the stop: labels are masked by position, not by token.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def make_rows(args, tokenizer, hashes, examples):
    """(training rows, validation rows) as datasets of token_rows.py. What is too long is left out, and said."""
    key = [f"{name} {digest}" for name, digest in hashes.items()] + ([f"dev {args.seed}"] if args.dev else [])
    made = []
    for number, what in enumerate(("training", "validation")):
        dataset, left_out = token_rows.load_or_render(
            tokenizer, [what, *key], lambda number=number: examples()[number], args.max_seq_length
        )
        for side, count in left_out.items():
            if count:
                cli.warn(
                    f"{count} {side} {what} examples are longer than --max_seq_length {args.max_seq_length} and are left out "
                    "(cut, they would teach the model not to stop)."
                )
        made.append(dataset)
    training, validation = token_rows.mixed(made[0], args.mix, args.seed), made[1]
    if len(training) < len(made[0]):
        cli.progress(f"--mix leaves {len(training)} of {len(made[0])} training rows")
    return training, validation


def load_base(args, dtype):
    """The base model, quantised if asked, ready to take an adapter."""
    options = {}
    if devices.on_rocm():
        # Scaled-dot-product attention is a known cause of GPU hangs on ROCm.
        options["attn_implementation"] = "eager"
    if args.use_4bit or args.use_8bit:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=args.use_4bit,
            load_in_8bit=args.use_8bit,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        options["device_map"] = {"": devices.pick_device()}
    try:
        return loading.load_model(args.model_name, dtype, args.trust_remote_code, **options)
    except (ImportError, RuntimeError) as error:
        if "bitsandbytes" in str(error).lower():
            raise UserError(f"the base could not be loaded: {str(error).splitlines()[0]}") from error
        if devices.is_out_of_memory(error):
            raise UserError(
                "the base alone does not fit into memory. Take a smaller model"
                + ("." if args.use_4bit else ", or --use_4bit (NVIDIA only).")
            ) from error
        raise


def add_adapter(args, model, checkpointing, revision):
    """Put a fresh LoRA adapter on every linear layer but the output one (peft's all-linear: right for every family)."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if args.use_4bit or args.use_8bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    # No dropout: its random numbers, drawn one after the other, cost a tenth of a step on a CPU.
    config = LoraConfig(
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules="all-linear",
        base_model_name_or_path=str(args.model_name),
        revision=revision,
    )
    return get_peft_model(model, config)


def save(folder, trainer, tokenizer, manifest, training_metrics, evaluation):
    """Write final/, the two results files, and run.json as finished."""
    if not trainer.is_world_process_zero():
        return
    with whole_folder(folder / "final") as final:
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(str(final))
        tokenizer.save_pretrained(str(final))
        model_card.write(final, manifest, evaluation)
    for name, metrics in (("train", training_metrics), ("eval", evaluation)):
        write_text(folder / f"{name}_results.json", json.dumps(metrics, indent=2) + "\n")
    run_folder.write_manifest(folder, manifest)
