"""scripts/setup.sh and quickstart.sh, with a stand-in for Python that installs and trains nothing."""

import contextlib
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from deepred_common import paths

# Answers what setup.sh asks of Python. As pip it prints 100 lines; it fails or waits where a test wants it.
# As an evaluation it adds to the replies that were saved, unless there are results. With REAL_PYTHON that one
# runs the server's module.
FAKE_PYTHON = """#!/usr/bin/env bash
folder=$(dirname "$0")
case "$*" in
  *urlopen*) [ -e "$folder/online" ] ;;
  *metadata*) [ ! -e "$folder/removed" ] ;;
  *"import free_port"*) echo "${FREE_PORT:-}" ;;
  *"import xllamacpp"*) [ -z "${REAL_PYTHON:-}" ] ;;
  *llama_server*)
    [ -z "${REAL_PYTHON:-}" ] || exec "$REAL_PYTHON" "$@"
    [ -z "${FREE_PORT:-}" ] || exec sleep 60 ;;
  *evaluate_temporal*)
    words=$* results=${words##*--output } results=${results%% *} replies=${results%.json}.replies.jsonl
    if ! [ -e "$results" ]; then
      { echo '"schema": 2'; cat "$replies" 2>/dev/null; echo "asked now"; } > "$results"
      rm -f "$replies"
    fi ;;
  *"import torch"*) [ -e "$folder/torch" ] ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-m pip install"*)
    for i in $(seq 100); do echo "Collecting package $i"; done
    case "$*" in *"${SLOW:-nothing}"*) sleep 30 ;; esac
    case "$*" in *"${FAILING:-nothing}"*) echo "ERROR: No space left on device"; exit 1 ;; esac
    case "$*" in *torch==*) touch "$folder/torch" ;; esac ;;
esac
"""
STEPS = [
    "making .venv",
    "installing torch for the CPU",
    "installing the packages",
    "installing llama.cpp's quantiser",
    "installing llama.cpp's server",
]

AMD_FILES = ("/opt/rocm/.info/version", "/dev/kfd")

pytestmark = pytest.mark.skipif(
    any(Path(file).exists() for file in AMD_FILES),
    reason="set-up leaves torch to the user where ROCm is installed",
)


@pytest.fixture
def clone(tmp_path):
    """A folder with what set-up reads, and no GPU to be seen."""
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/quickstart.sh", "scripts/setup.sh", "requirements.txt", "constraints.txt"):
        shutil.copy(paths.ROOT / name, tmp_path / name)
    for name in ("python", "nvidia-smi"):
        (tmp_path / "tools").mkdir(exist_ok=True)
        (tmp_path / "tools" / name).write_text(FAKE_PYTHON, encoding="utf-8")
        (tmp_path / "tools" / name).chmod(0o755)
    return tmp_path


