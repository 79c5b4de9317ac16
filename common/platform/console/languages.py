"""The languages of the pages: catalogues of gettext, read from their sources when the console starts."""

from __future__ import annotations

import gettext
import io
from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from importlib.resources.abc import Traversable
from typing import cast

from babel import Locale
from babel.dates import format_date, format_datetime, format_timedelta
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal

from common.platform.console.settings import LANGUAGES, Language

NAMES: Mapping[Language, str] = {"en": "English", "de": "Deutsch", "fr": "Français"}
_LOCALES = {language: Locale.parse("en_GB" if language == "en" else language) for language in LANGUAGES}


def long_date(language: Language, moment: datetime, zone: tzinfo | None = None) -> str:
    """A date with the name of the month, in `zone` or the machine's time zone."""
    return format_date(moment.astimezone(zone).date(), "long", locale=_LOCALES[language])


class Languages:
    """Messages and dates in each language.

    Args:
        folders: with `LANGUAGE.po` for each language but English; later ones win.
        usual: for browsers that ask for none of ours.
    """

    def __init__(self, folders: Iterable[Traversable], usual: Language = "en") -> None:
        self.usual: Language = usual
        self._messages = {language: gettext.NullTranslations() for language in LANGUAGES}

        for folder in folders:
            for language in LANGUAGES:
                source = folder.joinpath(f"{language}.po")
                if source.is_file():
                    self._add(language, source.read_bytes())

    def _add(self, language: Language, source: bytes) -> None:
        catalogue = io.BytesIO()
        write_mo(catalogue, read_po(io.BytesIO(source), locale=language))
        catalogue.seek(0)
        translations = gettext.GNUTranslations(catalogue)
        # A side's catalogue wins; what it lacks comes from the kit's.
        translations.add_fallback(self._messages[language])
        self._messages[language] = translations

    def chosen(self, cookie: str, accepted: str) -> Language:
        """The language of a browser: its cookie's, else the first one that it accepts."""
        preferences = [
            cookie,
            *(part.partition(";")[0].strip().partition("-")[0].lower() for part in accepted.split(",")),
        ]
        by_name = {str(language): language for language in LANGUAGES}

        return next((by_name[one] for one in preferences if one in by_name), self.usual)

    def translations(self, language: str) -> gettext.NullTranslations:
        """The catalogue of a language."""
        return self._messages[cast(Language, language)]

    def text(self, language: str, message: str, **values: object) -> str:
        """A message; `%(name)s` stands for a value."""
        translation = self.translations(language).gettext(message)
        return translation % values if values else translation

    def texts(self, language: str, one: str, many: str, number: int) -> str:
        """A message for one or for many; `%(num)s` stands for the number."""
        return self.translations(language).ngettext(one, many, number) % {"num": self.number(language, number)}

    def number(self, language: str, number: float) -> str:
        """A number with the separators of the language."""
        return format_decimal(number, locale=self._locale(language))

    def day(self, language: str, moment: datetime | None) -> str:
        """A date in the machine's time zone; empty for None."""
        if moment is None:
            return ""
        return format_date(moment.astimezone().date(), "medium", locale=self._locale(language))

    def moment(self, language: str, moment: datetime | None) -> str:
        """A date and time in the machine's time zone; empty for None."""
        if moment is None:
            return ""
        local = moment.astimezone().replace(tzinfo=None)
        return format_datetime(local, "d MMM y, HH:mm", locale=self._locale(language))

    def span(self, language: str, start: datetime, end: datetime) -> str:
        """A time in words, relative to `start`, e.g. "in 3 days"."""
        return format_timedelta(end - start, add_direction=True, threshold=1.2, locale=self._locale(language))

    def _locale(self, language: str) -> Locale:
        return _LOCALES[cast(Language, language)]
