"""Replies, saved as they come in a file beside the results: a crash or Ctrl-C loses none.

JSON Lines. The first line holds the conditions of the evaluation; each further one is
{"id", "instruction", "reply", "finish"}, with "turns", "refusal_share" and "scores" where there are any.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepred_common import paths
from deepred_common.cli import UserError, warn
from deepred_common.files import Busy, json_text, lock
from deepred_common.foreign_text import ESCAPED, whole_characters
from deepred_common.inference.protocol import Reply, Score

SUFFIX = ".replies.jsonl"
MODEL_FILES = "model_files"  # of results_schema.Conditions
_SHOWN = 300  # characters of the differences from another evaluation that an error message shows


def path_for(results: Path) -> Path:
    """Where the replies of the evaluation into the file `results` are saved."""
    return results.with_suffix(SUFFIX)


class Journal:
    """The journal of one evaluation, open for appending. A context manager.

    path: the file; an existing one is resumed. head: what must be the same for its replies to count (JSON
    values). replies: {id: Reply} of what it holds; failed ones are not saved, so they are asked again, as are
    those of lines that cannot be read, with a warning. UserError if the head of an existing file differs,
    with the differences, or cannot be read, or if this is no journal. Busy if another process has it open.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.replies: dict[int, Reply] = {}
        self._file = self.path.open("a", encoding="utf-8", errors=ESCAPED)
        try:
            _require_alone(self.path, self._file.fileno())
            if self._file.tell():
                self._read(head)
            if not self.path.stat().st_size:
                self._write({"head": head})
        except BaseException:
            self._file.close()
            raise

    def _read(self, head: Mapping[str, Any]) -> None:
        content = self.path.read_bytes()
        lines = content.split(b"\n")
        if lines[-1]:
            # Cut off in the middle of a line: that reply is asked for again.
            with self.path.open("rb+") as file:
                file.truncate(len(content) - len(lines[-1]))
        try:
            before = dict(whole_characters(json.loads(lines[0]))["head"]) if lines[:-1] else head
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{paths.shown(self.path)} is not a journal of replies, or it is damaged.\n"
                "To start anew, use --overwrite without --resume."
            ) from None
        if text := changes(before, head):
            raise UserError(
                f"{paths.shown(self.path)} belongs to another evaluation and cannot be resumed ({text}).\n"
                "Choose another --output, or add --overwrite to start anew where they differ."
            )
        for number, line in enumerate(lines[1:-1], 2):
            try:
                row = whole_characters(json.loads(line))
                self.replies[row["id"]] = _reply(row)
            except (ValueError, KeyError, TypeError):
                warn(
                    f"line {number} of {paths.shown(self.path)} cannot be read. It is skipped: "
                    "its question is asked again."
                )

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json_text(row) + "\n")
        self._file.flush()

    def add(self, number: int, instruction: str, reply: Reply) -> None:
        """Save one Reply, unless it failed: --resume then asks again."""
        if reply.error is None:
            row = {"id": number, "instruction": instruction, "reply": reply.text, "finish": reply.finish}
            more = {
                "turns": reply.turns or None,
                "refusal_share": reply.refusal_share,
                "scores": reply.scores,
            }
            self._write(row | {key: value for key, value in more.items() if value is not None})
            self.replies[number] = reply

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        if not any(exception):
            self._file.close()
            return
        with contextlib.suppress(OSError):  # a disk that was full is still full: the first error says more
            self._file.close()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of `now` was otherwise before, cut short for a message; "" if nothing was.

    Of files by their hashes, it is the names of those that differ; what one of the two does not know of them
    is not compared.
    """
    texts = []
    for key, value in now.items():
        then = before.get(key)
        if key == MODEL_FILES:
            if differing := _differing(then or {}, value or {}):
                texts.append(f"of the model: {', '.join(differing)}")
        elif then != value:
            texts.append(f"{key}: {then!r} then, {value!r} now")
    return "; ".join(texts)[:_SHOWN]


def _differing(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The files that differ, if both are known; of an adapter's base only if both know which one it is."""
    if not (then and now):
        return []
    files = {file for file, _ in then.items() ^ now.items()}
    knows_base = "base" in then and "base" in now
    return sorted(file for file in files if knows_base or file.partition(":")[0] != "base")


def _reply(row: Mapping[str, Any]) -> Reply:
    """The Reply of a line. ValueError, KeyError or TypeError if it is no such line."""
    return Reply(
        row["reply"],
        row["finish"],
        turns=tuple(row.get("turns", ())),
        refusal_share=row.get("refusal_share"),
        scores=_scores(row.get("scores")),
    )


def _scores(saved: dict[str, list[Any]] | None) -> dict[str, Score] | None:
    return {answer: Score(*numbers) for answer, numbers in saved.items()} if saved else None


def opened(path: Path, head: Mapping[str, Any], resume: bool, overwrite: bool) -> Journal:
    """The journal at `path`, resumed if there is one.

    overwrite: begin anew; with `resume` too, only if the old one does not fit.
    """
    if overwrite and not resume:
        _discard(path)
    try:
        return Journal(path, head)
    except Busy:
        raise
    except UserError:
        if not overwrite:
            raise
        _discard(path)
        return Journal(path, head)


def _require_alone(path: Path, descriptor: int) -> None:
    if not lock(descriptor):
        raise Busy(
            f"another evaluation is writing {paths.shown(path)} right now. Wait for it, or choose another "
            "--output."
        )


def _discard(path: Path) -> None:
    if path.exists():
        with path.open("rb") as file:
            _require_alone(path, file.fileno())
        warn(f"{paths.shown(path)} is removed (--overwrite).")
        path.unlink()
