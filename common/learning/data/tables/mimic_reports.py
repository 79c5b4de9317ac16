"""What a model reads of a MIMIC-CXR report: FINDINGS, IMPRESSION, CONCLUSION and RECOMMENDATION(S) of the final report.

These are the sections that Chauhan et al. 2020 (https://github.com/RayRuizhiLiao/joint_chestxray) take. A section ends
where another section begins; a sub-heading such as `LUNGS:` stays in it.
"""

from __future__ import annotations

import re

_TAKEN = r"FINDINGS?|IMPRESSIONS?|CONCLUSIONS?|RECOMMENDATIONS?(?:\(S\))?"
# Sections that are not taken: the frequent ones of
# https://github.com/MIT-LCP/mimic-cxr/blob/master/txt/section_parser.py.
_OTHER = (
    r"(?:PRELIMINARY )?WET ?READ(?: VERSION)?|PRELIMINARY REPORT|ADDENDUM|EXAM(?:INATION)?S?|TYPE OF EXAM(?:INATION)?"
    r"|STUDY|PROCEDURES?|TECHNIQUES?|VIEWS?|DATE|COMMENTS?|NOTIFICATIONS?|INDICATIONS?|CLINICAL INDICATIONS?"
    r"|REASON FOR (?:THIS )?(?:EXAM(?:INATION)?|STUDY)|(?:CLINICAL |PATIENT |MEDICAL )?HISTORY|CLINICAL INFORMATION"
    r"|(?:REFERENCE|PRIOR) EXAM(?:INATION)?S?|COMPARISONS?(?: (?:EXAM(?:INATION)?S?|STUDY|FILMS?))?"
)

_HEADING = re.compile(
    # A line of capitals that names a section in any words, such as `FINDINGS AND IMPRESSION:` or `CHEST FINDINGS:`.
    rf"^[ \t]*(?P<phrase>(?:[A-Z][A-Z0-9 ()/,&'-]{{0,60}}?[ /(])?(?:{_TAKEN})(?:[ /(][A-Z0-9 ()/,&'-]{{0,60}})?)[ \t]*:"
    # The name alone, in any letters: with a colon, or with nothing else on its line.
    rf"|^[ \t]*(?P<name>(?i:{_TAKEN}|{_OTHER}))[ \t]*(?::|$)"
    # Within a line, in capitals, after the end of a sentence.
    rf"|(?<=[.;:])[ \t]+(?P<inline>{_TAKEN}|{_OTHER})[ \t]*:"
    # A wet read has its time on the line, and no colon.
    r"|^[ \t]*(?P<wet>WET ?READ)\b.*$",
    re.MULTILINE,
)
_FINAL = re.compile(r"^[ \t]*(?:FINAL REPORT\b[ \t]*:?|(?i:final report)[ \t]*:?[ \t]*$)", re.MULTILINE)
_IS_TAKEN = re.compile(r"FINDING|IMPRESSION|CONCLUSION|RECOMMENDATION")
_IS_DRAFT = re.compile(r"WET ?READ|PRELIMINARY|ADDENDUM")


def report_text(text: str) -> str:
    """The four sections in their order, otherwise the whole final report; white space collapsed."""
    # A preliminary reading stands above the final report in the same file.
    final = _FINAL.split(text.replace("\r\n", "\n").replace("\r", "\n"))[-1]
    headings = list(_HEADING.finditer(final))
    ends = [*(heading.start() for heading in headings), len(final)][1:]
    sections = [
        final[heading.end() : end]
        for heading, end in zip(headings, ends, strict=True)
        if _is_taken(heading[heading.lastgroup or 0])
    ]
    content = " ".join(" ".join(sections).split())

    return content or " ".join(final.split())


def _is_taken(heading: str) -> bool:
    name = heading.upper()
    return _IS_TAKEN.search(name) is not None and _IS_DRAFT.search(name) is None
