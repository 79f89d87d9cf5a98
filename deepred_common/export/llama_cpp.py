"""llama.cpp: find it, fetch it, build what is needed of it, and run its tools with a log and a progress bar.

The converter (convert_hf_to_gguf.py) comes with a source tree. The quantiser is llama-quantize from a build, or the
same code prebuilt in the cyllama package, which saves ten minutes of compiling. Nothing of llama.cpp's own
requirements is installed: they pin older versions of torch and transformers than training uses.
"""

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from deepred_common.cli import UserError, progress
from deepred_common.files import require_writable_parent, whole_folder
from deepred_common.models import pypi_files

# The revision that the tests last passed with; the source package below vendors this very one.
REVISION = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"
REPOSITORY = "https://github.com/ggml-org/llama.cpp.git"
SOURCE_PACKAGE = "llama-cpp-python==0.3.36"
SOURCE_PACKAGE_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
CONVERTER = "convert_hf_to_gguf.py"


def _is_tree(folder):
    # Since llama.cpp #17114 the converter is a thin front to its conversion/ package: alone it fails.
    return (folder / CONVERTER).is_file() and (folder / "conversion").is_dir()


def find_tree(folder, asked_for):
    """The llama.cpp source tree at `folder`, else at $LLAMA_CPP_DIR; None if neither is there.

    asked_for: `folder` was named by the user, so that its being something else is an error.
    """
    folder = Path(folder).expanduser()
    if _is_tree(folder):
        return folder.resolve()
    if folder.exists() and (asked_for or any(folder.iterdir())):
        raise UserError(
            f"{folder} is no usable llama.cpp tree: {CONVERTER} and conversion/ must both be in it.\n"
            f"Update it (git pull), or remove it and let this script fetch revision {REVISION[:10]}."
        )
    named = os.environ.get("LLAMA_CPP_DIR")
    if named and not asked_for:
        if not _is_tree(Path(named).expanduser()):
            raise UserError(
                f"LLAMA_CPP_DIR is {named}, which is no usable llama.cpp tree ({CONVERTER}, conversion/)."
            )
        return Path(named).expanduser().resolve()
    return None


def fetch_tree(folder):
    """Put llama.cpp's source at `folder`: a git clone of REVISION, or, when GitHub is out of reach, the same tree
    out of a pinned source package. Whole or not at all. UserError if neither can be had."""
    folder = Path(folder).expanduser()
    require_writable_parent(folder)
    with whole_folder(folder) as temporary:
        progress(f"cloning llama.cpp at {REVISION[:10]} from {REPOSITORY} …")
        refused = _clone(temporary)
        if refused:
            progress(
                f"that failed ({refused}); unpacking it from the source package {SOURCE_PACKAGE} (77 MB) …"
            )
            _unpack_source_package(temporary)
        if not _is_tree(temporary):
            raise UserError(
                f"what was fetched has no {CONVERTER} with conversion/; llama.cpp's layout has changed."
            )
    return folder.resolve()


def _clone(folder):
    """Clone REVISION into the empty `folder`; None, or the reason why not."""
    if not shutil.which("git"):
        return "git is not installed"
    # A stalled connection must not hang the user: below 1 kB/s for 15 s git gives up.
    git = ["git", "-C", str(folder), "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=15"]
    for step in (
        ["init", "-q"],
        ["fetch", "-q", "--depth", "1", REPOSITORY, REVISION],
        ["checkout", "-q", "FETCH_HEAD"],
    ):
        done = subprocess.run(
            git + step, capture_output=True, text=True, env=os.environ | {"GIT_TERMINAL_PROMPT": "0"}
        )
        if done.returncode:
            shutil.rmtree(folder / ".git", ignore_errors=True)
            return (done.stderr.strip().splitlines() or ["git failed"])[-1]
    return None


def _unpack_source_package(folder):
    with tempfile.TemporaryDirectory() as downloads:
        archive = pypi_files.fetch(
            SOURCE_PACKAGE, SOURCE_PACKAGE_SHA256, downloads, "source", "llama.cpp's source"
        )
        inside = re.compile(r"[^/]+/vendor/llama\.cpp/(.+)")
        with tarfile.open(archive) as tar:
            for member in tar:
                if (found := inside.fullmatch(member.name)) and found[1] != ".git":
                    member.name = found[1]
                    tar.extract(member, folder, filter="data")


def find_tool(tree, name):
    """A built llama.cpp program (`llama-quantize`, `llama-server`): in the tree's build folder, else on PATH; or None."""
    if tree:
        for place in ("build/bin", "build/bin/Release", "."):
            for suffix in ("", ".exe"):
                candidate = Path(tree) / place / (name + suffix)
                if candidate.is_file() and os.access(candidate, os.X_OK):
                    return candidate
    on_path = shutil.which(name)
    return Path(on_path) if on_path else None


