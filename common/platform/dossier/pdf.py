"""A page as a tagged PDF for people and archives (PDF/UA-1 and PDF/A-2a). It loads nothing from anywhere."""

from __future__ import annotations

from common.errors import ConfigError

_VARIANT = "pdf/a-2a"
_UNIVERSAL = b"""
<rdf:Description rdf:about="" xmlns:pdfuaid="http://www.aiim.org/pdfua/ns/id/" pdfuaid:part="1"/>
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
 xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">
<pdfaSchema:schema>PDF/UA</pdfaSchema:schema>
<pdfaSchema:namespaceURI>http://www.aiim.org/pdfua/ns/id/</pdfaSchema:namespaceURI>
<pdfaSchema:prefix>pdfuaid</pdfaSchema:prefix>
<pdfaSchema:property><rdf:Seq><rdf:li rdf:parseType="Resource">
<pdfaProperty:name>part</pdfaProperty:name>
<pdfaProperty:valueType>Integer</pdfaProperty:valueType>
<pdfaProperty:category>internal</pdfaProperty:category>
<pdfaProperty:description>Part of ISO 14289 to which the document conforms</pdfaProperty:description>
</rdf:li></rdf:Seq></pdfaSchema:property>
</rdf:li></rdf:Bag></pdfaExtension:schemas>
</rdf:Description>
</rdf:RDF>"""
"""Says that the PDF/A is a PDF/UA as well; PDF/A asks for a description of that property (ISO 19005-2, 6.6.2.3)."""


def as_pdf(page: str) -> bytes:
    """The PDF of a page of HTML: a letter, or the readable part of a dossier.

    Raises:
        ConfigError: WeasyPrint is not installed.
    """
    try:
        from weasyprint import HTML  # noqa: PLC0415 - a second, and Pango, for this alone
        from weasyprint.urls import URLFetcher  # noqa: PLC0415
    except (ImportError, OSError):  # the latter where Pango is missing
        raise ConfigError("no PDF can be made here", remedy="pip install 'fedforget[console]', with Pango") from None

    # No protocol is allowed: texts of other parties must not make this machine load an address.
    document = HTML(string=page, url_fetcher=URLFetcher(allowed_protocols=())).render(pdf_variant=_VARIANT)
    metadata_of = document.metadata.generate_rdf_metadata

    def with_universal(*arguments: object) -> bytes:
        return bytes(metadata_of(*arguments)).replace(b"</rdf:RDF>", _UNIVERSAL, 1)

    document.metadata.generate_rdf_metadata = with_universal
    return bytes(document.write_pdf(pdf_variant=_VARIANT) or b"")