def start(clone, **environment):
    tools = clone / "tools"
    own = {"PYTHON": str(tools / "python"), "PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.Popen(
        ["scripts/quickstart.sh", "--setup-only"],
        cwd=clone,
        env=os.environ | own | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def set_up(clone, **environment):
    """(exit code, stdout, stderr) of one set-up."""
    process = start(clone, **environment)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def steps_shown(stdout):
    return [line.split(" … ")[0] for line in stdout.splitlines() if " … " in line]


def test_one_line_a_step_and_the_rest_in_a_log(clone):
    code, stdout, stderr = set_up(clone)
    assert (code, stderr) == (0, "")
    assert steps_shown(stdout) == STEPS
    assert len(stdout.splitlines()) < 10
    assert "\r" not in stdout and "\x1b" not in stdout, "no running clock in a pipe"
    assert (clone / ".venv/setup.log").read_text(encoding="utf-8").count("Collecting package 100") == 4
    assert "up to date" in set_up(clone)[1]


def test_a_failing_step_shows_the_end_of_its_output_and_the_next_run_goes_on(clone):
    code, stdout, stderr = set_up(clone, FAILING="requirements.txt")
    assert code == 1
    assert steps_shown(stdout) == STEPS[:3]
    assert "ERROR: No space left on device" in stderr and "Collecting package 1\n" not in stderr
    assert ".venv/setup.log" in stderr and "run scripts/quickstart.sh again" in stderr
    code, stdout, _ = set_up(clone)
    assert (code, steps_shown(stdout)) == (0, STEPS[2:])


def test_ctrl_c_exits_130_and_the_next_run_goes_on(clone):
    process = start(clone, SLOW="requirements.txt")
    log = clone / ".venv/setup.log"
    deadline = time.monotonic() + 30
    while not (log.exists() and log.read_text(encoding="utf-8").count("Collecting package 100") == 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Run scripts/quickstart.sh again" in stderr
    code, stdout, _ = set_up(clone)
    assert (code, steps_shown(stdout)) == (0, STEPS[2:])


def test_a_package_that_is_gone_is_installed_again(clone):
    set_up(clone)
    (clone / ".venv/bin/removed").touch()
    code, stdout, _ = set_up(clone)
    assert (code, steps_shown(stdout)) == (0, STEPS[2:]) and "up to date" not in stdout


def test_an_environment_whose_python_is_gone_is_made_again(clone):
    """venv itself keeps a link to nothing, and fails."""
    set_up(clone)
    (clone / ".venv/bin/python").unlink()
    (clone / ".venv/bin/python").symlink_to(clone / "gone")
    code, stdout, _ = set_up(clone)
    assert (code, steps_shown(stdout)) == (0, [STEPS[0], *STEPS[2:]])


def test_only_what_has_no_prebuilt_package_is_compiled(clone):
    """On ARM there is a server, but no quantiser."""
    code, stdout, _ = set_up(clone, FAILING="cyllama")
    assert (code, steps_shown(stdout)) == (0, [*STEPS, "installing cmake and ninja"])
    assert "No prebuilt quantiser could be installed" in stdout and "No prebuilt server" not in stdout
    log = (clone / ".venv/setup.log").read_text(encoding="utf-8")
    (server,) = [line for line in log.splitlines() if line.startswith("$") and "xllamacpp" in line]
    assert "cyllama" not in server


def test_the_small_torch_is_taken_wherever_its_index_is_in_reach(clone):
    def command():
        set_up(clone)
        lines = (clone / ".venv/setup.log").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("$") and "torch==" in line)

    assert "extra-index-url" not in command()
    shutil.rmtree(clone / ".venv")
    (clone / "tools/online").touch()
    assert command().endswith("--extra-index-url https://download.pytorch.org/whl/cpu")


def function(call, *arguments, stdin=None, **environment):
    """Whether a function of setup.sh succeeds, called with this Python."""
    done = subprocess.run(
        ["bash", "-c", f'source scripts/setup.sh; {call} "$@"', "test", *arguments],
        cwd=paths.ROOT,
        env=os.environ | {"PYTHON": sys.executable} | environment,
        stdin=stdin,
        timeout=60,
    )
    return done.returncode == 0


def test_an_index_behind_a_proxy_is_in_reach():
    """pip takes the proxy, so looking past it would choose the torch for CUDA."""
    seen = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{proxy.server_port}"
        none = dict.fromkeys(("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy"), "")
        assert function("reaches", "http://index.invalid/cpu/", **none | {"http_proxy": url})
        assert seen == ["http://index.invalid/cpu/"]
        assert not function("reaches", "http://index.invalid/cpu/", **none)
        proxy.shutdown()


def test_a_missing_package_is_noticed_whatever_the_checksum_says(tmp_path):
    file = tmp_path / "requirements.txt"
    for lines, has_all in (
        ("# none\nnumpy>=2   # arrays\nPyYAML\nJinja2>=3.1\n", True),
        ("numpy\nno-such-package>=1\n", False),
    ):
        file.write_text(lines, encoding="utf-8")
        with file.open() as requirements:
            assert function("has_packages", sys.executable, stdin=requirements) == has_all
    with file.open() as requirements:
        assert not function("has_packages", str(tmp_path / "python"), stdin=requirements)


@pytest.mark.parametrize("file", AMD_FILES)
def test_torch_is_left_to_the_user_where_either_part_of_rocm_is(file, clone):
    (clone / "rocm").touch()
    setup = clone / "scripts/setup.sh"
    setup.write_text(setup.read_text(encoding="utf-8").replace(f"-e {file} ", f"-e {clone}/rocm "))
    code, stdout, stderr = set_up(clone)
    assert (code, steps_shown(stdout)) == (2, STEPS[:1])
    assert "error: an AMD GPU or ROCm is here." in stderr and "No such file" not in stderr
    assert ".venv/bin/pip install torch --index-url https://download.pytorch.org/whl/rocm6.4" in stderr


def test_an_unknown_argument_is_refused_before_the_set_up(clone):
    refused = subprocess.run(
        ["scripts/quickstart.sh", "--set-up"], cwd=clone, capture_output=True, text=True, timeout=10
    )
    assert refused.returncode == 2
    assert "--setup-only" in refused.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_prints_the_usage_and_sets_nothing_up(flag, clone):
    shown = subprocess.run(
        [clone / "scripts/quickstart.sh", flag], cwd="/", capture_output=True, text=True, timeout=10
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("From a fresh clone to a GGUF file") and "--setup-only  " in shown.stdout
    assert "set -euo" not in shown.stdout and not (clone / ".venv").exists()


def quickstart(clone, *arguments, **environment):
    """quickstart.sh, finished: with a Python that does nothing, so it stops where it needs its server."""
    tools = clone / "tools"
    own = {"PYTHON": str(tools / "python"), "PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(
        ["scripts/quickstart.sh", *arguments],
        cwd=clone,
        env=os.environ | own | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def commands(done):
    """The commands that the user is shown."""
    return [line[2:] for line in done.stdout.splitlines() if line.startswith("$ ")]


def test_another_base_goes_through_the_same_commands_in_a_folder_of_its_own(clone):
    plain = commands(quickstart(clone))
    other = commands(quickstart(clone, "--base", "gemma-3-270m", "--accept_terms"))
    assert "python -m deepred_common.models.embedded_base" in plain
    assert any("convert_to_gguf.py" in line for line in plain)
    in_other_words = [
        line.replace("embedded_base gemma-3-270m --accept_terms", "embedded_base")
        .replace("output/base/gemma-3-270m", "output/base/SmolLM2-135M-Instruct")
        .replace("output/quickstart-gemma-3-270m/", "output/quickstart/")
        .replace("temporal-gemma-3-270m", "temporal")
        .replace("--learning_rate 8e-4", "--learning_rate 1.2e-3")
        for line in other
    ]
    assert in_other_words[:-1] == plain[:-1], "all but the server's, whose port differs"
    assert not any("output/quickstart/" in line or "SmolLM2" in line for line in other)


def test_set_up_only_makes_no_base_and_asks_for_no_terms(clone):
    done = quickstart(clone, "--setup-only", "--base", "gemma-3-270m")
    assert (done.returncode, done.stderr) == (0, "")
    assert steps_shown(done.stdout) == STEPS and commands(done) == []


def test_flags_may_be_spelled_with_either_line(clone):
    """The Python scripts write theirs with underscores."""
    for spelling in ("--setup-only", "--setup_only"):
        done = quickstart(clone, spelling)
        assert (done.returncode, done.stderr, commands(done)) == (0, "", [])
    for spelling in ("--accept-terms", "--accept_terms"):
        shown = commands(quickstart(clone, "--base", "gemma-3-270m", spelling))
        assert "python -m deepred_common.models.embedded_base gemma-3-270m --accept_terms" in shown


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            ["--base", "gemma-3-270m"],
            ["Gemma Terms of Use", "quickstart.sh --base gemma-3-270m --accept_terms"],
        ),
        (["--base", "gemma", "--accept_terms"], ["SmolLM2-135M-Instruct and gemma-3-270m"]),
        (["--base"], ["--base needs a name, such as gemma-3-270m"]),
    ],
)
def test_a_base_that_cannot_be_used_is_refused_before_the_set_up(arguments, lines, clone):
    shutil.copytree(
        paths.ROOT / "deepred_common", clone / "deepred_common", ignore=shutil.ignore_patterns("__pycache__")
    )
    # -S: no installed package is needed.
    bare = clone / "tools" / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    done = quickstart(clone, *arguments, PYTHON=str(bare))
    assert done.returncode == 2 and done.stdout == ""
    said = done.stderr.splitlines()
    assert len(said) == len(lines)
    for wanted, line in zip(lines, said, strict=True):
        assert wanted in line
    assert not (clone / ".venv").exists()