def require_build_tools():
    """UserError unless cmake and a C++ compiler are there."""
    missing = [
        what
        for what, names in (("cmake", ["cmake"]), ("a C++ compiler", ["c++", "g++", "clang++", "cl"]))
        if not any(shutil.which(name) for name in names)
    ]
    if missing:
        raise UserError(
            f"llama-quantize must be built, and {' and '.join(missing)} cannot be found.\n"
            "Take the prebuilt quantiser: pip install cyllama (or: pip install cmake, and install g++)."
        )


def architectures(tree):
    """The architecture names ("LlamaForCausalLM") that the tree's converter knows. Its sources are read, not run: that takes seconds."""
    text = "".join(file.read_text(encoding="utf-8") for file in (tree / "conversion").glob("*.py"))
    return {
        name
        for names in re.findall(r"ModelBase\.register\(([^)]*)\)", text)
        for name in re.findall(r'"([^"]+)"', names)
    }


def build(tree, target, log):
    """Build one program of llama.cpp (about five minutes on two free cores for the first one); return its path."""
    require_build_tools()
    folder = Path(tree) / "build"
    configure = [
        "cmake",
        "-S",
        str(tree),
        "-B",
        str(folder),
        "-DCMAKE_BUILD_TYPE=Release",
        "-DBUILD_SHARED_LIBS=OFF",
        "-DLLAMA_CURL=OFF",
        "-DLLAMA_OPENSSL=OFF",
        "-DLLAMA_BUILD_TESTS=OFF",
    ]
    if shutil.which("ninja") and not (folder / "CMakeCache.txt").exists():
        configure += ["-G", "Ninja"]
    run_logged(configure, log, "configuring llama.cpp")
    run_logged(
        [
            "cmake",
            "--build",
            str(folder),
            "--config",
            "Release",
            "--target",
            target,
            "--parallel",
            str(os.cpu_count() or 1),
        ],
        log,
        f"building {target} (once)",
    )
    built = find_tool(tree, target)
    if built is None:
        raise UserError(f"building {target} ended without the program; see {log}")
    return built


_PROGRESS = re.compile(r"(\d{1,3})%\|?|\[ *(\d+)/ *(\d+)\]")
_CHUNKS = re.compile(r"over (\d+) chunks")
_CHUNK = re.compile(r"\[(\d+)\][-\d.,n]")
# llama.cpp's words for what users run into, and what to do about it.
_ADVICE = (
    (
        "pre-tokenizer was not recognized",
        "This llama.cpp does not know how the model's tokenizer splits text. Use the base's own tokenizer "
        "files unchanged, or a newer llama.cpp (git pull, --llama_cpp_path).",
    ),
    (
        "can not map tensor",
        "The model holds a tensor that this llama.cpp does not know. A newer one may (git pull, --llama_cpp_path).",
    ),
    (
        "tokenizer.model",
        "The tokenizer's files are not complete, or not of a kind that llama.cpp reads: merge again, or copy the base's.",
    ),
    ("no space left", "The disk is full; an f16 file takes 2 bytes a weight while it is quantised."),
)
_TELLING = re.compile(r"error|exception|not supported|failed|unable|cannot|no space", re.IGNORECASE)


def run_logged(command, log, title, environment=None):
    """Run `command` with its chatter appended to the file `log`, and one progress bar read out of that chatter.

    UserError with the line that matters and the log's path if it fails; it is stopped if this process is interrupted.
    """
    from tqdm import tqdm

    with (
        open(log, "a", encoding="utf-8") as file,
        tqdm(total=100, desc=title, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}") as bar,
    ):
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | (environment or {}),
            start_new_session=True,
        )
        lines, chunks = [], None
        try:
            # Text mode splits at \r too, so that each state of a tool's own bar arrives as a line.
            for line in process.stdout:
                file.write(line)
                lines = [*lines[-199:], line.rstrip()]
                if found := _CHUNKS.search(line):
                    chunks = int(found[1])
                elif chunks and (found := _CHUNK.findall(line)):
                    bar.update(100 * int(found[-1]) // chunks - bar.n)
                elif found := _PROGRESS.search(line):
                    share = int(found[1]) if found[1] else 100 * int(found[2]) // max(1, int(found[3]))
                    bar.update(max(0, min(share, 100) - bar.n))
            code = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if code == 0:
            bar.update(100 - bar.n)
    if code:
        telling = (
            [line for line in lines if _TELLING.search(line)]
            or [line for line in lines if line.strip()]
            or [f"exit code {code}"]
        )
        advice = next((advice for words, advice in _ADVICE if words in telling[-1].lower()), None)
        raise UserError(
            f"{title} failed: {telling[-1].strip()[:300]}\n"
            + (f"{advice}\n" if advice else "")
            + f"The whole output is in {log}"
        )
