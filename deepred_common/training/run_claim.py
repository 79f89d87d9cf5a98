"""One process, or one group of them, in a run folder at a time: two would write each other's checkpoints."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from deepred_common import cli, paths
from deepred_common.files import Busy, lock
from deepred_common.training.run_folder import RunChoice, require_no_run


@contextlib.contextmanager
def claimed(run: RunChoice, is_new: bool) -> Iterator[None]:
    """Keep other processes out of the run's folder, which is made. UserError if one is in it already.

    is_new: no run was in it when it was chosen. Of a run of several processes, the first one claims.
    """
    if not cli.is_main_process():
        yield
        return
    is_made = not run.folder.exists()
    run.folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run.folder, os.O_RDONLY)
    try:
        if not lock(descriptor):
            raise Busy(
                f"another process is training in {paths.shown(run.folder)} right now. "
                "Wait for it, or choose another --output_dir."
            )
        try:
            if is_new:
                require_no_run(run.folder)
            yield
        finally:
            if is_made:
                with contextlib.suppress(OSError):
                    run.folder.rmdir()  # if nothing was written: the data were wrong, or the disk too small
    finally:
        os.close(descriptor)
