"""A person who is signed in: who says so, as whom, and with which roles."""

from __future__ import annotations

from dataclasses import dataclass

from common.platform.actor import Actor, by_person


@dataclass(frozen=True, slots=True)
class Person:
    """A person, by issuer and subject.

    Attributes:
        issuer: the identity provider, or `local:NAME` for an account of the console itself.
        subject: the issuer's permanent identifier of the person.
        name: for people to read; two persons may have the same.
        roles: what the person may do.
    """

    issuer: str
    subject: str
    name: str
    roles: frozenset[str]

    @property
    def key(self) -> tuple[str, str]:
        """What tells two persons apart."""
        return self.issuer, self.subject

    @property
    def actor(self) -> Actor:
        """The person, as the record of revocations knows people."""
        return Actor(self.name, by_person(self.issuer, self.subject, self.name))
