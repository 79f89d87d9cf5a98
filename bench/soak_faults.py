"""The soak's faults: what the user sees, and that the next run ends as if nothing had been."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import soak_bench
from soak_bench import (
    Bench,
    Row,
    digest,
    fake_server,
    fill,
    hidden,
    remount,
    require,
    require_clear,
    require_no_orphans,
    small_disk,
    steady_answer,
)

from deepred_common.training import checkpoints, run_folder

PAUSE = 60  # seconds for which a server stops
Case = Callable[[Bench, Row], None]


# ---- disks -------------------------------------------------------------------------------------------


def full_disk_train(bench: Bench, row: Row) -> None:
    """The disk fills up after the first checkpoint: at several remaining sizes."""
    for leave in (0, 30_000, 2_000_000):
        with small_disk(bench.folder / "disk", "400m") as disk:
            run = disk / "run"
            process = bench.start("finetune_temporal", *bench.training(run))
            process.wait_for((run / "checkpoint-4/trainer_state.json").exists)
            filler = fill(disk, leave)
            row.left.append(require_clear(process.end(), 2))
            require(bench.require_sound_checkpoints(run) >= 4, "the checkpoint before is lost")
            filler.unlink()
            bench.done("finetune_temporal", *bench.training(run), "--resume_latest")
            bench.require_same_run(run)
            require(not hidden(run), f"left behind: {hidden(run)}")


def full_disk_merge(bench: Bench, row: Row) -> None:
    """The disk fills up while the merged model is written; an older output stays."""
    with small_disk(bench.folder / "disk", "600m") as disk:
        output = disk / "merged"
        shutil.copytree(bench.reference / "merged", output)
        (output / "older.txt").write_text("as it was")
        old = digest(output)
        process = bench.start("merge_lora", *bench.merging(output), "--overwrite")
        process.wait_for(lambda: bool(hidden(disk)))
        filler = fill(disk, 100_000)
        row.left.append(require_clear(process.end(), 2))
        require(digest(output) == old, "the older output is not as it was")
        require(not hidden(disk), f"left behind: {hidden(disk)}")
        filler.unlink()
        bench.done("merge_lora", *bench.merging(output), "--overwrite")
        require(digest(output) == digest(bench.reference / "merged"), "the merged model differs")


def full_disk_convert(bench: Bench, row: Row) -> None:
    """The disk fills up while the f16 file is written."""
    with small_disk(bench.folder / "disk", "600m") as disk:
        output = disk / "model.gguf"
        process = bench.start("convert_to_gguf", *bench.converting(output))
        process.wait_for(lambda: bool(hidden(disk)))
        filler = fill(disk, 100_000)
        row.left.append(require_clear(process.end(), 2))
        require(not output.exists() and not hidden(disk), f"left behind: {hidden(disk)}")
        filler.unlink()
        bench.done("convert_to_gguf", *bench.converting(output))
        require(digest(output) == digest(bench.reference / "model.gguf"), "the GGUF file differs")


def full_disk_evaluate(bench: Bench, row: Row) -> None:
    """The disk is full for the journal, then for the results only; no reply is asked for again."""
    for leave in (0, 4096):
        with small_disk(bench.folder / "disk", "1m") as disk, fake_server.running() as server:
            server.answer = lambda n, question: time.sleep(0.05) or steady_answer(n, question)
            output = disk / "eval.json"
            filler = fill(disk, leave + 4096)
            journal = output.with_suffix(".replies.jsonl")
            process = bench.start("evaluate_temporal", *bench.asking(server.url, output))
            if not leave:
                process.wait_for(lambda file=journal: file.exists() and file.stat().st_size > 0)
                fill(disk, 0)
            row.left.append(require_clear(process.end(), 2))
            saved = journal.read_bytes().count(b"\n") - 1
            asked = len(server.requests)
            require(saved > 0 and not output.exists(), "no reply is saved")
            for file in disk.glob("filler*"):
                file.unlink()
            del filler
            bench.done("evaluate_temporal", *bench.asking(server.url, output), "--resume")
            require(
                len(server.requests) - asked <= soak_bench.EXAMPLES - saved + 2, "saved replies asked again"
            )
            bench.require_same_results(output)


def read_only(bench: Bench, row: Row) -> None:
    """A folder that cannot be written, for each script."""
    with small_disk(bench.folder / "disk", "400m") as disk, fake_server.running() as server:
        server.answer = steady_answer
        remount(disk, "ro")
        for name, arguments in (
            ("finetune_temporal", bench.training(disk / "run")),
            ("merge_lora", bench.merging(disk / "merged")),
            ("convert_to_gguf", bench.converting(disk / "model.gguf")),
            ("evaluate_temporal", bench.asking(server.url, disk / "eval.json")),
        ):
            row.left.append(require_clear(bench.run(name, *arguments), 2))
        require(not any(disk.iterdir()), "something was written")


def read_only_during_training(bench: Bench, row: Row) -> None:
    """The disk becomes read-only after the first checkpoint, as after an error of the hardware."""
    with small_disk(bench.folder / "disk", "400m") as disk:
        run = disk / "run"
        process = bench.start("finetune_temporal", *bench.training(run))
        process.wait_for((run / "checkpoint-4/trainer_state.json").exists)
        require(process.wait_for(lambda: remount(disk, "ro")), "the disk could not be made read-only")
        row.left.append(require_clear(process.end(), 2))
        remount(disk, "rw")
        bench.done("finetune_temporal", *bench.training(run), "--resume_latest")
        bench.require_same_run(run)


# ---- servers -----------------------------------------------------------------------------------------

HALF = '{"model": "m", "choices": [{"message": {"content": "It is'


def bad_server(answer: Callable, codes: tuple[int, ...], *flags: object, same: bool = True) -> Case:
    """A case in which the server answers every third request by `answer`, then is resumed with a good one."""

    def case(bench: Bench, row: Row) -> None:
        output = bench.folder / "bad.json"
        with fake_server.running() as server:
            server.answer = lambda n, q: answer(n, q) if n % 3 == 0 else steady_answer(n, q)
            arguments = [*bench.asking(server.url, output), *flags]
            row.left.append(require_clear(bench.run("evaluate_temporal", *arguments), *codes))
            server.answer = steady_answer
            bench.done("evaluate_temporal", *arguments, "--resume")
            if same:
                bench.require_same_results(output)
        output.unlink()

    return case


def pauses(bench: Bench, row: Row) -> None:
    """The server accepts requests, answers none for a minute, and comes back: the evaluation goes on."""
    output = bench.folder / "pause.json"
    with fake_server.running() as server:
        server.answer = lambda n, q: (n == 5 and time.sleep(PAUSE)) or steady_answer(n, q)
        row.left.append(require_clear(bench.run("evaluate_temporal", *bench.asking(server.url, output)), 0))
    bench.require_same_results(output)


def stops(bench: Bench, row: Row) -> None:
    """The server is gone for a minute and comes back at the same address: resumed."""
    output = bench.folder / "stop.json"
    with fake_server.running() as server:

        def answer(n: int, question: str) -> object:
            if n <= 5:
                return steady_answer(n, question)
            server.http.socket.close()
            return None

        server.answer = answer
        row.left.append(require_clear(bench.run("evaluate_temporal", *bench.asking(server.url, output)), 2))
    time.sleep(PAUSE)
    with fake_server.running() as server:
        server.answer = steady_answer
        bench.done("evaluate_temporal", *bench.asking(server.url, output), "--resume")
        require(len(server.requests) <= soak_bench.EXAMPLES - 3, "saved replies were asked for again")
    bench.require_same_results(output)


# ---- two runs at once --------------------------------------------------------------------------------


def two_trainings(bench: Bench, row: Row) -> None:
    """A second training in the folder of one that runs, with --resume_latest or not; and two at once."""
    run = bench.folder / "two"
    first = bench.start("finetune_temporal", *bench.training(run))
    first.wait_for((run / "run.json").exists)
    for flags in ((), ("--resume_latest",)):
        row.left.append(require_clear(bench.run("finetune_temporal", *bench.training(run), *flags), 2))
    ended = first.end()
    require(ended.code == 0, f"the first run was disturbed: {ended.err[-300:]}")
    bench.require_same_run(run)
    shutil.rmtree(run)
    both = [bench.start("finetune_temporal", *bench.training(run), "--resume_latest") for _ in range(2)]
    ends = sorted((process.end() for process in both), key=lambda end: end.code)
    require(ends[0].code == 0, f"neither ended well: {ends[0].err[-300:]}")
    row.left.append(require_clear(ends[1], 2))
    bench.require_same_run(run)


def two_outputs(name: str, output_name: str) -> Case:
    """Two merges or conversions to one output at once: one wins, and the other is told."""

    def case(bench: Bench, row: Row) -> None:
        place = bench.folder / f"two-{name}"
        place.mkdir()
        output = place / output_name
        arguments = (bench.merging if name == "merge_lora" else bench.converting)(output)
        both = [bench.start(name, *arguments) for _ in range(2)]
        ends = sorted((process.end() for process in both), key=lambda end: end.code)
        require(ends[0].code == 0, f"neither ended well: {ends[0].err[-300:]}")
        row.left.append(require_clear(ends[1], 2))
        require(digest(output) == digest(bench.reference / output_name), "the output differs")
        require(not hidden(place), f"left behind: {hidden(place)}")

    return case


def two_evaluations(bench: Bench, row: Row) -> None:
    """Two evaluations into one results file at once."""
    output = bench.folder / "two.json"
    with fake_server.running() as server:
        server.answer = lambda n, q: time.sleep(0.5) or steady_answer(n, q)
        command = [*bench.asking(server.url, output), "--resume"]
        both = [bench.start("evaluate_temporal", *command) for _ in range(2)]
        ends = sorted((process.end() for process in both), key=lambda end: end.code)
        require(ends[0].code == 0, f"neither ended well: {ends[0].err[-300:]}")
        row.left.append(require_clear(ends[1], 2))
        require(len(server.requests) == soak_bench.EXAMPLES, f"{len(server.requests)} requests were made")
    bench.require_same_results(output)


# ---- clock and files ---------------------------------------------------------------------------------


def clock_set_back(bench: Bench, row: Row) -> None:
    """All that a stopped run wrote lies a day in the future, as after the clock was set back."""
    run = bench.folder / "clock"
    process = bench.start("finetune_temporal", *bench.training(run))
    process.wait_for((run / "checkpoint-8/trainer_state.json").exists)
    process.kill()
    later = time.time() + 86_400
    for path in [*run.rglob("*"), run]:
        os.utime(path, (later, later))
    bench.done("finetune_temporal", *bench.training(run), "--resume_latest")
    bench.require_same_run(run)
    names = sorted((p.name for p in checkpoints.of_run(run)), key=lambda name: int(name[11:]))
    row.left.append(f"kept: {', '.join(names)}")
    require(names[-1] == f"checkpoint-{soak_bench.UPDATES}", "the newest checkpoint was removed")
    require(f"checkpoint-{soak_bench.UPDATES - 4}" in names, "an old checkpoint was kept for a newer one")


def changed_data(bench: Bench, row: Row) -> None:
    """Training data are replaced: refused, or trained on what run.json names, never on a mixture."""
    first, second = (soak_bench.example_lines(word) for word in ("thing", "matter"))
    data = bench.folder / "changing.jsonl"
    for moment in (0.3, 0.6, 0.9, 1.5, 4.0):
        run = bench.folder / "changed"
        data.write_text(first)
        process = bench.start("finetune_temporal", *bench.training(run, data))
        process.wait_until(moment)
        data.write_text(second)
        ended = process.end()
        row.left.append(require_clear(ended, 0, 2))
        if ended.code == 0:
            recorded = run_folder.read_manifest(run)["identity"]["data"]["dev_path"]
            trained_on_first = digest(run / "final/adapter_model.safetensors") == digest(
                bench.reference / "run/final/adapter_model.safetensors"
            )
            names_first = recorded == _sha(first)
            require(trained_on_first == names_first, "run.json names other data than were trained on")
        shutil.rmtree(run, ignore_errors=True)
        row.done += 1


def changed_adapter(bench: Bench, row: Row) -> None:
    """The adapter is replaced while it is merged: refused, or one of the two, never a mixture."""
    adapter, other = bench.folder / "adapter", bench.folder / "other"
    shutil.copytree(bench.reference / "run/final", adapter)
    shutil.copytree(adapter, other)
    scale_adapter(other / "adapter_model.safetensors")
    results = []
    for source in (adapter, other):
        bench.done("merge_lora", *bench.merging(bench.folder / "changed", source), "--overwrite")
        results.append(digest(bench.folder / "changed/model.safetensors"))
    kept = (adapter / "adapter_model.safetensors").read_bytes()
    for moment in (1.0, 2.0, 2.5, 3.0, 3.5, 4.0):
        (adapter / "adapter_model.safetensors").write_bytes(kept)
        process = bench.start("merge_lora", *bench.merging(bench.folder / "changed", adapter), "--overwrite")
        process.wait_until(moment)
        shutil.copy(other / "adapter_model.safetensors", adapter / "adapter_model.safetensors")
        ended = process.end()
        row.left.append(require_clear(ended, 0, 2))
        if ended.code == 0:
            made = digest(bench.folder / "changed/model.safetensors")
            require(made in results, "the merged weights are a mixture of two adapters")
        row.done += 1


def scale_adapter(file: Path) -> None:
    """Double the weights of an adapter."""
    from safetensors.torch import load_file, save_file

    save_file({name: 2 * value for name, value in load_file(file).items()}, file, {"format": "pt"})


def changed_test(bench: Bench, row: Row) -> None:
    """The test file is replaced while it is read, and before a resume."""
    test, output = bench.folder / "test.jsonl", bench.folder / "changed.json"
    first, second = (soak_bench.example_lines(word) for word in ("thing", "matter"))
    with fake_server.running() as server:
        server.answer = lambda n, q: time.sleep(0.1) or steady_answer(n, q)
        for moment in (0.2, 0.35, 0.5, 0.8):
            test.write_text(first)
            process = bench.start("evaluate_temporal", *bench.asking(server.url, output, test))
            process.wait_until(moment)
            test.write_text(second)
            ended = process.end()
            row.left.append(require_clear(ended, 0, 2))
            if ended.code == 0:
                results = json.loads(output.read_text())
                asked_first = "thing" in results["results"][0]["instruction"]
                require(
                    (_sha(first) in results["data"].values()) == asked_first,
                    "the results name other questions than were asked",
                )
                output.unlink()
            row.done += 1


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def killed_with_server(bench: Bench, row: Row) -> None:
    """An evaluation of a GGUF file is killed: the llama.cpp server that it started must not stay."""
    output = bench.folder / "gguf.json"
    gguf = shutil.copy(bench.reference / "model.gguf", bench.folder / "served.gguf")
    command = ["--model_path", gguf, "--test_file", bench.data, "--output", output, "--max_tokens", 8]
    process = bench.start("evaluate_temporal", *command)
    process.wait_for(output.with_suffix(".replies.jsonl").exists)
    process.kill()
    row.kills += 1
    require_no_orphans(bench.folder)
    ended = bench.run("evaluate_temporal", *command, "--resume")
    # A tiny model of random weights may answer nothing, which has an exit code of its own.
    require(ended.code in (0, 1) and output.exists(), f"not resumed: {ended.err[-300:]}")
    row.left.append(f"exit {ended.code}")


FAULTS: dict[str, Case] = {
    "full_disk_train": full_disk_train,
    "full_disk_merge": full_disk_merge,
    "full_disk_convert": full_disk_convert,
    "full_disk_evaluate": full_disk_evaluate,
    "read_only": read_only,
    "read_only_during_training": read_only_during_training,
    "server_slow": bad_server(lambda n, q: time.sleep(2) or steady_answer(n, q), (1,), "--timeout", 1),
    "server_drops": bad_server(lambda n, q: None, (0,)),
    "server_429": bad_server(lambda n, q: (429, "busy", {"Retry-After": "1"}), (0,)),
    "server_500": bad_server(lambda n, q: (500, "oops", {}), (0,)),
    "server_half_reply": bad_server(lambda n, q: (200, HALF, {"Content-Length": "500"}), (0, 1)),
    "server_half_json": bad_server(lambda n, q: (200, HALF, {}), (1,)),
    "server_garbage": bad_server(lambda n, q: (200, "\x00<html>\ufffd", {}), (1,)),
    "server_other_model": bad_server(
        lambda n, q: fake_server.reply_with(
            steady_answer(n, q)[1]["choices"][0]["message"]["content"], "other"
        ),
        (0,),
    ),
    "server_pauses": pauses,
    "server_stops": stops,
    "two_trainings": two_trainings,
    "two_merges": two_outputs("merge_lora", "merged"),
    "two_conversions": two_outputs("convert_to_gguf", "model.gguf"),
    "two_evaluations": two_evaluations,
    "clock_set_back": clock_set_back,
    "changed_data": changed_data,
    "changed_adapter": changed_adapter,
    "changed_test": changed_test,
    "killed_with_server": killed_with_server,
}
