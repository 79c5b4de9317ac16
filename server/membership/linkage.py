"""Hands on tokens by which hospitals that share a patient tell each other of a revocation.

A token is an HMAC with a key that hospitals alone have. Nothing here can tell whose it is, or make one.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from common.errors import RefusedError
from server.database import LinkageHeadRow, LinkageTokenRow, SiteRow

MAX_TOKENS = 200_000
"""Of one site: more than any hospital's patients who revoke, under several keys."""


class TooManyTokensError(RefusedError):
    """A site gave more tokens than it can have patients."""


def in_use(session: Session) -> bool:
    """Whether any token was ever handed on."""
    return session.scalar(select(LinkageTokenRow.position).limit(1)) is not None


def exchange(
    session: Session, site: str, tokens: Collection[bytes], after: int, most: int
) -> tuple[tuple[bytes, ...], int, int]:
    """Keep the new ones of a site's tokens, and hand on those of others after a position.

    Raises:
        TooManyTokensError: the site has given too many; nothing is kept of these.

    Returns:
        At most `most` tokens, the position that they reach to, and how many other sites there are.
    """
    token_set = {token.hex() for token in tokens}
    # Positions are given in the order of commits: who has read up to one has missed none before it.
    head = session.get_one(LinkageHeadRow, 1, with_for_update=True)
    of_site = select(LinkageTokenRow.token).where(LinkageTokenRow.site == site, LinkageTokenRow.token.in_(token_set))
    new = sorted(token_set - set(session.scalars(of_site)))
    rows = [{"position": head.size + n, "site": site, "token": token} for n, token in enumerate(new, start=1)]

    if rows:
        token_count = session.scalar(select(func.count()).where(LinkageTokenRow.site == site)) or 0
        # A site that tries out tokens, or is broken, must not fill the database or the queues of the others.
        if token_count + len(rows) > MAX_TOKENS:
            raise TooManyTokensError(f"{site} has given {token_count} tokens of linkage, at most {MAX_TOKENS} are kept")
        session.execute(insert(LinkageTokenRow), rows)
        head.size += len(rows)

    query = select(LinkageTokenRow).where(LinkageTokenRow.position > after).order_by(LinkageTokenRow.position)
    token_rows = session.scalars(query.limit(most)).all()
    others = session.scalar(select(func.count()).where(SiteRow.name != site, SiteRow.state != "revoked")) or 0
    upto = token_rows[-1].position if token_rows else after

    return tuple(bytes.fromhex(row.token) for row in token_rows if row.site != site), upto, others
