"""What accelerate does to a model that is trained in mixed precision, where that is not wanted."""

from __future__ import annotations

from types import MethodType
from typing import Any


def leave_outputs_uncast(model: Any) -> None:
    """Take back that accelerate casts all outputs of a prepared model to fp32; any other stays as it is.

    Logits are the largest of what training holds, and objectives compute in fp32 anyway.
    """
    from accelerate.utils.operations import ConvertOutputsToFp32

    is_bound = hasattr(model.forward, "__func__")
    cast = getattr(model.forward.__func__ if is_bound else model.forward, "__wrapped__", None)
    if isinstance(cast, ConvertOutputsToFp32):
        model.forward = MethodType(cast.model_forward, model) if is_bound else cast.model_forward
