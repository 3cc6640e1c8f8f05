"""Profiles in a folder of their own, and machines to hold them against."""

from tests.unit.profile_machines import cpu_machine, gpu_machine, load

__all__ = ["cpu_machine", "gpu_machine", "load"]
