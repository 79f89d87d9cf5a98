"""How a merged model compares with base + adapter, as printed."""

from __future__ import annotations

from deepred_common.evaluation.equivalence import PROMPTS
from deepred_common.evaluation.merge_check import Check


def text(check: Check) -> str:
    """How many replies are the same and how far the logits differ; below, the replies that are not."""
    count = len(PROMPTS)
    lines = [
        f"Base + adapter against merged: {count - len(check.differing)} of {count} greedy replies identical; "
        f"largest logit difference {check.difference:.3f} (the adapter itself moves them by up to "
        f"{check.by_adapter:.1f})"
    ]
    for prompt, with_adapter, merged in check.differing:
        lines.append(f"  {prompt}\n    base + adapter: {' '.join(with_adapter.split())}")
        lines.append(f"    merged:         {' '.join(merged.split())}")
    return "\n".join(lines)
