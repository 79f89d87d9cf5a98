"""The parts of a training, made from its settings: tokenizer, rows of tokens, base model and adapter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from deepred_common import chat, cli, devices, template_changes
from deepred_common.cli import UserError
from deepred_common.examples import UNLEARN
from deepred_common.models import loading
from deepred_common.training import other_replies, replay, token_rows

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from deepred_common.examples import Example
    from deepred_common.training.data_files import DataFiles
    from deepred_common.training.machine import Machine
    from deepred_common.training.settings import TrainSettings


class Rows(NamedTuple):
    """What is trained on and validated with: datasets of the rows that token_rows.py describes."""

    training: Dataset
    validation: Dataset


def prepare_tokenizer(settings: TrainSettings, rows: int) -> PreTrainedTokenizerBase:
    """The base's tokenizer with the chat template that will travel into the GGUF file.

    rows: of the base's embedding. UserError if the template needs a token that has none.
    """
    tokenizer = loading.load_tokenizer(settings.model_name, settings.trust_remote_code)
    if chat.ensure_template(tokenizer):
        cli.warn(
            "the base has no chat template; a plain question-answer template is used and saved with "
            f"the {settings.product}."
        )
    if template_changes.remove_dates(tokenizer):
        cli.progress(
            "the chat template tells the model today's date; these lines are removed, since they leak "
            "the present."
        )
    elif year := template_changes.date_in_prompt(tokenizer):
        cli.warn(
            f"the chat template puts the year {year} into every prompt, which tells the model what it "
            "should not know."
        )
    if chat.remove_eos(tokenizer):
        cli.progress(
            "the tokenizer puts EOS after each text, so a server would after each prompt: it is switched off."
        )
    loading.require_rows(tokenizer, rows, settings.model_name, chat.prompt_ids(tokenizer, "Q"))
    loading.require_rows(tokenizer, rows, settings.model_name, chat.stop_ids(tokenizer))
    if tokenizer.pad_token is None or tokenizer.pad_token_id >= rows:
        # Harmless for the stop: labels are masked by position, not by token.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def make_rows(
    settings: TrainSettings,
    tokenizer: PreTrainedTokenizerBase,
    data: DataFiles,
    base_key: Sequence[str],
    load_base: Callable[[], PreTrainedModel],
    device: torch.device,
) -> Rows:
    """The Rows of the data files, and those of replay. Too long examples are skipped, and the number printed.

    base_key: texts that tell the base from others. load_base() is called if the base must write replies,
    which it does on `device`.
    """

    def write(unanswered: Sequence[Example]) -> Sequence[Example]:
        # A dry run loads no base, and one without a chat template would go on as a document does.
        if settings.dry_run or chat.has_fallback_template(tokenizer):
            return unanswered
        return replay.completed(unanswered, base_key, tokenizer, load_base, device, title="Later answers")

    parts = {}
    for part in ("training", "validation"):
        key = data.key(with_paths=True)
        read: Callable[[], Sequence[Example | token_rows.Pair]] = partial(_part_of, data, part)
        if other_replies.are_needed(settings.objective):
            key += [*other_replies.key(settings.objective, settings.seed), *base_key, str(settings.dry_run)]
            key += [f"replay {replay.VERSION}, {replay.REPLY_TOKENS} tokens"]
            read = partial(_part_with_other_replies, data, part, settings, write)
        parts[part] = _render(settings, tokenizer, part, key, read)
    training = token_rows.mixed(parts["training"], settings.mix, settings.seed)
    if len(training) < len(parts["training"]):
        cli.progress(f"--mix leaves {len(training)} of {len(parts['training'])} training rows")
    dated = Rows(training, parts["validation"])
    if not settings.uses_replay:
        return dated
    chosen = _replay_prompts(settings, tokenizer, data, len(training))
    if settings.dry_run and any(map(replay.lacks_a_reply, chosen.training)):
        cli.progress(
            f"Replay: {len(chosen.training)} rows are not counted here; the base writes them when training "
            f"starts, {replay.REPLY_TOKENS} tokens each at most."
        )
        return dated
    answered = replay.answered_by_base(chosen, base_key, tokenizer, load_base, device)
    return _with_replay(settings, tokenizer, dated, answered)


def _replay_prompts(
    settings: TrainSettings, tokenizer: PreTrainedTokenizerBase, data: DataFiles, dated_rows: int
) -> replay.Prompts:
    """Those to train on beside `dated_rows` other rows; of a base without a chat template, with replies."""
    prompts, times = data.replay_prompts(), 1
    if chat.has_fallback_template(tokenizer):
        count, prompts, times = len(prompts), replay.learnable(prompts), replay.MOST_TIMES
        cli.progress(
            f"Replay: the base has no chat template of its own. It learns the replies that {len(prompts)} of "
            f"{count} prompts have, each at most {times} times an epoch."
        )
        if not prompts:
            cli.warn("no replay prompt has a reply, so the tuned model will not chat well.")
    return replay.choose(prompts, dated_rows, settings.replay_share, settings.seed, times)


def _with_replay(
    settings: TrainSettings, tokenizer: PreTrainedTokenizerBase, dated: Rows, answered: replay.Prompts
) -> Rows:
    """The Rows with those of the answered prompts."""
    from datasets import concatenate_datasets

    both = []
    for part, dated_rows, examples in zip(Rows._fields, dated, answered, strict=True):
        if not examples:  # with so few rows nothing is held out
            both.append(dated_rows)
            continue
        texts = [str(example) for example in examples]
        rows = _render(settings, tokenizer, f"replay {part}", texts, partial(list, examples))
        both.append(concatenate_datasets([dated_rows, rows]))
    count = len(both[0]) - len(dated.training)
    print(f"Replay: {count} chat rows, {100 * count / len(both[0]):.0f} % of all training rows")
    return Rows(*both)


def _part_of(data: DataFiles, part: str) -> Sequence[Example]:
    return getattr(data.examples(), part)


def _part_with_other_replies(
    data: DataFiles, part: str, settings: TrainSettings, write: other_replies.Writer
) -> Sequence[Example | token_rows.Pair]:
    return other_replies.added(_part_of(data, part), settings.objective, settings.seed, write)


def _render(
    settings: TrainSettings,
    tokenizer: PreTrainedTokenizerBase,
    part: str,
    key: Sequence[str],
    read_examples: Callable[[], Sequence[Example | token_rows.Pair]],
) -> Dataset:
    """token_rows.load_or_render of one part of the data, with warnings of what is skipped.

    UserError if no unlearn example is left to train on.
    """
    rows, skipped = token_rows.load_or_render(tokenizer, [part, *key], read_examples, settings.max_seq_length)
    if skipped.unanswered:
        if settings.dry_run:
            why = "a dry run asks the base for none"
        elif chat.has_fallback_template(tokenizer):
            why = "a base without a chat template writes none"
        else:
            why = "the base wrote nothing"
        is_one = skipped.unanswered == 1
        few = "example has" if is_one else "examples have"
        lacking = f"{skipped.unanswered} unlearn {part} {few} no original_answer, and {why}"
        if part == "training" and not settings.dry_run and not len(token_rows.of_side(rows, UNLEARN)):
            raise UserError(
                f"--objective {settings.objective.name} has nothing to unlearn: {lacking}.\n"
                "Give each an original_answer in its metadata, or take --objective refusal."
            )
        cli.warn(f"{lacking}; {'it is' if is_one else 'they are'} left out.")
    if skipped.unusable:
        more = ["…"] if skipped.unusable > len(skipped.named) else []
        few, are = ("example", "is") if skipped.unusable == 1 else ("examples", "are")
        cli.warn(
            f"{skipped.unusable} {part} {few} cannot be trained on with this model and {are} skipped:\n  "
            + "\n  ".join([*skipped.named, *more])
        )
    for side, count in skipped.too_long.items():
        if count:
            few, are, they = ("example", "is", "it") if count == 1 else ("examples", "are", "they")
            cli.warn(
                f"{count} {side} {part} {few} {are} longer than --max_seq_length {settings.max_seq_length} "
                f"and {are} skipped (cut, {they} would teach the model not to stop)."
            )
    return rows


def load_config(settings: TrainSettings) -> PretrainedConfig:
    """The transformers config of the base's language model. UserError if the base is quantised."""
    config = loading.load_config(settings.model_name, settings.trust_remote_code)
    require_16_bit(settings.model_name, config.to_dict())
    return config


