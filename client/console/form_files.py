"""Scanned forms: which kinds of file are taken, by their first bytes, whatever their name says."""

from __future__ import annotations

from common.errors import InputError

MOST_BYTES = 10 * 2**20
_KINDS = (
    (b"%PDF-", "application/pdf", "pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png", "png"),
    (b"\xff\xd8\xff", "image/jpeg", "jpg"),
    (b"II*\x00", "image/tiff", "tif"),
    (b"MM\x00*", "image/tiff", "tif"),
)


def media_type_of(content: bytes) -> tuple[str, str]:
    """Media type and ending of a form; one that came by another way may be anything."""
    for start, media_type, suffix in _KINDS:
        if content.startswith(start):
            return media_type, suffix
    return "application/octet-stream", "bin"


def check_form(content: bytes) -> bytes:
    """Refuse what is no scanned form.

    Raises:
        InputError: of another kind, or too large.
    """
    if len(content) > MOST_BYTES:
        raise InputError("The file is larger than 10 MB.")
    if content and media_type_of(content)[1] == "bin":
        raise InputError("The form must be a PDF, PNG, JPEG or TIFF file.")
    return content
