"""Results files: what an evaluation leaves behind, read back for comparisons, baselines and reports.

A results file is one JSON object (schema 2):

    schema          2
    model           {"name", "kind": folder | adapter | gguf | api, "identity": SHA-256 of the weights or hub revision or null,
                    "answered_by": [names the server gave], "system_prompt": text or null}
    cutoff          "YYYY-MM-DD"
    started, finished, settings, versions      when, how (every setting with its source), with which packages
    data            {file: SHA-256}
    asked           what must be the same for replies to be comparable: model, max_tokens, system_prompt, data, limit, seed
    judge           null, or {"model", "url", "kappa", "agreement"} of the model that graded
    quality         EXCELLENT | ACCEPTABLE | NEEDS IMPROVEMENT | ONE SIDE ONLY
    summary         counts and rates in percent (metrics.summarise)
    intervals       {rate: [low, high]} in percent, Wilson 95 %
    breakdown       {"period" | "near" | "field" | "form" | "probe": {group: {"retain": {verdict: n}, "unlearn": {verdict: n}}}}
    curve           null, or the fitted refusal curve: floor, ceiling, middle, scale, low, high, cutoff, width (years)
    baselines       [{"label", "summary", "against": metrics.against(...)}], the first is the untouched base
    results         one object a question, in the order of the data:
        id            its number, from 0
        instruction, side, reference
        true_answer   what must not leak (unlearn lines that carry original_answer), or null
        date          the fact's date as in the data ("1969-11-10", "-44-03-15", "1912"), or null
        field         the data's field, or null
        form          what | who | when | where | which | why | how | tell me | other
        probe         the data's way of asking about the fact (question, cloze, …), or null
        reply         the text, or null if none could be had
        finish        "stop", "length" (cut at --max_tokens), or null if the back end does not say
        verdict       retain: correct | wrong | refused | broken; unlearn: refused | leaked | confabulated | broken; failed
        error         why there is no reply, or null
"""

import json
from pathlib import Path

from deepred_common.cli import UserError
from deepred_common.files import write_text

SCHEMA = 2


def read(path):
    """The results object in a file; UserError if it is not one that this version wrote."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; a results JSON of evaluate_temporal.py is needed.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise UserError(
            f"{path} cannot be read as JSON; a results file of evaluate_temporal.py is needed."
        ) from None
    if (
        not isinstance(found, dict)
        or found.get("schema") != SCHEMA
        or not isinstance(found.get("results"), list)
    ):
        raise UserError(
            f"{path} is not a results file of this version of evaluate_temporal.py (schema {SCHEMA})."
        )
    return found


def write(path, results):
    """Write a results object, whole or not at all."""
    write_text(path, json.dumps(results, indent=1, ensure_ascii=False, default=str) + "\n")


def label(results):
    """A short name for a results object: the model's last path part, and whether a system prompt stood before it."""
    name = "/".join(Path(results["model"]["name"]).parts[-2:])
    return f"{name} + prompt" if results["model"]["system_prompt"] else name
