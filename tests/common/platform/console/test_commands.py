"""Commands on pages are set as code, and nothing else of a text becomes a tag."""

from __future__ import annotations

from markupsafe import Markup

from common.platform.console.rendering import commands


def test_what_stands_between_backticks_becomes_code_of_text_and_of_markup() -> None:
    assert commands("Run `up --dir d` now.") == Markup("Run <code>up --dir d</code> now.")
    assert commands(Markup("Run `up` &amp; wait.")) == Markup("Run <code>up</code> &amp; wait.")
    assert commands("`<b>` and <i>") == Markup("<code>&lt;b&gt;</code> and &lt;i&gt;")
