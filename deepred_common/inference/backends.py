"""Which back end answers for a path or URL, and opening it."""

import contextlib

from deepred_common import cli, devices, provenance
from deepred_common.models import folders, loading


def kind_of(model_path):
    """What --model_path is: "gguf", "adapter" or "folder" (a hub name is one too)."""
    if str(model_path).endswith(".gguf"):
        return "gguf"
    return "adapter" if folders.is_adapter(model_path) else "folder"


@contextlib.contextmanager
def opened(args, path, system):
    """The model to ask (local_model.LocalModel or ApiModel) and its identity; a GGUF file is served while it is open."""
    from deepred_common.inference import api_model, llama_server, local_model

    if path is None:
        yield (
            api_model.ApiModel(
                args.lmstudio_url, args.lmstudio_model, args.max_tokens, args.in_flight, args.timeout, system
            ),
            None,
        )
        return
    kind = kind_of(path)
    if kind == "gguf":
        cli.progress(f"serving {path} with llama.cpp …")
        with llama_server.serving(path, slots=args.in_flight, tree=args.llama_cpp_path) as url:
            yield (
                api_model.ApiModel(url, None, args.max_tokens, args.in_flight, args.timeout, system),
                provenance.sha256(path),
            )
        return
    loading.quiet_libraries()
    dtype, why = devices.pick_dtype()
    device = devices.pick_device()
    cli.progress(f"loading {path} on {device} in {str(dtype).removeprefix('torch.')} ({why}) …")
    if kind == "adapter":
        model, tokenizer = loading.load_with_adapter(
            folders.require_adapter(path), dtype, trust_remote_code=args.trust_remote_code
        )
    else:
        model = loading.load_model(path, dtype, args.trust_remote_code)
        tokenizer = loading.load_tokenizer(path, args.trust_remote_code)
    yield (
        local_model.LocalModel(model.to(device), tokenizer, args.max_tokens, args.batch_size, system),
        loading.identity(path, model.config),
    )
