"""How many requests are in flight: more while answers come, fewer when the server says that it is too many.

Additive increase, multiplicative decrease, as TCP does it, with a slow start that doubles:

    16 in flight, 16 answers -> 32; a 429 -> 16; from then on one more per round of answers
"""

from __future__ import annotations

import asyncio
from collections import deque

START = 16


class Limiter:
    """Slots for requests in flight, given out in the order they were asked for.

    A 429 always halves the limit, at most once per round: what was in flight at the time says nothing new. A 5xx or a
    time-out may be one bad request or an overloaded server; only where they are more than a quarter of what lately came
    back do they halve it. A Retry-After holds everything back until then.

    Args:
        most: The limit is never above this.
        first: What it is at first.

    Example:
        >>> limiter = Limiter(64)
        >>> async def run():
        ...     for _ in range(16):
        ...         began = await limiter.acquire()
        ...     for _ in range(16):
        ...         limiter.release(began)
        ...     began = await limiter.acquire()
        ...     limiter.release(began, good=False, overload=True)
        >>> asyncio.run(run())
        >>> limiter.limit
        16.0
    """

    def __init__(self, most: int, first: int = START) -> None:
        self.most = most
        self.limit = float(min(first, most))
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._slow_start = True
        self._decreased = 0
        self._faulty = 0.0  # moving share of 5xx and time-outs
        self._paused_until = 0.0
        self._begun = self._full = 0

    async def acquire(self) -> int:
        """Waits for a slot; returns the request's number, which `release` wants back."""
        if self.in_flight >= int(self.limit) or self._waiting or self._pause() > 0:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            self._wake()
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # the slot was given in the same moment
                    self.in_flight -= 1
                    self._wake()
                raise
        else:
            self.in_flight += 1
        self._begun += 1
        if self.in_flight >= int(self.limit):
            self._full = self._begun
        return self._begun

    def release(
        self,
        number: int,
        good: bool = True,
        overload: bool = False,
        fault: bool = False,
        wait: float = 0.0,
        probe: bool = False,
    ) -> None:
        """Gives a slot back and learns from how the request ended.

        Args:
            number: From `acquire`.
            good: The server did its work. A lost connection is neither this nor a fault: a server that restarts is
                not overloaded, and the limit is not to be small when it is back.
            overload: It was a 429.
            fault: It was a 5xx or a time-out.
            wait: Seconds that the server asked to be left alone.
            probe: Whether one request alone is to see, after that, if it may go on.
        """
        busy = number <= self._full  # a limit that is not reached is not found too low
        self.in_flight -= 1
        self._faulty += 0.05 * (fault - self._faulty)
        if overload or self._faulty > 0.25:
            if number > self._decreased:
                self.limit = max(1.0, self.limit / 2)
                self._slow_start, self._decreased, self._faulty = False, self._begun, 0.0
        elif good and busy:
            self.limit = min(float(self.most), self.limit + (1.0 if self._slow_start else 1.0 / self.limit))
        if wait > 0:
            self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + wait)
        if probe:
            self.limit, self._slow_start = 1.0, True
        self._wake()

    def _pause(self) -> float:
        return self._paused_until - asyncio.get_running_loop().time()

    def _wake(self) -> None:
        if self._waiting and (pause := self._pause()) > 0:
            asyncio.get_running_loop().call_later(pause + 0.001, self._wake)
            return
        while self._waiting and self.in_flight < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)
