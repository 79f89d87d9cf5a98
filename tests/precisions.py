"""In which precisions the tests of training run: those that this machine has instructions for.

Name others in DEEPRED_TEST_PRECISIONS, separated by commas. Any CPU emulates bf16, slowly but well enough for
the tests' tiny models:

    DEEPRED_TEST_PRECISIONS=fp32,bf16 python -m pytest tests/scripts/test_finetune_temporal.py
"""

import os

from deepred_common import devices

_NAMES = os.environ.get("DEEPRED_TEST_PRECISIONS")
# Not fp16, which needs a GPU: tests/gpu is for that.
_NATIVE = [name for name in devices.native_precisions() if name != "fp16"]
PRECISIONS = _NAMES.split(",") if _NAMES else _NATIVE
