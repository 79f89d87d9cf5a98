"""A transformers model as a back end, whole or with a LoRA adapter: it answers questions in batches."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from deepred_common import chat, devices, paths, refusal_openers, thought, training_rows
from deepred_common.cli import UserError, progress
from deepred_common.examples import Prompt
from deepred_common.inference import base_names, local_scores, position_limit
from deepred_common.inference.padding import left_padded_from_start, one_block_for_output
from deepred_common.inference.protocol import BackendKind, BackendSettings, Draws, Reply, Score
from deepred_common.models import folders, loading, trained_weights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Taking ended rows out of a batch copies the whole cache, so it waits until this share of them has ended.
_ENDED_SHARE = 8  # one in so many
Answer = TypeVar("Answer")


class LocalModel:
    """A Backend: a transformers model, asked in batches with left padding.

    max_tokens: most tokens a reply may have. batch_size: questions answered at once. system: a system prompt
    before every question. opens_reply: the model is given what its template writes into every reply before
    the reply's own text, as if it had written that. Its name, kind and identity are set by whoever loads it.
    """

    name = ""
    kind = "folder"
    identity: str | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        batch_size: int,
        system: str | None = None,
        opens_reply: bool = False,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.system = system
        self.answered_by: list[str] = []
        chat.ensure_template(tokenizer)
        self._stops = chat.stop_ids(tokenizer, model.generation_config)
        self._max_tokens = max_tokens
        self._positions = position_limit.of(model)
        self._opening = training_rows.opening_ids(tokenizer)
        self._given_opening = self._opening if opens_reply else []
        self._refusal_ids = refusal_openers.token_ids(tokenizer)
        self._open_thought = thought.opened_by(chat.prompt_text(tokenizer, "Q", system))

    def merge_adapter(self) -> None:
        """Merge the adapter into the loaded base."""
        self.model = loading.merge_by_peft(self.model)

    def ask(self, prompts: Iterable[Prompt], draws: Draws | None = None) -> Iterator[tuple[int, Reply]]:
        """Yield (index, Reply) for each prompt, longest first, so that batches pad little.

        A batch that does not fit in memory is asked again in halves, and so are all that follow. UserError if
        not even one question fits.
        """
        asked = list(prompts)
        begun = [chat.begins_reply(prompt) for prompt in asked]
        tokens = [
            chat.prompt_ids(self.tokenizer, prompt, self.system) + ([] if is_begun else self._given_opening)
            for prompt, is_begun in zip(asked, begun, strict=True)
        ]
        self._require_rows(tokens)
        draws = draws or [None] * len(tokens)
        fitting = [index for index, ids in enumerate(tokens) if len(ids) <= self._positions]
        for index in sorted(set(range(len(tokens))).difference(fitting)):
            yield index, Reply(None, error=self._too_long(tokens[index]))

        def generate(batch: list[int]) -> list[Reply]:
            indices = [fitting[place] for place in batch]
            return self._generate([tokens[i] for i in indices], [draws[i] for i in indices])

        for place, reply in self.in_batches([tokens[index] for index in fitting], generate):
            index = fitting[place]
            yield index, self._continuation(reply) if begun[index] else reply

    def score(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
    ) -> Iterator[tuple[int, list[Score]]]:
        """Yield (index, a Score for each of its answers) for each prompt, longest first, as in `ask`.

        UserError if one of them does not fit into the model.
        """
        pairs = [
            chat.continuation_ids(self.tokenizer, prompt, texts, self.system)
            for prompt, texts in zip(prompts, answers, strict=True)
        ]
        self._require_rows(ids for prompt, texts in pairs for ids in (prompt, *texts))
        for whole in (prompt + answer for prompt, texts in pairs for answer in texts):
            if len(whole) > self._positions + 1:  # the last token is not read
                raise UserError(self._too_long(whole))
        yield from self.in_batches(
            [prompt for prompt, _ in pairs],
            lambda batch: local_scores.of_batch(self.model, [pairs[i] for i in batch]),
        )

    def _require_rows(self, tokens: Iterable[list[int]]) -> None:
        """UserError if the model has no embedding for one of these token ids."""
        rows = self.model.get_input_embeddings().weight.shape[0]
        for ids in tokens:
            loading.require_rows(self.tokenizer, rows, self.name or self.tokenizer.name_or_path, ids)

    def _too_long(self, ids: Sequence[int]) -> str:
        return f"the question has {len(ids)} tokens, and the model has only {self._positions} positions"

    def in_batches(
        self, tokens: Sequence[list[int]], work: Callable[[list[int]], list[Answer]]
    ) -> Iterator[tuple[int, Answer]]:
        """(index, what `work` makes of it) for each prompt (token ids), longest first.

        work: of the indices of a batch. What does not fit in memory is worked on again in halves, and so is
        all that follows. UserError if not even one prompt fits.
        """
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]), reverse=True)
        start = 0
        while start < len(order):
            batch = order[start : start + self.batch_size]
            try:
                results = work(batch)
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise UserError(
                        "there is not enough memory for a single question.\n"
                        "Free some, use a smaller --max_tokens, or ask the GGUF file."
                    ) from error
                self.batch_size = len(batch) // 2
                devices.free_memory()
                progress(f"\nout of memory: continuing with {self.batch_size} questions at once")
                continue
            start += len(batch)
            yield from zip(batch, results, strict=True)

    def _continuation(self, reply: Reply) -> Reply:
        """A Reply to a prompt that began it: its thought is closed, and it cannot begin as a refusal does."""
        text = (reply.text or "").removeprefix(self._open_thought).strip()
        return dataclasses.replace(reply, text=text, refusal_share=None)

    def _generate(self, prompts: list[list[int]], draws: Draws) -> list[Reply]:
        """The Reply to each prompt (token ids), decoded together; a prompt that stands twice is read once.

        Rows that have ended leave the batch: most replies are a third as long as the longest of their batch,
        and transformers' generate() computes them all to its end. The model's own sampling settings do not
        count.
        """
        import torch

        device = self.model.device
        distinct = [prompt for place, prompt in enumerate(prompts) if prompts.index(prompt) == place]
        outputs: list[list[int]] = [[] for _ in prompts]
        rows = list(range(len(prompts)))  # which prompt each row of the batch belongs to
        choosers = [(draw.temperature, random.Random(draw.seed)) if draw else None for draw in draws]
        # A reply's own text begins at once, or after the opening if the model has to write that.
        decisions = {0, 0 if self._given_opening else len(self._opening)}
        shares: list[dict[int, float]] = [{} for _ in prompts]  # {step: refusal_share}

        def ended(row: int) -> bool:
            output = outputs[row]
            # The reply ends where the positions do, as in llama.cpp. Its last token is not read.
            most = min(self._max_tokens, self._positions + 1 - len(prompts[row]))
            return len(output) == most or (bool(output) and output[-1] in self._stops)

        with torch.inference_mode(), one_block_for_output(self.model):
            ids, mask, positions, cache = left_padded_from_start(self.model, distinct)
            for step in itertools.count():
                logits = self.model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]
                if step == 0 and len(distinct) < len(prompts):
                    kept = torch.tensor([distinct.index(prompt) for prompt in prompts], device=device)
                    cache.reorder_cache(kept)
                    logits, mask, positions = logits[kept], mask[kept], positions[kept]
                if step in decisions and self._refusal_ids:
                    for row, share in zip(rows, self._refusal_shares(logits), strict=True):
                        if not math.isnan(share):
                            shares[row][step] = share
                tokens = next_tokens(logits, [choosers[row] for row in rows])
                for row, token in zip(rows, tokens.tolist(), strict=True):
                    if not ended(row):
                        outputs[row].append(token)
                going = [place for place, row in enumerate(rows) if not ended(row)]
                if not going:
                    break
                if len(rows) - len(going) >= max(1, len(rows) // _ENDED_SHARE):
                    rows = [rows[place] for place in going]
                    kept = torch.tensor(going, device=device)
                    cache.reorder_cache(kept)
                    tokens, mask, positions = tokens[kept], mask[kept], positions[kept]
                # A row that has ended may still be in the batch: it must not read past the last position.
                ids, positions = tokens[:, None], (positions[:, -1:] + 1).clamp(max=self._positions - 1)
                mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        return list(map(self._reply_of, outputs, shares))

    def _refusal_shares(self, logits: torch.Tensor) -> list[float]:
        """For each row of logits (rows, vocabulary), the probability of all that begins a refusal."""
        # From the log-odds, and in float64: shares near 1 would all be the same number.
        odds = refusal_openers.log_odds(logits, self._refusal_ids)
        shares: list[float] = odds.cpu().double().sigmoid().tolist()
        return shares

    def _reply_of(self, output: list[int], shares: Mapping[int, float] = MappingProxyType({})) -> Reply:
        """The Reply of output tokens. shares: {step: refusal_share} of where its own text may begin."""
        ended = output[-1] in self._stops
        # The template's opening, given or written, closes a thought that the prompt opened (Qwen3.5's).
        has_opening, start = bool(self._given_opening), 0
        if self._opening and output[: len(self._opening)] == self._opening:
            has_opening = True
            start = 0 if self._given_opening else len(self._opening)
            output = output[len(self._opening) :]
        text = self.tokenizer.decode(output, skip_special_tokens=True)
        # Some models mark their thought with special tokens; without these it would pass for the answer.
        marked = self.tokenizer.decode(output[:-1] if ended else output)
        if thought.is_marked(marked):
            text = marked
        before = "" if has_opening else self._open_thought
        text = before + text.strip()
        # After a thought the answer begins at a step that is not looked at.
        share = None if thought.is_marked(text) else shares.get(start)
        return Reply(text, "stop" if ended else "length", refusal_share=share)


def next_tokens(logits: torch.Tensor, choosers: Sequence[tuple[float, random.Random] | None]) -> torch.Tensor:
    """The next token id of each row of logits (rows, vocabulary): the likeliest, or one that is sampled.

    choosers: for each row None, or its temperature and its random numbers. One number a token decides: the
    token at which the cumulative probability of softmax(logits / temperature) passes it. So a row's tokens
    do not depend on the other rows.
    """
    import torch

    tokens = logits.argmax(-1)
    sampled = [place for place, chooser in enumerate(choosers) if chooser]
    if sampled:
        drawn = [(chooser[0], chooser[1].random()) for chooser in choosers if chooser]
        temperatures, points = torch.tensor(drawn, device=logits.device).T[:, :, None]
        cumulative = (logits[sampled].float() / temperatures).softmax(-1).cumsum(-1)
        # The sum of all may be a little off 1.
        passed = torch.searchsorted(cumulative, points * cumulative[:, -1:], right=True)[:, 0]
        tokens[sampled] = passed.clamp(max=logits.shape[-1] - 1)
    return tokens


def _check_adapter(path: str, role: str) -> None:
    base = trained_weights.require_adapter(path).base
    if not base or (folders.looks_like_path(base) and not Path(base).exists()):
        where = f"is {base}, which is not on this machine" if base else "is not named"
        raise UserError(
            f"the base of the adapter {path} {where}. Write its folder or hub name into "
            f"{folders.ADAPTER_CONFIG} there, as base_model_name_or_path. Or merge first:\n"
            f"  {paths.script('merge_lora')} --base_model BASE --lora_path {paths.quoted(path)} "
            "--output_path output/merged"
        )
    folders.check_name(base, "adapter's base")


@contextlib.contextmanager
def _opened(
    path: str, settings: BackendSettings, system_prompt: str | None, prompts: Sequence[Prompt]
) -> Iterator[LocalModel]:
    loading.set_up_libraries()
    dtype, why = devices.pick_dtype()
    device = devices.pick_device()
    progress(f"loading {path} on {device} in {str(dtype).removeprefix('torch.')} ({why}) …")
    is_adapter = folders.is_adapter(path)
    if is_adapter:
        adapter = trained_weights.require_adapter(path)
        model, tokenizer = loading.load_with_adapter(
            adapter, dtype, trust_remote_code=settings.trust_remote_code
        )
    else:
        folder = base_names.folder(path, settings.trust_remote_code)
        model = loading.load_model(folder, dtype, settings.trust_remote_code)
        tokenizer = loading.load_tokenizer(folder, settings.trust_remote_code)
    local = LocalModel(model.to(device), tokenizer, settings.max_tokens, settings.batch_size, system_prompt)
    local.name, local.kind = path, "adapter" if is_adapter else "folder"
    local.identity = base_names.identity(path)
    yield local


ADAPTER = BackendKind("adapter", folders.is_adapter, _check_adapter, _opened, base_names.identity)
FOLDER = BackendKind("folder", lambda path: True, folders.check_name, _opened, base_names.identity)
