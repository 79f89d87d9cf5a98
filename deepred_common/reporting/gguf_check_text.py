"""How the replies of a GGUF file compare with those of the model it was made from, as printed."""

from __future__ import annotations

from collections.abc import Sequence

from deepred_common import paths
from deepred_common.evaluation.equivalence import LEAST_AGREEMENT, Compared
from deepred_common.foreign_text import printable


def text(compared: Sequence[Compared]) -> str:
    """How many verdicts and replies are the same; below, the replies whose verdicts differ.

    compared: the model's own replies, each with the file's.
    """
    count, differing = len(compared), _differing(compared)
    lines = [
        f"Token ids: the same for {count} of {count} prompts.",
        f"Verdicts: {count - len(differing)} of {count} as the model's own (refused, correct or wrong).",
        f"Replies: {sum(one.has_same_words for one in compared)} of {count} the same word for word.",
    ]
    for one in differing:
        lines.append(f"  {one.prompt}")
        for name, verdict, reply in (
            ("model", one.verdict, one.reply),
            ("GGUF", one.other_verdict, one.other_reply),
        ):
            lines.append(f"    {f'{name}, {verdict}:':<16} {printable(' '.join(reply.split()))}")
    return "\n".join(lines)


def warning(compared: Sequence[Compared], gguf: str, kind: str, is_quantised: bool) -> str | None:
    """That the file does not answer as its model does, and what to do; None if enough verdicts agree.

    gguf: its path. kind: its type, of quantise.QUANT_TYPES.
    """
    count, differing = len(compared), len(_differing(compared))
    if differing <= (1 - LEAST_AGREEMENT) * count:
        return None
    if is_quantised:
        larger = "f16" if kind == "q8_0" else "q8_0"
        cause = (
            f"Quantising to {kind} changes what it knows and refuses. Use a larger type, such as "
            f"--quant_type {larger}, or evaluate this file before you ship it."
        )
    else:
        cause = f"{kind} hardly rounds, so there is another cause: is llama.cpp new enough for this model?"
    return (
        f"{paths.shown(gguf)} does not answer as the model does: {differing} of {count} "
        f"verdicts differ.\n{cause}"
    )


def _differing(compared: Sequence[Compared]) -> list[Compared]:
    return [one for one in compared if not one.has_same_verdict]