@pytest.fixture
def made(clone):
    """What the quickstart makes before it needs a server, each newer than what it is made from."""
    files = [
        "base/SmolLM2-135M-Instruct/config.json",
        "quickstart/base.json",
        "quickstart/talk-base.json",
        "quickstart/forms-base.json",
        "quickstart/run/final/adapter_model.safetensors",
        "quickstart/merged/config.json",
        "quickstart/temporal.gguf",
    ]
    for age, name in zip(range(9000, 0, -1000), files, strict=False):
        put(clone, name, '"schema": 2', age)
    return clone


def put(clone, name, text, age):
    """Write a file of output/ that is `age` seconds old."""
    file = clone / "output" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")
    os.utime(file, (time.time() - age,) * 2)


def test_replies_of_an_older_gguf_are_no_results_of_the_new_one(made):
    """The server's name and questions are the same, so --resume would take them for the new one's."""
    put(made, "quickstart/gguf.json", '"schema": 2 of the older file', 3500)
    put(made, "quickstart/talk-gguf.replies.jsonl", "of the older file", 3500)
    put(made, "quickstart/forms-gguf.replies.jsonl", "of the new file, interrupted", 2000)
    with socket.create_server(("127.0.0.1", 0), backlog=9) as server:
        done = quickstart(made, FREE_PORT=str(server.getsockname()[1]))
    assert done.returncode == 0, done.stderr
    results = {name: (made / f"output/quickstart/{name}.json").read_text() for name in ("gguf", "talk-gguf")}
    assert set(results.values()) == {'"schema": 2\nasked now\n'}
    resumed = (made / "output/quickstart/forms-gguf.json").read_text()
    assert resumed == '"schema": 2\nof the new file, interrupted\nasked now\n'
    assert "base.json exists; skipped" in done.stdout


