"""Replies as they come, in a file beside the results: a crash or Ctrl-C loses none, and asking goes on from there.

JSON Lines. The first line says what was asked of whom; each further one is {"id", "instruction", "reply", "finish"}.
"""

import json
from pathlib import Path

from deepred_common import paths
from deepred_common.cli import UserError, warn
from deepred_common.inference.reply import Reply


class Journal:
    """The journal of one evaluation, open for appending. A context manager.

    path: the file; one that exists is gone on with. head: what must be the same for its replies to count (a dict of JSON
    values). replies: {id: Reply} of what stands in it; failed ones are not kept, so they are asked again.
    UserError if the head of an existing file differs, with the differences, or if it is damaged.
    """

    def __init__(self, path, head):
        self.path = Path(path)
        self.replies = {}
        if self.path.exists():
            self._read(head)
        self._file = self.path.open("a", encoding="utf-8")
        if not self._file.tell():
            self._write({"head": head})

    def _read(self, head):
        whole = self.path.read_bytes()
        lines = whole.split(b"\n")
        if lines[-1]:
            # Cut short in the middle of a line: that reply is asked for again.
            with self.path.open("rb+") as file:
                file.truncate(len(whole) - len(lines[-1]))
        try:
            rows = [json.loads(line) for line in lines[:-1]]
            before = rows[0]["head"] if rows else head
            self.replies = {row["id"]: Reply(row["reply"], row["finish"]) for row in rows[1:]}
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{paths.shown(self.path)} is not a journal of replies, or damaged. Leave --resume out and add --overwrite\n"
                "to start anew."
            ) from None
        changed = [
            f"{key}: {before.get(key)!r} then, {value!r} now"
            for key, value in head.items()
            if before.get(key) != value
        ]
        if changed:
            raise UserError(
                f"{paths.shown(self.path)} belongs to another evaluation; it cannot be gone on with ({'; '.join(changed)[:300]}).\n"
                "Choose another --output, or add --overwrite to start anew where they differ."
            )

    def _write(self, row):
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def add(self, number, instruction, reply):
        """Write one Reply down; a failed one is left out, so that --resume asks again."""
        if reply.error is None:
            self._write(
                {"id": number, "instruction": instruction, "reply": reply.text, "finish": reply.finish}
            )
            self.replies[number] = reply

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self._file.close()


def discard(path):
    """Remove a journal that is to be started anew, saying so if there was one."""
    if Path(path).exists():
        warn(f"{paths.shown(path)} is removed (--overwrite).")
        Path(path).unlink()
