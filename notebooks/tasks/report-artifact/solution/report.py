import csv
import json
import struct
import zlib
from collections import Counter
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 320, 200, 20
WHITE, BLUE, GREY = b"\xff\xff\xff", b"\x1f\x77\xb4", b"\x88\x88\x88"

totals = Counter()
with Path("/app/sales.csv").open() as file:
    for row in csv.DictReader(file):
        totals[row["region"]] += int(row["amount"])

report = Path("/app/report")
report.mkdir(exist_ok=True)
(report / "totals.json").write_text(json.dumps(totals, indent=2) + "\n")

pixels = [[WHITE] * WIDTH for _ in range(HEIGHT)]
slot = (WIDTH - 2 * MARGIN) // len(totals)
for index, total in enumerate(totals.values()):
    top = HEIGHT - MARGIN - round(total / max(totals.values()) * (HEIGHT - 2 * MARGIN))
    for y in range(top, HEIGHT - MARGIN):
        for x in range(MARGIN + index * slot + 8, MARGIN + (index + 1) * slot - 8):
            pixels[y][x] = BLUE
pixels[HEIGHT - MARGIN] = [GREY] * WIDTH


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


picture = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + b"".join(row) for row in pixels)))
    + chunk(b"IEND", b"")
)
(report / "totals.png").write_bytes(picture)
