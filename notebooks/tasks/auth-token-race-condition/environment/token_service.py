"""Hands out an access token that is always fresh."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class TokenPair:
    access_token: str
    refresh_token: str
    expires_at: float


class TokenService:
    """Keeps one session's tokens; `exchange` swaps a refresh token for a new pair, `clock` tells the time in seconds."""

    def __init__(
        self,
        tokens: TokenPair,
        exchange: Callable[[str], Awaitable[TokenPair]],
        clock: Callable[[], float],
    ) -> None:
        self._tokens = tokens
        self._exchange = exchange
        self._clock = clock

    async def get_token(self) -> str:
        if self._clock() >= self._tokens.expires_at:
            self._tokens = await self._exchange(self._tokens.refresh_token)
        return self._tokens.access_token
