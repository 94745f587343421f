"""A teacher on a vLLM server of ours: it starts when there is something to ask and stops when that is answered.

    turn = asyncio.Lock()
    teachers = [VllmTeacher(name, turn, name) for name in ("Qwen/Qwen3-4B", "Qwen/Qwen3-8B")]

Several take turns, since a machine that holds each of ten models seldom holds all ten. A rerun that finds all answers
in the journal starts nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from functools import cached_property

from cft_trl.generation.client import Teacher
from cft_trl.generation.identities import vllm_identity
from cft_trl.generation.types import Answers, Counts, InMemory, Kept, Request
from cft_trl.models.identity import Identity

_NO_KEY = ""  # names no variable: a server of ours is sent nobody's key


@dataclass
class VllmTeacher:
    """A model that vLLM serves for as long as it is asked.

    Attributes:
        source: A Hub id, a folder or "smollm2-135m".
        turn: Held while the server runs.
        model: What requests and rows call it.
        options: vLLM's own (see `cft_trl.generation.vllm_server.vllm_server`).
        max_concurrency, timeout: As for `client.Teacher`.
        revision: Commit, tag or branch of a Hub id.
        known: What the model is, where that is known already; see `identity`.
    """

    source: str
    turn: asyncio.Lock
    model: str
    options: tuple[str, ...] = ()
    max_concurrency: int = 256
    timeout: float = 600.0
    revision: str | None = None
    known: Identity | None = None

    @cached_property
    def identity(self) -> Identity:
        """What the model is, and with which options it is served; see identities.py."""
        return self.known or vllm_identity(self.source, self.revision, self.options)

    async def ask(
        self,
        requests: Iterable[Request],
        kept: Kept | None = None,
        *,
        counts: Counts | None = None,
        in_order: bool = False,
    ) -> Answers:
        """As `types.Model.ask`; `requests` are gone through twice, so they must be re-iterable.

        Args:
            requests, kept, counts, in_order: As there.

        Raises:
            CFTError: As there; or the server does not start.
        """
        from cft_trl.generation.vllm_server import vllm_server

        kept = InMemory() if kept is None else kept
        with ExitStack() as opened:
            url = None
            if any(request.key not in kept for request in requests):
                await self.turn.acquire()
                opened.callback(self.turn.release)
                server = vllm_server(self.source, served_name=self.model, revision=self.revision, options=self.options)
                # In a thread: other teachers go on while the model loads.
                url = await asyncio.to_thread(opened.enter_context, server)
            most = self.max_concurrency
            teacher = Teacher(self.model, url, _NO_KEY, most, self.timeout, at_first=most)
            async with aclosing(teacher.ask(requests, kept, counts=counts, in_order=in_order)) as answers:
                async for answer in answers:
                    yield answer
