"""Every command that is printed can be pasted: what bash makes of it is what the next script should get."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, load_script

from deepred_common import cli, paths
from deepred_common.evaluation import output_files
from deepred_common.export import lmstudio, ollama
from deepred_common.models import folders
from deepred_common.training import model_card, recovery

NAMES = ["plain", "my models", "modèle d'été", 'a"b$HOME`x`!', "-run", "~"]
PROGRAMS = ("python", "lms", "mkdir", "cp", "sudo", "ollama", "accelerate")


@pytest.fixture(params=NAMES)
def folder(request, tmp_path, monkeypatch):
    """A relative folder of that name, in a working directory that is not the project's."""
    monkeypatch.chdir(tmp_path)
    return Path(request.param)


def pasted(text):
    """[words] of each command in `text` as bash sees them, without running any of them."""
    functions = "".join(f"{name}() {{ printf '%s\\0' {name} \"$@\"; echo; }}; " for name in PROGRAMS)
    lines = text.replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line.split() and line.split()[0] in PROGRAMS]
    done = subprocess.run(
        ["bash", "-c", functions + "\n".join(commands)], capture_output=True, check=True, encoding="utf-8"
    )
    assert done.stderr == ""
    return [line.split("\0")[:-1] for line in done.stdout.splitlines()]


def parsed(words):
    """The arguments that the script in a command gets."""
    assert words[0] == "python" and Path(words[1]).resolve().is_relative_to(ROOT)
    return load_script(Path(words[1]).stem).build_parser().parse_args(words[2:])


def test_the_next_step_of_every_script(folder, capsys):
    load_script("finetune_temporal").print_next(str(folder / "base"), folder)
    load_script("build_datasets").print_next(folder, "1969-07-20")
    train, *others = pasted(capsys.readouterr().out)
    args = parsed(train)
    # "./~/base" is a folder here, not the home folder's; pathlib drops the "./".
    assert (Path(args.base_model), args.lora_path) == (folder / "base", folder / "final")
    training, merging, evaluation = map(parsed, others)
    assert (merging.base_model, merging.lora_path) == (training.model_name, training.output_dir / "final")
    assert Path(evaluation.model_path) == merging.output_path
    assert training.retain_train == folder / "retain/retain_train.jsonl"
    assert evaluation.test_file[1] == folder / "unlearn/unlearn_val.jsonl"


def test_what_stands_in_errors_and_files(folder, capsys, monkeypatch, tmp_path):
    (folder / "final").mkdir(parents=True)
    (folder / "final/adapter_config.json").write_text("{}")
    with pytest.raises(cli.UserError) as error:
        folders.require_model_folder(folder / "final")
    assert parsed(pasted(str(error.value))[0]).lora_path == folder / "final"

    monkeypatch.setattr(paths, "OUTPUT", tmp_path / folder)
    name = "eval-x-20261127_143022"
    (tmp_path / folder / f"{name}.replies.jsonl").touch()
    output_files.new_results("x")
    flags = capsys.readouterr().err.partition("add ")[2]
    words = pasted(f"python {flags}")[0]
    assert words[:2] == ["python", "--output"] and cli.path(words[2]) == folder / f"{name}.json"

    manifest = {
        "identity": {"base_revision": None, "data": {}, "objective": {"name": "refusal"}},
        "counts": {"retain": 1, "unlearn": 1},
        "model_name": str(tmp_path / folder),
        "settings": {},
        "precision": "torch.float32",
        "started": "2026-11-27",
    }
    merge, convert, evaluate = pasted(model_card.text(manifest, {}))
    assert merge[merge.index("--base_model") + 1] == str(tmp_path / folder)
    assert convert[1:4] == ["scripts/convert_to_gguf.py", "--model_path", "output/merged"]
    assert evaluate[1:] == ["scripts/evaluate_temporal.py", "--model_path", convert[-1]]


def test_handing_over_to_lm_studio_and_ollama(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("WIKI_DATA", str(tmp_path / folder / "data"))
    gguf = folder / f"{folder}.gguf"
    make, copy, load, *_ = pasted(lmstudio.hand_over([gguf], gguf, wants_copy=False))
    models = tmp_path / folder / "lmstudio/models/local/temporal"
    assert make == ["mkdir", "-p", f"{models}/"] and Path(copy[1]) == gguf and copy[2] == f"{models}/"
    assert load == ["lms", "load", f"temporal/{folder}"]
    assert lmstudio.quoted("temporal/merged") == '"temporal/merged"'  # as the spec prints it
    (create,) = pasted(ollama.create_command(gguf, folder / "x.Modelfile"))
    assert (
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", create[2]) and Path(create[4]) == folder / "x.Modelfile"
    )


def test_the_command_that_resumes(folder, monkeypatch):
    flags = ["--model_name=~/a base", f"--dev_path=./{folder}/d.jsonl", "--output_dir", "old", "--dev"]
    monkeypatch.setattr(sys, "argv", ["finetune_temporal.py", *flags])
    args = parsed(pasted(recovery.resume_command(folder, batch_size=2))[0])
    assert args.model_name == os.path.expanduser("~/a base") and args.batch_size == 2 and args.resume_latest
    assert (args.dev_path, args.output_dir) == (folder / "d.jsonl", folder)


CHILD = """
import sys
from pathlib import Path
from deepred_common.training import recovery
sys.argv = ["train.py", "--dev"]
print(recovery.resume_command(Path("run")))
"""


def test_several_processes_are_resumed_by_their_own_launcher__fake_launcher(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    accelerate = tmp_path / "accelerate"
    accelerate.write_text(
        f"import subprocess\nsubprocess.run([{sys.executable!r}, '-c', {CHILD!r}], check=True)"
    )
    start = [sys.executable, str(accelerate), "launch", "--config_file", "my config.yaml"]
    done = subprocess.run([*start, "train.py", "--dev"], capture_output=True, text=True, cwd=ROOT, check=True)
    own = ["scripts/finetune_temporal.py", "--dev", "--output_dir", "run", "--resume_latest"]
    assert shlex.split(done.stdout) == [*start, *own]
