"""Forces the interleaving: in asyncio a task gives way only where it awaits, so the order is the same on every run.

The server's exchange gives way many times before it answers. Every caller that can reach the server meanwhile does,
so code that races fails always, and code that does not race passes always.
"""

import asyncio
import sys
import unittest

sys.path.insert(0, "/app")

from token_service import TokenPair, TokenService  # noqa: E402


class RefreshTokenReused(Exception):
    pass


class ServerUnavailable(Exception):
    pass


class Server:
    def __init__(self):
        self.now = 1000.0
        self.valid = "refresh-0"
        self.exchanges = 0
        self.down = False

    def clock(self):
        return self.now

    async def exchange(self, refresh_token):
        self.exchanges += 1
        for _ in range(200):
            await asyncio.sleep(0)
        if self.down:
            raise ServerUnavailable
        if refresh_token != self.valid:
            raise RefreshTokenReused(refresh_token)
        self.valid = f"refresh-{self.exchanges}"
        return TokenPair(f"access-{self.exchanges}", self.valid, self.now + 60)

    def service(self, expires_at=0.0):
        return TokenService(TokenPair("access-0", self.valid, expires_at), self.exchange, self.clock)


class TestTokenService(unittest.IsolatedAsyncioTestCase):
    async def test_concurrent_callers_cause_one_exchange(self):
        server = Server()
        service = server.service()
        for expiry in (1, 2, 3):
            tokens = await asyncio.gather(*(service.get_token() for _ in range(25)))
            self.assertEqual(tokens, [f"access-{expiry}"] * 25)
            self.assertEqual(server.exchanges, expiry)
            server.now += 61

    async def test_a_valid_token_needs_no_exchange(self):
        server = Server()
        service = server.service(expires_at=server.now + 1)
        self.assertEqual(await asyncio.gather(*(service.get_token() for _ in range(5))), ["access-0"] * 5)
        self.assertEqual(server.exchanges, 0)

    async def test_after_a_failed_exchange_the_next_caller_can_try_again(self):
        server = Server()
        service = server.service()
        server.down = True
        with self.assertRaises(ServerUnavailable):
            await asyncio.wait_for(service.get_token(), 10)
        server.down = False
        token = await asyncio.wait_for(service.get_token(), 10)
        self.assertEqual(token, f"access-{server.exchanges}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
