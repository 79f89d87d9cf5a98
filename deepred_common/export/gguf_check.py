"""A GGUF file against what it was made from: is everything in it, is it the same, and what did quantising cost?

Reads headers, metadata and a sample of rows; neither torch nor the model is loaded.
"""

from pathlib import Path

from deepred_common.models import folders
from deepred_common.models.folders import embedding_rows, read_vocabulary

_ROWS = 16  # of each tensor that the error is measured on
_TOKENS = 200  # vocabulary entries compared, spread evenly
# Tensors that the converter adds by itself: rotary factors, worked out from the config.
_ADDED = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def _open(path):
    """The gguf library's reader of a file, made quick with arrays.

    It wraps each entry of an array in several views of its memory map, which takes 3 s for 50 000 tokens and their
    merges, 9 s for 150 000; one view an entry is enough.
    """
    import numpy as np
    from gguf import GGUFReader, GGUFValueType

    class Reader(GGUFReader):
        def _get_field_parts(self, orig_offs, raw_type):
            if raw_type != GGUFValueType.ARRAY or self.byte_order != "I":
                return super()._get_field_parts(orig_offs, raw_type)
            kind, count = (
                GGUFValueType(int(self._get(orig_offs, np.uint32)[0])),
                int(self._get(orig_offs + 4, np.uint64)[0]),
            )
            start = at = orig_offs + 12
            if kind == GGUFValueType.STRING:
                raw, parts = memoryview(self.data), []
                for _ in range(count):
                    end = at + 8 + int.from_bytes(raw[at : at + 8], "little")
                    parts.append(raw[at + 8 : end])
                    at = end
            elif (scalar := self.gguf_scalar_to_np.get(kind)) is not None:
                whole = np.asarray(self._get(start, scalar, count))
                parts, at = list(whole.reshape(-1, 1)), start + whole.nbytes
            else:
                return super()._get_field_parts(orig_offs, raw_type)
            return at - orig_offs, parts, list(range(count)), [GGUFValueType.ARRAY, *[kind][:count]]

    return Reader(path)


class GgufFile:
    """An opened GGUF file. size in bytes; bits: per weight, over all tensors."""

    def __init__(self, path):
        self.path = Path(path)
        self._reader = _open(self.path)
        self.tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.size = self.path.stat().st_size
        self.bits = (
            8
            * sum(int(t.n_bytes) for t in self.tensors.values())
            / sum(int(t.n_elements) for t in self.tensors.values())
        )

    def value(self, key, *index):
        """The metadata at `key` (of an array, its entry at index), or None; `{arch}` in the key is the architecture's name."""
        field = self._reader.get_field(key.format(arch=self._architecture()) if "{arch}" in key else key)
        return None if field is None else field.contents(*index)

    def _architecture(self):
        return self._reader.get_field("general.architecture").contents()

    def faults(self, folder, config, weights):
        """What differs from the model folder it was made from, as texts; none if nothing does.

        config: the folder's config.json; weights: {tensor name: safetensors_files.Entry}.
        """
        return [
            *self._tensor_faults(config, weights),
            *self._vocabulary_faults(folder, weights),
            *self._setting_faults(folder, config),
        ]

    def _tensor_faults(self, config, weights):
        from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

        architecture = next(key for key, name in MODEL_ARCH_NAMES.items() if name == self._architecture())
        names = get_tensor_name_map(architecture, self.value("{arch}.block_count"))
        expected, tied = {}, config.get("tie_word_embeddings") and "output.weight" not in self.tensors
        for name, entry in weights.items():
            own = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if own is None:
                continue  # the converter reads it in another form, or it would have failed
            if not (tied and own == "output.weight"):
                expected[own] = entry.shape
        for name, shape in expected.items():
            if name not in self.tensors:
                yield f"the tensor {name} is missing"
            elif (found := tuple(int(side) for side in reversed(self.tensors[name].shape))) != tuple(shape):
                yield f"the tensor {name} is {list(found)}, in the source {list(shape)}"
        if len(expected) == len(weights) - bool(tied and "lm_head.weight" in weights):
            # Only where every source tensor has its own name here can one too many be told.
            yield from (
                f"the tensor {name} is not in the source"
                for name in self.tensors
                if name not in expected and name not in _ADDED
            )

    def _vocabulary_faults(self, folder, weights):
        vocabulary, rows = read_vocabulary(folder), embedding_rows(weights)
        count = self._reader.get_field("tokenizer.ggml.tokens")
        count = 0 if count is None else len(count.data)
        if rows is not None and count != rows:
            yield f"it has {count} tokens, the model's embedding {rows} rows"
        if vocabulary is None:
            return
        # Added tokens may be stored as the tokenizer normalises them.
        tokens = sorted(
            (item for item in vocabulary.ids.items() if item[0] not in vocabulary.added),
            key=lambda item: item[1],
        )
        for token, number in tokens[:: max(1, len(tokens) // _TOKENS)]:
            if (found := self.value("tokenizer.ggml.tokens", number)) != token:
                yield f"token {number} is {found!r}, in the source {token!r}"
        for kind, token in vocabulary.special.items():
            name = "padding" if kind == "pad" else kind
            found = self.value(f"tokenizer.ggml.{name}_token_id")
            if token is not None and found != vocabulary.ids.get(token):
                yield f"the {kind} token is {found}, in the source {vocabulary.ids.get(token)} ({token})"

    def _setting_faults(self, folder, config):
        base = (config.get("rope_parameters") or {}).get("rope_theta", config.get("rope_theta"))
        for what, key, wanted, usual in (
            ("rotary base", "{arch}.rope.freq_base", base, 10000.0),  # Gemma 2's is not written
            ("context length", "{arch}.context_length", config.get("max_position_embeddings"), None),
        ):
            found = self.value(key)
            found = usual if found is None else found
            # Metadata holds 32-bit floats.
            if wanted is not None and (found is None or abs(found - wanted) > 1e-6 * abs(wanted)):
                yield f"the {what} is {found}, in the source {wanted}"
        template = Path(folder) / folders.CHAT_TEMPLATE
        if template.exists() and self.value("tokenizer.chat_template") != template.read_text(
            encoding="utf-8"
        ):
            yield "the chat template is not the source's"

    def summary(self):
        """What was compared, in a few words."""
        return (
            f"{len(self.tensors)} tensors, {len(self._reader.get_field('tokenizer.ggml.tokens').data)} tokens, bos/eos/pad, "
            f"rotary base {self.value('{arch}.rope.freq_base') or 10000:.0f}, context {self.value('{arch}.context_length')}, chat template"
        )

    def errors(self, half):
        """{type: (tensors, error)} of quantised tensors: the root mean square of the difference to `half` (a GgufFile of the
        same model in 16 bits), relative to the weights' own, over a sample of rows."""
        import numpy as np
        from gguf.quants import dequantize

        sums = {}
        for name, tensor in self.tensors.items():
            kind, other = tensor.tensor_type.name, half.tensors[name]
            if tensor.tensor_type == other.tensor_type:
                continue
            rows = tensor.data.reshape(-1, tensor.data.shape[-1])
            step = max(1, len(rows) // _ROWS)
            made = dequantize(rows[::step], tensor.tensor_type)
            true = other.data.reshape(-1, other.data.shape[-1])[::step].astype(np.float32)
            count, off, whole = sums.get(kind, (0, 0.0, 0.0))
            sums[kind] = (
                count + 1,
                off + float(np.square(made - true).sum()),
                whole + float(np.square(true).sum()),
            )
        return {
            kind: (count, (off / whole) ** 0.5 if whole else 0.0)
            for kind, (count, off, whole) in sums.items()
        }
