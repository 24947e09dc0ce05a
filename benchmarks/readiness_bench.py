"""`environments()` in a fresh process, nothing set, all SDKs installed: seconds, and ratios to its parts."""

import json
import os
import statistics
import subprocess
import sys
import time

RUNS = 5
TABLE = """
import sys, time, json
began = time.perf_counter()
import harbor_nb
harbor_nb.environments()
first = time.perf_counter() - began
began = time.perf_counter()
harbor_nb.environments()
again = time.perf_counter() - began
vendors = "daytona daytona_api_client_async e2b modal runloop_api_client docker"
sdks = [name for name in vendors.split() if name in sys.modules]
print(json.dumps({"first": first, "again": again, "sdks": sdks}))
"""
IMPORTS = "import daytona.internal, e2b, modal, runloop_api_client, docker; from daytona import AsyncDaytona"


def timed(code: str) -> tuple[float, str]:
    keep = ("PATH", "HOME", "PYTHONPATH", "XDG_CACHE_HOME")
    environment = {name: os.environ[name] for name in keep if name in os.environ}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stdout


def main() -> None:
    timed(TABLE)  # warm the disk
    rounds = [(json.loads(timed(TABLE)[1]), timed(IMPORTS)[0], timed("import pandas")[0]) for _ in range(RUNS)]
    first = min(told["first"] for told, _, _ in rounds)
    again = statistics.median(told["again"] for told, _, _ in rounds)
    sdks = min(seconds for _, seconds, _ in rounds)
    pandas = min(seconds for _, _, seconds in rounds)
    print(f"environments() in a fresh process   {first:.2f} s (best of {RUNS}; wanted: at most 1.50)")
    print(f"the same again                      {again * 1000:.1f} ms (wanted: at most 30)")
    print(f"vendor SDKs imported                {rounds[0][0]['sdks'] or 'none'} (wanted: none)")
    print(f"over `import pandas` alone          {first / pandas:.2f} x")
    print(f"over importing the vendors' SDKs    {first / sdks:.2f} x")
    print(f"load of this machine                {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
