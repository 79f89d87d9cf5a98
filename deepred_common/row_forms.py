"""Rows in the keys of other tools, brought to ours: instruction and output, or messages."""

from __future__ import annotations

from typing import Any

# One of each, where a row has no instruction: what asks, and what replies.
_QUESTIONS = ("prompt", "question", "query", "input")
_ANSWERS = ("response", "completion", "answer", "output")
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}


def without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """The row, and each turn in it, without the keys that are null: a table has all columns in every row."""
    given = {key: value for key, value in row.items() if value is not None}
    for key, value in given.items():
        if isinstance(value, list):
            given[key] = [without_nulls(turn) if isinstance(turn, dict) else turn for turn in value]
    return given


def in_our_keys(row: dict[str, Any]) -> dict[str, Any]:
    """The row with "instruction" and "output", or with "messages", if it has other tools' keys for these.

    ShareGPT's conversations; trl's prompt and completion, as texts or as lists of turns; pairs of question
    and answer under their usual names; LLaMA-Factory's system and history beside any of them. A row that can
    be read in two ways is returned as it is.
    """
    if "conversations" in row and "messages" not in row:
        row = {**row, "messages": _sharegpt_turns(row["conversations"])}
    elif "instruction" not in row and "messages" not in row:
        row = _paired(row)
    has_earlier = isinstance(row.get("system"), str) or isinstance(row.get("history"), list)
    return _with_earlier_turns(row) if has_earlier else row


def _sharegpt_turns(conversations: Any) -> Any:
    """ShareGPT's turns with role and content; as they are if they are no list of objects."""
    if not isinstance(conversations, list) or not all(isinstance(turn, dict) for turn in conversations):
        return conversations
    turns = []
    for turn in conversations:
        renamed = dict(turn)
        if "from" in turn:
            renamed["role"] = _SHAREGPT_ROLES.get(str(turn["from"]), turn["from"])
        if "value" in turn:
            renamed["content"] = turn["value"]
        turns.append(renamed)
    return turns


def _paired(row: dict[str, Any]) -> dict[str, Any]:
    """A row with one key that asks and at most one that replies, with our names for these."""
    questions = [key for key in _QUESTIONS if key in row]
    answers = [key for key in _ANSWERS if key in row]
    if len(questions) != 1 or len(answers) > 1:
        return row
    rest = {key: value for key, value in row.items() if key not in (*questions, *answers)}
    question = row[questions[0]]
    answer = row[answers[0]] if answers else ""
    if isinstance(question, list):
        return {**rest, "messages": question + answer if isinstance(answer, list) else question}
    return {**rest, "instruction": question, **({"output": answer} if answers else {})}


def _with_earlier_turns(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its system prompt and its history ([question, answer] pairs) as turns before the others."""
    system, history = row.get("system"), row.get("history")
    earlier: list[dict[str, Any]] = []
    if isinstance(system, str) and system.strip():
        earlier.append({"role": "system", "content": system})
    for pair in history if isinstance(history, list) else []:
        # What is no pair becomes a turn whose content is no text, which is then named.
        question, answer = pair if isinstance(pair, list) and len(pair) == 2 else (pair, pair)
        earlier += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    if not earlier:
        return row
    turns = row.get("messages")
    if turns is None:
        turns = [{"role": "user", "content": _question(row)}]
        if row.get("output"):
            turns.append({"role": "assistant", "content": row["output"]})
    return {**row, "messages": earlier + turns} if isinstance(turns, list) else row


def _question(row: dict[str, Any]) -> Any:
    """The instruction of a row, with its input."""
    question, more = row.get("instruction"), row.get("input")
    if isinstance(question, str) and isinstance(more, str) and more.strip():
        return f"{question.strip()}\n\n{more.strip()}"
    return question
