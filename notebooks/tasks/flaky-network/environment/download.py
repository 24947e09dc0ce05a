"""A download that a coin decides; FLAKY_SEED in the environment makes the coin fall the same way each time."""

import os
import random
import sys
from pathlib import Path

seed = os.environ.get("FLAKY_SEED")
coin = random.Random(seed)  # without a seed each run has its own chance
used = Path("/app/.downloaded")
if used.exists():
    sys.exit("this network answers only once")
used.touch()
if coin.random() >= 0.7:
    sys.exit("connection reset by peer")
Path("/app/data.txt").write_text("42\n")
print("downloaded /app/data.txt")
