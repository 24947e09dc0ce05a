"""A Linux sandbox without Docker: the host's userland read-only under overlays, on bubblewrap."""

from harbor_nb.sandbox.images import Image, build_image
from harbor_nb.sandbox.running import ExecResult, Sandbox
from harbor_nb.sandbox.tiers import Tier, tier

__all__ = ["ExecResult", "Image", "Sandbox", "Tier", "build_image", "tier"]
