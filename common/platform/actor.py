"""Who acted on a revocation: a typed name and the identity it is bound to, so that one person cannot act as two. Pure.

An identity is a list of words: `user:1000:lee` (a login of the operating system), `shared:0:root` (an account used by
several people), `key:KEYID` (a steward's key that signed), `certificate:FINGERPRINT` (a client of the consent service),
`person:DIGEST:lee` (somebody who signed in to a console, by the digest of issuer and subject).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import NamedTuple

from common.errors import RefusedError

_PERSONAL = frozenset({"user", "key", "certificate", "person"})
_WORDS = {
    "user": "operating-system user",
    "key": "key",
    "certificate": "certificate",
    "person": "person signed in to the console",
}
_DIGITS = 32


class Actor(NamedTuple):
    """A person or program that acts.

    Attributes:
        name: as typed; empty for software.
        identity: the identity that the name is bound to; empty if unknown, as in older records.
    """

    name: str
    identity: str = ""


def by_user(number: int, name: str, *, shared: bool) -> str:
    """An account of the operating system."""
    return f"{'shared' if shared else 'user'}:{number}:{''.join(name.split())[:32]}"


def by_key(keyid: str) -> str:
    """A key that signed."""
    return f"key:{keyid}"


def by_certificate(fingerprint: str) -> str:
    """A client certificate."""
    return f"certificate:{fingerprint}"


def by_person(issuer: str, subject: str, name: str) -> str:
    """Somebody who signed in to a console. Issuer and subject tell people apart; the name is for people to read."""
    digest = hashlib.sha256(f"{issuer}\0{subject}".encode()).hexdigest()[:_DIGITS]
    return f"person:{digest}:{''.join(name.split())[:32]}"


def same_person(identity: str) -> str:
    """How each identity of this person of a console begins, whatever they were called when they acted."""
    return ":".join(identity.split(":")[:2]) + ":"


def in_words(identity: str) -> str:
    """An identity for people; `not recorded` for an older record."""
    words = []

    for word in identity.split():
        what, _, rest = word.partition(":")
        number, _, name = rest.partition(":")

        match what:
            case "user":
                words.append(f"operating-system user {name or '?'} ({number})")
            case "shared":
                words.append(f"shared account {name or '?'} ({number})")
            case "person":
                words.append(f"console user {name or '?'} ({number[:8]})")
            case _:
                words.append(f"{what} {rest}")

    return ", ".join(words) or "not recorded"


def check_second(
    first: Actor, second: Actor, shared: Collection[str] = (), *, otherwise: str = "approve with a steward's --key"
) -> None:
    """Refuse an approval without a name, by the first person under any name, or if the two cannot be told apart.

    Args:
        first: the actor who recorded the revocation, or decided that it is one; software has no name.
        second: the actor who approves.
        shared: names and numbers of further accounts that several people use.
        otherwise: what to do if the two cannot be told apart.

    Raises:
        RefusedError: the second person is the first one, or this cannot be ruled out.
    """
    if not second.name.strip():
        raise RefusedError("an approval needs the name of who approves")
    ours = _personal(first.identity, shared)
    theirs = _personal(second.identity, shared)
    # Two people whom one console tells apart may have the same name.
    are_people = all(any(word.startswith("person:") for word in words) for words in (ours, theirs))
    if not are_people and first.name.strip() and first.name.strip().casefold() == second.name.strip().casefold():
        raise RefusedError("a second person must approve: not the one who recorded the revocation")

    if same := sorted(ours & theirs):
        what = _WORDS[same[0].partition(":")[0]]
        hint = "; if several people share this account, site.toml must list it in shared_accounts, and --key approves"
        raise RefusedError(
            f"a second person must approve: the same {what} recorded the revocation, as {first.name or 'its sender'}"
            + (hint if what == _WORDS["user"] else "")
        )

    # A steward's key is its holder's alone, so it counts even where the accounts cannot be told apart.
    has_key = any(word.startswith("key:") for word in theirs)
    apart = not first.name.strip() or bool(ours)
    if not has_key and not (apart and theirs):
        why = f"approved from {in_words(second.identity)}" if apart else f"recorded from {in_words(first.identity)}"
        raise RefusedError(f"a second person must approve, and nobody can tell who that is ({why}): {otherwise}")


def _personal(identity: str, shared: Collection[str]) -> frozenset[str]:
    """The words that identify a single person."""
    words = set()

    for word in identity.split():
        what, _, rest = word.partition(":")
        number, _, name = rest.partition(":")
        # An account that several people use says nothing about which of them acted.
        if what in _PERSONAL and not (what == "user" and (number in shared or name in shared)):
            words.add(f"{what}:{number}")

    return frozenset(words)
