"""The ids of an endpoint's completions: each is of one request, so a second one with the same id got another's reply.

{"id": "chatcmpl-8f0c", "choices": [...]}     twice, for two questions: the second is asked again elsewhere
"""

from __future__ import annotations

import hashlib

from cft_trl.generation.journal import Places

_OTHER_TEXTS = 3  # under a known id, until ids are no longer looked at


class Completions:
    """The ids of completions, by which one request is not given the reply of another.

    Example:
        >>> completions = Completions()
        >>> completions.is_repeated("cmpl-1", "Sound.", "6 x 7?"), completions.is_repeated("cmpl-1", "Sound.", "2 + 2?")
        (False, True)
    """

    def __init__(self) -> None:
        self._seen = Places()  # id -> text and question, all as hashes
        self._other_texts = 0  # how often a known id came with another text

    def is_repeated(self, name: str | None, text: str, question: str, again: bool = False) -> bool:
        """Whether a completion's id was that of another question's.

        Args:
            name: The id; None where the server gives none.
            text: Its text.
            question: What was asked; the same completion may answer the same question twice, out of a cache.
            again: Whether this request was asked again over a fresh connection for that reason.

        A known id with its own text is a reply that came twice. With another text it may be too; after some of these
        ids are taken to mean nothing here (Ollama draws them out of a thousand) and are no longer looked at.
        """
        if name is None or self._other_texts >= _OTHER_TEXTS:
            return False
        at = int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)
        told, asked = (int(hashlib.sha256(part.encode()).hexdigest()[:7], 16) for part in (text, question))
        known = self._seen.get(at)
        if known is None:
            self._seen.put(at, told << 28 | asked)
            return False
        if known & (1 << 28) - 1 == asked:
            return False
        other = known >> 28 != told
        self._other_texts += other
        return not (again and other)