def require_16_bit(name: str, config: Mapping[str, Any]) -> None:
    """UserError if the base's config.json says that its weights are quantised: no adapter can be merged into
    those."""
    quantisation = config.get("quantization_config") or config.get("quantization")  # the second one is MLX's
    if quantisation:
        method = dict(quantisation).get("quant_method", "MLX")
        raise UserError(
            f"the base model {name} is quantised ({method}); what is trained could not be merged into it.\n"
            "Take its 16-bit original or a 16-bit copy; --use_4bit and --use_8bit quantise it for training."
        )


def load_base(settings: TrainSettings, machine: Machine, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The base model, quantised if the settings say so. UserError if it does not fit.

    dtype: None for the machine's.
    """
    options: dict[str, Any] = {}
    if settings.quantisation_bits:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=settings.use_4bit,
            load_in_8bit=settings.use_8bit,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=machine.dtype,
        )
        options["device_map"] = {"": machine.device}
    with weights_fit(settings):
        try:
            return loading.load_model(
                settings.model_name, dtype or machine.dtype, settings.trust_remote_code, **options
            )
        except RuntimeError as error:
            if "bitsandbytes" in str(error).lower():
                raise UserError(f"the base could not be loaded: {str(error).splitlines()[0]}") from error
            raise


@contextlib.contextmanager
def weights_fit(settings: TrainSettings) -> Iterator[None]:
    """Around what loads or moves the weights: UserError with what to do, if they do not fit into memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not devices.is_out_of_memory(error):
            raise
        if settings.full:
            smaller = ", or omit --full."
        else:
            smaller = "." if settings.use_4bit else ", or --use_4bit (experimental on AMD)."
        raise UserError(f"the weights alone do not fit into memory. Use a smaller model{smaller}") from error


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter of a model of add_adapter to `folder`."""
    model.save_pretrained(str(folder))


def add_adapter(
    settings: TrainSettings, model: PreTrainedModel, checkpointing: bool, revision: str | None
) -> Any:
    """The base with a fresh LoRA adapter on every linear layer but the output one.

    checkpointing: whether activations are computed again in the backward pass. revision: the hub's commit
    that the base came from, for the adapter's config; None for a folder.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if settings.quantisation_bits:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    # No dropout: its random numbers, drawn one after the other, cost a tenth of an update on a CPU.
    config = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        bias="none",
        task_type="CAUSAL_LM",
        target_modules="all-linear",  # right for every family
        base_model_name_or_path=str(settings.model_name),
        revision=revision,
    )
    return get_peft_model(model, config)
