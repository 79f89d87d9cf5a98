"""How many positions a transformers model has."""

from __future__ import annotations

import itertools
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# How a word in the names of such tables begins: embed_positions, position_embeddings, wpe. Not composition.
_NAMES = re.compile("(?<![a-z])(?:position|embed_pos|wpe)")
_MOST_RESERVED = 2  # rows before those of the positions: OPT has two


def of(model: PreTrainedModel) -> int:
    """The number of positions, where the model looks each up in a table; else sys.maxsize.

    Beyond a table there is an IndexError, and on a GPU no further answer at all. A model that computes its
    positions can read on, and some configs state less than it can read: where a scaling of theirs follows.
    """
    stated = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(stated, int):
        return sys.maxsize
    sizes = range(stated, stated + _MOST_RESERVED + 1)
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    has_table = any(
        tensor.dim() == 2 and tensor.shape[0] in sizes and _NAMES.search(name) for name, tensor in tensors
    )
    return stated if has_table else sys.maxsize