def test_every_evaluation_names_its_questions(made):
    """The default files are those of WIKI_DATA, which may be set in every shell and need not hold them."""
    (made / "output/quickstart/base.json").unlink()
    with socket.create_server(("127.0.0.1", 0), backlog=9) as server:
        done = quickstart(made, FREE_PORT=str(server.getsockname()[1]), WIKI_DATA="/mnt/data/wikipedia")
    assert done.returncode == 0, done.stderr
    evaluations = [line for line in commands(done) if "evaluate_temporal.py" in line]
    plain = [line for line in evaluations if "--probes" not in line and "datasets/test/" not in line]
    assert len(plain) == 2 and len(evaluations) == 4
    for line in plain:
        assert "--test_file datasets/retain/retain_val.jsonl datasets/unlearn/unlearn_val.jsonl " in line


# ---- the server, by the real Python ------------------------------------------------------------------


@pytest.fixture
def with_server_module(made):
    """made, with this project's package, and no prebuilt server."""
    shutil.copytree(
        paths.ROOT / "deepred_common", made / "deepred_common", ignore=shutil.ignore_patterns("__pycache__")
    )
    return made


def program(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_server_ends_with_the_quickstart_even_by_kill_9(with_server_module):
    clone, pid_file = with_server_module, with_server_module / "server.pid"
    program(clone / "tools/llama-server", f"#!/bin/sh\necho $$ > {pid_file}\nexec sleep 60\n")
    tools = clone / "tools"
    environment = {"PYTHON": str(tools / "python"), "PATH": f"{tools}:{os.environ['PATH']}"}
    starter = subprocess.Popen(
        ["scripts/quickstart.sh"],
        cwd=clone,
        env=os.environ | environment | {"REAL_PYTHON": sys.executable, "FREE_PORT": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text().endswith("\n")):
        assert starter.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    starter.kill()
    starter.wait()
    server = int(pid_file.read_text())
    try:
        deadline = time.monotonic() + 20
        while psutil.pid_exists(server) and psutil.Process(server).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)


@pytest.fixture
def own_tree(with_server_module, tmp_path_factory):
    """A llama.cpp of the user's own, without a build, and compilers that do nothing."""
    if shutil.which("llama-server"):
        pytest.skip("a llama-server is installed here, so none is compiled")
    tree = tmp_path_factory.mktemp("own") / "llama.cpp"
    (tree / "conversion").mkdir(parents=True)
    (tree / "convert_hf_to_gguf.py").touch()
    for name in ("cmake", "c++"):
        program(with_server_module / "tools" / name, "#!/bin/sh\n")
    return tree


def test_without_a_prebuilt_server_one_is_compiled_in_the_user_s_own_llama_cpp(with_server_module, own_tree):
    made_now = own_tree / "build/bin/llama-server"
    program(
        with_server_module / "tools/cmake",
        f"#!/bin/sh\nmkdir -p {made_now.parent}\n"
        f"printf '#!/bin/sh\\necho this one, $*\\n' > {made_now}; chmod 755 {made_now}\n",
    )
    environment = {"REAL_PYTHON": sys.executable, "FREE_PORT": "1", "LLAMA_CPP_DIR": str(own_tree)}
    done = quickstart(with_server_module, **environment)
    assert "\nthis one, -m output/quickstart/temporal.gguf" in done.stderr


def test_a_server_that_cannot_be_compiled_is_told_in_a_line(with_server_module, own_tree):
    program(with_server_module / "tools/cmake", "#!/bin/sh\necho 'CMake Error: no good'; exit 1\n")
    done = quickstart(with_server_module, REAL_PYTHON=sys.executable, LLAMA_CPP_DIR=str(own_tree))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "\nerror: configuring llama.cpp failed: CMake Error: no good\n" in done.stderr
