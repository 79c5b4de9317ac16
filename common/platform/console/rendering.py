"""Templates of the pages: the kit's and those of a side, escaped, in the language of the visit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from common.platform.console.languages import NAMES, Languages
from common.platform.console.settings import LANGUAGES
from common.printable import printable

if TYPE_CHECKING:
    from common.platform.console.page import Visit

_KIT = "common.platform.console"
_BACKTICKS = re.compile(r"`([^`]+)`")
THEMES = ("auto", "light", "dark")


def kit_files(folder: str) -> Traversable:
    """A folder of the kit: `static` or `locales`."""
    return files(_KIT).joinpath(folder)


def commands(text: str) -> Markup:
    """Set what stands between backticks as code; the text is escaped."""
    safe_text = str(escape(text))  # of a Markup, `sub` would escape the tags too
    return Markup(_BACKTICKS.sub(r"<code>\1</code>", safe_text))  # noqa: S704 - escaped the line above


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that browsers may keep: its address names its digest."""

    content: bytes
    media_type: str
    digest: str


_MEDIA_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def static_files(folders: Sequence[Traversable]) -> dict[str, StaticFile]:
    """The files of some folders by name, read once."""
    by_name = {}

    for folder in folders:
        for item in folder.iterdir():
            media_type = _MEDIA_TYPES.get(item.name.rpartition(".")[2])
            if media_type is not None:
                content = item.read_bytes()
                by_name[item.name] = StaticFile(content, media_type, hashlib.sha256(content).hexdigest()[:16])

    return by_name


class Templates:
    """Renders templates.

    Args:
        package: whose folder `templates` comes before the kit's.
        shared: values for every template.
    """

    def __init__(self, package: str, languages: Languages, shared: Mapping[str, object]) -> None:
        loader = ChoiceLoader([PackageLoader(package), PackageLoader(_KIT)])
        self._languages = languages
        self._environments: dict[str, Environment] = {
            language: self._environment(loader, language, shared) for language in LANGUAGES
        }

    def _environment(self, loader: ChoiceLoader, language: str, shared: Mapping[str, object]) -> Environment:
        environment = Environment(
            loader=loader,
            autoescape=True,
            # A misspelt name in a template is an error, and not an empty place on the page.
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
        )
        translations = self._languages.translations(language)
        environment.install_gettext_translations(translations, newstyle=True)  # type: ignore[attr-defined]  # i18n
        environment.globals |= {"language": language, "language_names": NAMES, "themes": THEMES, **shared}
        environment.filters |= {
            "day": partial(self._languages.day, language),
            "moment": partial(self._languages.moment, language),
            "number": partial(self._languages.number, language),
            "commands": commands,
            "printable": printable,
            "query": urlencode,
        }
        environment.globals["span"] = partial(self._languages.span, language)

        return environment

    def render(self, visit: Visit, template: str, values: Mapping[str, Any]) -> str:
        """A page for a visit."""
        return self._environments[visit.language].get_template(template).render(visit=visit, **values)


def trusted(markup: str) -> Markup:
    """Markup that our own code made, e.g. a drawing; never a text from outside."""
    return Markup(markup)  # noqa: S704 - by its purpose
