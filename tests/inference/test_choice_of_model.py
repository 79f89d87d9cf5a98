"""Which of the models that a server lists is asked."""

import pytest
from fake_server import running

from deepred_common.cli import UserError
from deepred_common.inference.api_model import ApiModel


@pytest.fixture
def server():
    with running() as server:
        yield server


LISTED = ["temporal/merged", "qwen/qwen3-4b", "text-embedding-nomic-embed-text-v1.5"]


def lists(server, names, loaded=()):
    """Let the server list `names`; by LM Studio's own API (None: there is none) these are `loaded`."""
    states = [
        {
            "id": name,
            "type": "embeddings" if name.startswith("text-") else "llm",
            "state": "loaded" if name in (loaded or ()) else "not-loaded",
        }
        for name in names
    ]

    def answer(path):
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in names]}, {}
        if path == "/api/v0/models" and loaded is not None:
            return 200, {"data": states}, {}
        return 404, "404 page not found", {}

    server.list = answer


@pytest.mark.parametrize(
    ("names", "loaded", "chosen"),
    [
        (LISTED, ["temporal/merged", "text-embedding-nomic-embed-text-v1.5"], "temporal/merged"),
        (LISTED, ["qwen/qwen3-4b"], "qwen/qwen3-4b"),
        ([LISTED[0], LISTED[2]], [], "temporal/merged"),
        ([LISTED[0], LISTED[2]], None, "temporal/merged"),
    ],
)
def test_the_only_chat_model_that_is_loaded_is_found_among_all_that_lm_studio_lists(
    server, names, loaded, chosen
):
    lists(server, names, loaded)
    assert ApiModel(server.url, None, 8).model == chosen
    assert ApiModel(server.url, "qwen/qwen3-4b" if "qwen/qwen3-4b" in names else chosen, 8).model in names


@pytest.mark.parametrize("loaded", [None, [], LISTED[:2]])
def test_of_several_chat_models_one_must_be_named(server, loaded):
    lists(server, LISTED, loaded)
    with pytest.raises(UserError, match=r"_model is needed; it lists: temporal/merged, qwen/qwen3-4b$"):
        ApiModel(server.url, None, 8)
