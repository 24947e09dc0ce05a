#!/bin/bash
set -e
cd /app
python3 - <<'PY'
from pathlib import Path

path = Path("token_service.py")
code = path.read_text()
code = code.replace("from collections.abc", "import asyncio\nfrom collections.abc", 1)
code = code.replace("        self._clock = clock\n", "        self._clock = clock\n        self._refreshing = asyncio.Lock()\n", 1)
code = code.replace(
    """        if self._clock() >= self._tokens.expires_at:
            self._tokens = await self._exchange(self._tokens.refresh_token)
""",
    """        if self._clock() >= self._tokens.expires_at:
            async with self._refreshing:
                # Somebody else may have refreshed while this caller waited.
                if self._clock() >= self._tokens.expires_at:
                    self._tokens = await self._exchange(self._tokens.refresh_token)
""",
    1,
)
path.write_text(code)
PY
