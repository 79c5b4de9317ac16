"""Text for somebody outside: a word stays if FedForget's own code can say it, and is withheld otherwise.

This is an allow-list: identifiers, names, paths, addresses, digests, keys and dates are not in the vocabulary, so that
nobody has to recognise them. What is known to be private here is withheld even if it is an ordinary word or a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.platform.support.vocabulary import EDGES, Vocabulary, own_vocabulary

WITHHELD = "[withheld]"
SHORTEST = 4
"""Characters of a private word that is withheld wherever it occurs: the identifier `12` cannot be told from a count."""
_NUMBER = re.compile(r"-?\d{1,4}(\.\d{1,3})?%?", re.ASCII)
_PLACE = re.compile(r"((?:\w+/)?\w+\.py):(\d{1,5})", re.ASCII)
_CHUNK = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Redaction:
    """What may be said.

    Args:
        private: words of this folder that are withheld, in any case of letters.
        aliases: names that are replaced, for example those of hospitals.
    """

    private: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict)
    vocabulary: Vocabulary = field(default_factory=own_vocabulary)

    @classmethod
    def of(cls, private: set[str], aliases: Mapping[str, str]) -> Redaction:
        """Without the words that are too short to be told from counts."""
        words = {word.casefold() for text in private for word in (text, *text.split())}
        return cls(frozenset(word for word in words if len(word) >= SHORTEST), dict(aliases))

    def text(self, text: str) -> str:
        """`text`, with each word that is not allowed withheld; runs of such words become one mark."""
        words = _CHUNK.sub(lambda match: self._chunk(match[0]), text)
        return re.sub(rf"{re.escape(WITHHELD)}(\s+{re.escape(WITHHELD)})+", WITHHELD, words)

    def word(self, word: str) -> str:
        """One word or name, whole."""
        return self._chunk(word) if _CHUNK.fullmatch(word) else WITHHELD

    def _chunk(self, chunk: str) -> str:
        core = chunk.strip(EDGES)
        if not core:
            return chunk if len(chunk) <= 3 else WITHHELD
        start = chunk.index(core)
        before, after = chunk[:start], chunk[start + len(core) :]

        # More marks than this are no punctuation: something may be written in them.
        return f"{before}{self._core(core)}{after}" if len(before) + len(after) <= 6 else WITHHELD

    def _core(self, core: str) -> str:
        if core in self.aliases:
            return self.aliases[core]
        if core.casefold() in self.private:
            return WITHHELD
        place = _PLACE.fullmatch(core)
        is_known = (
            core in self.vocabulary.words
            or core in self.vocabulary.functions
            or _NUMBER.fullmatch(core) is not None
            or (place is not None and place[1] in self.vocabulary.modules)
        )

        return core if is_known else WITHHELD
