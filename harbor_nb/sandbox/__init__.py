"""A Linux sandbox without Docker: the host's userland read-only under overlays, on bubblewrap."""

from harbor_nb.sandbox.files import FileStat
from harbor_nb.sandbox.images import Image, build_image
from harbor_nb.sandbox.limits import Limits
from harbor_nb.sandbox.mounts import Mount
from harbor_nb.sandbox.processes import ExecResult, SandboxProcess
from harbor_nb.sandbox.running import Sandbox
from harbor_nb.sandbox.tiers import Tier, tier

__all__ = [
    "ExecResult",
    "FileStat",
    "Image",
    "Limits",
    "Mount",
    "Sandbox",
    "SandboxProcess",
    "Tier",
    "build_image",
    "tier",
]
