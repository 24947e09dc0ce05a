"""Scores the report: `totals` and `plot` by themselves, `reward` their mean, all written to reward.json."""

import csv
import json
import struct
import traceback
import zlib
from collections import Counter
from pathlib import Path


def totals_are_right() -> bool:
    wanted = Counter()
    with Path("/app/sales.csv").open() as file:
        for row in csv.DictReader(file):
            wanted[row["region"]] += int(row["amount"])
    return json.loads(Path("/app/report/totals.json").read_text()) == dict(wanted)


def plot_is_a_picture() -> bool:
    data = Path("/app/report/totals.png").read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return False
    width, height = struct.unpack(">II", data[16:24])
    body, position = b"", 8
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        if data[position + 4 : position + 8] == b"IDAT":
            body += data[position + 8 : position + 8 + length]
        position += 12 + length
    return width >= 100 and height >= 100 and len(set(zlib.decompress(body))) > 1


def score(check) -> float:
    try:
        return float(check())
    except Exception:
        traceback.print_exc()
        return 0.0


rewards = {"totals": score(totals_are_right), "plot": score(plot_is_a_picture)}
rewards["reward"] = sum(rewards.values()) / 2
Path("/logs/verifier/reward.json").write_text(json.dumps(rewards))
print(rewards)
