"""A letter as a tagged PDF (PDF/UA): what the browser's console hands out. It loads nothing from anywhere."""

from __future__ import annotations


def as_pdf(page: str) -> bytes:
    """The PDF of a page of HTML that `letter.compose` made."""
    from weasyprint import HTML  # noqa: PLC0415 - a second, and Pango, for this alone
    from weasyprint.urls import URLFetcher  # noqa: PLC0415

    content = HTML(string=page, url_fetcher=URLFetcher(allowed_protocols=())).write_pdf(pdf_variant="pdf/ua-1")
    return bytes(content or b"")
