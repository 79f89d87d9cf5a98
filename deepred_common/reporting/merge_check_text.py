"""How a merged model compares with what was trained, as printed."""

from __future__ import annotations

from deepred_common.evaluation.equivalence import PROMPTS
from deepred_common.evaluation.merge_check import Check


def text(check: Check, trained: str, cause: str) -> str:
    """How many replies are the same and how far the logits differ; below, the replies that are not.

    trained: what was trained, in words ("base + adapter"). cause: what moved the base's logits ("adapter").
    """
    count = len(PROMPTS)
    lines = [
        f"{trained.capitalize()} against merged: {count - len(check.differing)} of {count} greedy replies "
        f"identical; largest logit difference {check.difference:.3f} (the {cause} itself moves them by up to "
        f"{check.by_training:.1f})"
    ]
    width = len(trained) + 1
    for prompt, from_trained, from_merged in check.differing:
        lines.append(f"  {prompt}\n    {trained}: {' '.join(from_trained.split())}")
        lines.append(f"    {'merged:':<{width}} {' '.join(from_merged.split())}")
    return "\n".join(lines)
