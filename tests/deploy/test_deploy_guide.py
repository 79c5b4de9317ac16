"""What docs/how-to/deploy.md tells people to type must exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
import typer

from client.cli import app as site_app
from common.platform.keys.certificates import SERVER_LIFETIME, SITE_LIFETIME
from server.cli import app as server_app
from server.settings import PolicyConfig, PortsConfig, ServerSettings

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
PROGRAMS = {"server": server_app, "site": site_app}
WORD = r"(?!fedforget-(?:server|site)\s)(?:\"[^\"]*\"|[^\s`\"#|;&()]+)"
CALL = re.compile(rf"fedforget-(server|site)((?: +{WORD})+)")


def calls(text: str) -> list[tuple[str, list[str]]]:
    """Every `fedforget-server ...` and `fedforget-site ...` in code, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text).replace("/opt/fedforget/bin/", "")
    code = re.findall(r"```bash\n(.*?)```", joined, flags=re.S) + re.findall(r"(?<!`)`([^`]+)`(?!`)", joined)
    return [(m[1], re.findall(r'"[^"]*"|\S+', m[2])) for part in code for m in CALL.finditer(part)]


def missing(program: str, words: list[str]) -> str | None:
    """The first word that the program does not know, None when it knows all."""
    command: click.Command = typer.main.get_command(PROGRAMS[program])
    rest = list(words)

    while isinstance(command, click.Group):
        if not rest or rest[0] not in command.commands:
            return rest[0] if rest else "(nothing)"
        command = command.commands[rest.pop(0)]

    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}

    return next((word for word in rest if word.startswith("--") and word not in options), None)


def test_every_command_of_the_guide_exists_with_its_options() -> None:
    # What an option or a path follows is the name of the user or the folder.
    found = [(program, words) for program, words in calls(GUIDE) if not words[0].startswith(("/", '"', "-"))]
    assert len(found) > 20
    assert [(program, words) for program, words in found if missing(program, words)] == []
    said = {f"{program} {words[0]}" for program, words in found}
    assert {"server init", "server site", "server certificate", "site join", "site rotate", "site revoke"} <= said


@pytest.mark.parametrize(
    "spoilt", ["fedforget-server migrate", "fedforget-site revoke --patient 4711", "fedforget-server site remove north"]
)
def test_a_command_that_is_not_there_is_seen(spoilt: str) -> None:
    ((program, words),) = calls(f"`{spoilt}`")
    assert missing(program, words)


def test_every_file_of_the_repository_that_the_guide_names_is_there() -> None:
    named = set(re.findall(r"deploy/[\w./-]*\w", GUIDE))
    assert {"deploy/nginx.conf", "deploy/compose.yaml", "deploy/local-federation"} <= named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_guide_tells_the_ports_and_lifetimes_of_the_program() -> None:
    ports = PortsConfig()
    for port in (ports.gateway, ports.coordination):
        assert f"{port}/tcp" in GUIDE
    assert f"({ports.superlink})" in GUIDE
    assert f"127.0.0.1:{ports.monitor}/health" in GUIDE
    assert f"{SERVER_LIFETIME.days} days" in GUIDE
    assert f"{SITE_LIFETIME.days} days" in GUIDE
    assert f"{PolicyConfig().quarantine_days:.0f} days" in GUIDE


def test_the_settings_that_the_guide_changes_are_settings() -> None:
    url = re.search(r'`(database = "[^"]+")`', GUIDE)
    assert url
    text = f'hosts = ["a"]\n{url[1]}\n[ports]\nown_gateway = false\n[experiment.train]\nmicro_batch = 4\n'
    assert not ServerSettings.model_validate(tomllib.loads(text)).ports.own_gateway
