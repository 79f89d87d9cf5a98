"""Why no connection with a server comes about: encryption, and the machine around this one."""

import platform
import shlex
import ssl
import subprocess

import pytest
from fake_server import running

from deepred_common.cli import UserError
from deepred_common.inference.api_model import ApiModel


@pytest.fixture
def server():
    with running() as server:
        yield server


def test_https_at_a_server_that_speaks_http_is_named(server):
    with pytest.raises(UserError, match=r"not speak https\. Try --lmstudio_url http://127\.0\.0\.1:\d+/v1"):
        ApiModel(server.url.replace("http:", "https:"), None, 8)


def test_a_certificate_that_is_not_trusted_is_named_with_the_way_to_trust_it(server, tmp_path, monkeypatch):
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    with pytest.raises(UserError, match=r"is not trusted here .*\n.*export REQUESTS_CA_BUNDLE="):
        ApiModel(url, None, 8)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert ApiModel(url, None, 8).model == "m"


def self_signed(folder):
    """A certificate of 127.0.0.1 with its key, as one file."""
    file = folder / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {file}.key -out {file}.crt"
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    file.write_text("".join((folder / f"{file.name}.{end}").read_text() for end in ("key", "crt")))
    return file


def test_in_wsl_the_way_to_lm_studio_on_windows_is_shown(monkeypatch):
    monkeypatch.setattr(platform, "release", lambda: "5.15.167.4-microsoft-standard-WSL2")
    with pytest.raises(UserError, match=r"is WSL.*\n  --lmstudio_url http://\$\(ip route show .*\):9/v1"):
        ApiModel("http://localhost:9/v1", None, 8)
