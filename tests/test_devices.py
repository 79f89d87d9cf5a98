"""devices.py: what a process may use of its machine."""

import os

import pytest

from deepred_common import devices


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind a process to CPUs")
def test_cpus_that_a_container_or_job_withholds_are_not_counted():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert devices.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)
