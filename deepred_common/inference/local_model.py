"""A transformers model that answers questions in batches."""

from deepred_common import chat, devices
from deepred_common.cli import UserError, progress
from deepred_common.inference.reply import Reply


class LocalModel:
    """A transformers model, adapter or not, asked in batches with left padding."""

    def __init__(self, model, tokenizer, max_tokens, batch_size, system=None):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.system = system
        self.answered_by = []
        chat.ensure_template(tokenizer)
        self._stops = chat.stop_ids(tokenizer, model.generation_config)
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self._stops[0]
        self._max_tokens = max_tokens

    def ask(self, instructions):
        """Yield (index, Reply) for each instruction, longest prompts first, so that batches pad little.

        A batch that does not fit in memory is asked again in halves, and so are all that follow.
        """
        prompts = [chat.prompt_ids(self.tokenizer, instruction, self.system) for instruction in instructions]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
        start = 0
        while start < len(order):
            batch = order[start : start + self.batch_size]
            try:
                replies = self._generate([prompts[i] for i in batch])
            except (RuntimeError, MemoryError) as error:
                if not devices.is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise UserError(
                        "there is not enough memory for a single question.\n"
                        "Use a smaller --max_tokens, or ask the GGUF file."
                    ) from error
                self.batch_size = len(batch) // 2
                devices.free_memory()
                progress(f"\nout of memory: going on with {self.batch_size} questions at once")
                continue
            start += len(batch)
            yield from zip(batch, replies, strict=True)

    def _generate(self, prompts):
        """The greedy Reply to each prompt (token ids), decoded together.

        Rows that have ended leave the batch: most replies are a third as long as the longest of their batch, and
        transformers' generate() computes them all to its end. The model's own sampling settings do not count.
        """
        import torch
        from transformers import DynamicCache

        width = max(map(len, prompts))
        ids = torch.tensor([[self._pad] * (width - len(p)) + p for p in prompts], device=self.model.device)
        mask = torch.tensor(
            [[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.model.device
        )
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        said = [[] for _ in prompts]
        rows = list(range(len(prompts)))  # which prompt each row of the batch belongs to

        def ended(row):
            return len(said[row]) == self._max_tokens or (bool(said[row]) and said[row][-1] in self._stops)

        with torch.inference_mode():
            while True:
                tokens = (
                    self.model(
                        input_ids=ids,
                        attention_mask=mask,
                        position_ids=positions,
                        past_key_values=cache,
                        use_cache=True,
                        logits_to_keep=1,
                    )
                    .logits[:, -1]
                    .argmax(-1)
                )
                for row, token in zip(rows, tokens.tolist(), strict=True):
                    if not ended(row):
                        said[row].append(token)
                left = [place for place, row in enumerate(rows) if not ended(row)]
                if not left:
                    break
                # Taking rows out copies the whole cache, so it waits until an eighth of them has ended.
                if len(left) <= len(rows) - max(1, len(rows) // 8):
                    rows = [rows[place] for place in left]
                    left = torch.tensor(left, device=ids.device)
                    cache.batch_select_indices(left)
                    tokens, mask, positions = tokens[left], mask[left], positions[left]
                ids, positions = tokens[:, None], positions[:, -1:] + 1
                mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        return [
            Reply(
                self.tokenizer.decode(out, skip_special_tokens=True).strip(),
                "stop" if out[-1] in self._stops else "length",
            )
            for out in said
        ]
