"""Run a script with its arguments, with FSDP although there is no GPU: accelerate leaves it out on a CPU."""

import runpy
import sys

from accelerate import PartialState
from accelerate.utils import DistributedType

start = PartialState.__init__


def start_as_on_gpus(self, *args, **options):
    start(self, *args, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU


PartialState.__init__ = start_as_on_gpus
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
