"""How much memory a container, or another control group of Linux, leaves to what runs in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
# {controller: (its folder, what a group may take, what it takes)}. Version 2 has one tree for all.
FILES = {
    "": ("", "memory.max", "memory.current"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
}
# Lines of memory.stat: read from files, and dropped as soon as memory is wanted.
CACHE = {"": ("active_file", "inactive_file"), "memory": ("total_active_file", "total_inactive_file")}


def left() -> int | None:
    """Bytes that this process's group may still take; None if no limit is set."""
    rooms = []
    for controller, group in _groups():
        _, limit, usage = FILES[controller]
        try:
            most, taken = (group / limit).read_text().strip(), int((group / usage).read_text())
            words = (line.split() for line in (group / "memory.stat").read_text().splitlines())
            cached = sum(int(size) for name, size in words if name in CACHE[controller])
        except (OSError, ValueError):
            continue  # the topmost group has no such files
        if most != "max":
            rooms.append(max(0, int(most) - taken + cached))
    return min(rooms, default=None)


def _groups() -> Iterator[tuple[str, Path]]:
    """(controller, folder) of the groups that this process is in, and of those around them."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in FILES.keys() & set(controllers.split(",")):
            top = CGROUPS / FILES[controller][0]
            own = top / path.lstrip("/")  # in a container perhaps the machine's path, which is not there
            yield from ((controller, group) for group in (own, *own.parents) if group.is_relative_to(top))
