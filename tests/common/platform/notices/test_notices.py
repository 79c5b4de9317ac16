"""Notices: to whom they go, once a day, tried again after a failure, and without a secret anywhere."""

from __future__ import annotations

import json
import logging
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from babel.messages.pofile import read_po
from connect_proxy import connect_proxy
from notice_servers import HOOK_SECRET, PASSWORD, TOKEN, Servers, content_of, notice_servers, settings_of

from common.errors import ConfigError, UnavailableError
from common.platform.notices import words
from common.platform.notices.channels import Channels, secret_files
from common.platform.notices.checking import examine_notices
from common.platform.notices.diary import DIARY_FILE, Entry, read_diary
from common.platform.notices.notice import MOST_SHOWN, TEXTS, Line, Notice, written
from common.platform.notices.notifier import DAILY, Daily, Notifier
from common.platform.notices.settings import NotifyConfig
from common.platform.proxy import read_proxy

NOW = datetime(2026, 12, 1, 7, 30, tzinfo=UTC)
LINES = (Line(words.OVERDUE, 1, ("3f9c1a5b7d2e4860",)), Line(words.SOON, 2, ("aa11", "bb22"), 7), Line(words.HELD, 0))
SECRETS = (PASSWORD, HOOK_SECRET, TOKEN)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with notice_servers(tmp_path) as made:
        yield made


def config_of(servers: Servers, root: Path, **more: object) -> NotifyConfig:
    """Every channel, to the usual people and to the deputy."""
    values = tomllib.loads(settings_of(servers, root))["notify"]
    return NotifyConfig.model_validate({**values, **more})


def notifier_of(config: NotifyConfig, root: Path, lines: tuple[Line, ...] = LINES) -> Notifier:
    def notice(kind: Daily, now: datetime) -> Notice:
        return Notice(kind, "north", now, lines, now + timedelta(days=2), "https://consents.north.example")

    return Notifier(Channels(config, root, "site.toml", environment={}), root, notice, UTC)


def test_the_digest_goes_to_every_channel_and_the_escalation_to_the_deputy_in_the_form_that_each_takes(
    servers: Servers, tmp_path: Path
) -> None:
    results = notifier_of(config_of(servers, tmp_path), tmp_path).step(NOW)
    assert {result.outcome for result in results} == {"sent"}
    assert [f"{one.kind}/{one.channel}" for one in results] == [
        "digest/mail", "digest/teams", "digest/slack", "digest/ntfy", "escalation/mail", "escalation/slack"
    ]  # fmt: skip

    digest, escalation = (message_from_bytes(content_of(mail), policy=default) for mail in servers.mails)
    assert [mail.rcpt_tos for mail in servers.mails] == [
        ["steward@north.example", "office@north.example"],
        ["deputy@north.example"],
    ]
    assert digest["Subject"] == "FedForget north: what needs you today"
    assert escalation["Subject"] == "FedForget north: answers are due soon"
    assert digest["Auto-Submitted"] == "auto-generated"
    text = digest.get_content().replace("\r\n", "\n")
    assert "Overdue answers: 1\n  3f9c1a5b7d2e4860\nAnswers due within 7 days: 2\n  aa11\n  bb22\n" in text
    assert "On hold" not in text
    assert "https://consents.north.example" in text

    teams, slack, ntfy, deputy = ((path, json.loads(body)) for path, _, body in servers.posts)
    assert teams[1]["attachments"][0]["content"]["body"][0]["text"] == digest["Subject"]
    assert slack[1].keys() == {"text"}
    assert "aa11" in slack[1]["text"]
    assert ntfy[0] == "/ntfy/"
    assert (ntfy[1]["topic"], ntfy[1]["priority"]) == (HOOK_SECRET, 3)
    assert servers.posts[2][1]["authorization"] == "Bearer tk_topic"
    assert deputy[0].startswith("/deputy/")


def test_a_notice_goes_out_once_a_day_whoever_sends_it_and_not_before_its_time(
    servers: Servers, tmp_path: Path
) -> None:
    config = config_of(servers, tmp_path)
    assert notifier_of(config, tmp_path).step(NOW - timedelta(hours=1)) == []
    assert len(notifier_of(config, tmp_path).step(NOW)) == 6
    for later in (timedelta(seconds=1), timedelta(hours=8)):
        assert notifier_of(config, tmp_path).step(NOW + later) == []
        assert notifier_of(config, tmp_path).send_now(NOW + later) == []
    assert len(notifier_of(config, tmp_path).step(NOW + timedelta(days=1))) == 6
    assert len(servers.mails) == 4


def test_a_failure_is_tried_again_ever_more_rarely_and_seen_by_the_doctor_and_in_the_log_without_a_secret(
    servers: Servers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = config_of(servers, tmp_path)
    servers.status = 403
    servers.is_down = True
    notifier = notifier_of(config, tmp_path)
    assert {one.outcome for one in notifier.step(NOW)} == {"failed"}
    assert notifier.step(NOW + timedelta(minutes=4)) == []
    assert len(notifier.step(NOW + timedelta(minutes=5))) == 6
    assert notifier.step(NOW + timedelta(minutes=14)) == []

    found = [*examine_notices(notifier.channels, NOW, up_runs=True, opens_secrets=True)]
    assert {check.result for check in found} == {"warn"}
    assert any("teams refuses (403)" in check.detail for check in found)
    assert any("the mail server refuses (451)" in check.detail for check in found)
    said = caplog.text + str(found) + (tmp_path / DIARY_FILE).read_text() + repr(notifier)
    assert not [secret for secret in SECRETS if secret in said]
    assert "the digest was not sent by slack: slack refuses (403)" in caplog.text

    servers.status = 200
    servers.is_down = False
    assert {one.outcome for one in notifier.step(NOW + timedelta(minutes=15))} == {"sent"}
    found = [*examine_notices(notifier.channels, NOW, up_runs=True, opens_secrets=True)]
    assert {check.result for check in found} == {"ok"}


def test_what_may_have_arrived_is_not_sent_again_that_day(servers: Servers, tmp_path: Path) -> None:
    servers.status = 0
    config = config_of(servers, tmp_path, smtp={}, slack={}, ntfy={})
    notifier = notifier_of(config, tmp_path)
    assert [one.outcome for one in notifier.step(NOW)] == ["unknown"]
    assert notifier.step(NOW + timedelta(hours=5)) == []
    assert len(servers.posts) == 1
    assert [check.result for check in examine_notices(notifier.channels, NOW, up_runs=True, opens_secrets=True)] == [
        "warn",
        "warn",
    ]


def test_a_process_that_was_killed_while_it_sent_does_not_send_again(servers: Servers, tmp_path: Path) -> None:
    notifier = notifier_of(config_of(servers, tmp_path, teams={}, slack={}, ntfy={}), tmp_path)
    entry = Entry(day=NOW.date(), outcome="sending", at=NOW, tries=1)
    (tmp_path / DIARY_FILE).write_text(json.dumps({"entries": {"digest/mail": entry.model_dump(mode="json")}}))
    assert [one.kind for one in notifier.step(NOW + timedelta(hours=2))] == ["escalation"]


def test_a_mail_that_some_get_is_sent_and_says_that_others_do_not(servers: Servers, tmp_path: Path) -> None:
    servers.refused = {"office@north.example"}
    notifier = notifier_of(config_of(servers, tmp_path, teams={}, slack={}, ntfy={}), tmp_path)
    digest, _ = notifier.step(NOW)
    assert (digest.outcome, digest.problem) == ("sent", "(the server refuses 1 of 2 addresses)")
    servers.refused |= {"steward@north.example"}
    assert notifier.step(NOW + timedelta(days=1))[0].problem == "the mail server refuses all 2 addresses"


def test_on_a_quiet_day_nothing_goes_out_unless_it_is_asked_for(servers: Servers, tmp_path: Path) -> None:
    quiet = notifier_of(config_of(servers, tmp_path), tmp_path, ())
    assert {one.outcome for one in quiet.step(NOW)} == {"nothing"}
    assert servers.everything() == b""
    assert {entry.outcome for entry in read_diary(tmp_path).entries.values()} == {"nothing"}
    # What comes near its date later that day is told the deputy that day.
    later = notifier_of(config_of(servers, tmp_path), tmp_path).step(NOW + timedelta(hours=2))
    assert {one.kind for one in later} == {"escalation"}
    always = notifier_of(config_of(servers, tmp_path, when_empty=True), tmp_path, ())
    always.step(NOW + timedelta(days=1))
    assert b"Nothing needs you today." in servers.everything()


@pytest.mark.parametrize("at_once", [False, True])
def test_mail_goes_under_tls_alone_and_to_the_server_that_its_authority_vouches_for(
    tmp_path: Path, at_once: bool
) -> None:
    with notice_servers(tmp_path, at_once=at_once) as servers:
        tls = "tls" if at_once else "starttls"
        config = config_of(servers, tmp_path)
        smtp = config.smtp.model_copy(update={"tls": tls})
        wrong = config.smtp.model_copy(update={"tls": tls, "ca": ""})
        for changed, outcome in ((wrong, "failed"), (smtp, "sent")):
            notifier = notifier_of(config.model_copy(update={"smtp": changed}), tmp_path)
            assert notifier.test(NOW)[0].outcome == outcome
        assert len(servers.mails) == 2


@pytest.mark.parametrize("address", ["", "steward", "a@b, c@d", "a@b\nBcc: c@d", "Lee <lee@x>", "ü@north.example"])
def test_an_address_that_is_none_is_named_before_anything_is_sent(
    servers: Servers, tmp_path: Path, address: str
) -> None:
    config = config_of(servers, tmp_path, teams={}, slack={}, ntfy={})
    smtp = config.smtp.model_copy(update={"to": (address,)})
    notifier = notifier_of(config.model_copy(update={"smtp": smtp}), tmp_path)
    assert "an address is missing or malformed" in notifier.step(NOW)[0].problem
    assert servers.mails == []


@pytest.mark.parametrize("secret", ["pässword", "two\nlines"])
def test_a_secret_with_odd_characters_is_refused_and_not_repeated(
    servers: Servers, tmp_path: Path, secret: str
) -> None:
    config = config_of(servers, tmp_path)
    for environment in ({}, {"FEDFORGET_SMTP_PASSWORD": secret}):
        (tmp_path / "secrets" / "smtp").write_text(secret)
        with pytest.raises(ConfigError) as caught:
            Channels(config, tmp_path, "site.toml", environment=environment).check("mail", "digest")
        assert secret not in str(caught.value)


def test_a_wrong_password_is_refused_and_not_repeated(servers: Servers, tmp_path: Path) -> None:
    config = config_of(servers, tmp_path)
    (tmp_path / "secrets" / "smtp").write_text("wr0ng-one")
    result = notifier_of(config, tmp_path).step(NOW)[0]
    assert result.problem == "the mail server refuses user or password (535)"


def test_mail_and_webhooks_go_through_the_proxy(servers: Servers, tmp_path: Path) -> None:
    names = {"mail.example": "127.0.0.1", "chat.example": "127.0.0.1"}
    config = config_of(servers, tmp_path, slack={}, ntfy={})
    smtp = config.smtp.model_copy(update={"host": "mail.example"})
    (tmp_path / "secrets" / "teams").write_text(f"https://chat.example:{servers.hook_port}/teams")
    with connect_proxy(names, "north:pw") as proxy:
        through = read_proxy(f"http://north:pw@127.0.0.1:{proxy.port}", (), "proxy")
        channels = Channels(config.model_copy(update={"smtp": smtp}), tmp_path, "site.toml", through, {})
        message = written(Notice("digest", "north", NOW, LINES), "en")
        for name in ("mail", "teams"):
            assert channels.send(name, "digest", message) == ""
        assert proxy.asked == {f"mail.example:{servers.mail_port}": 1, f"chat.example:{servers.hook_port}": 1}
    with pytest.raises(UnavailableError):
        channels.send("teams", "digest", message)


@pytest.mark.parametrize(
    "address", ["http://chat.example/x", "ftp://chat.example", "chat", "https://:0/", "https://a b", "https://x/\n/y"]
)
def test_an_address_that_is_none_or_without_tls_is_refused_and_not_repeated(
    servers: Servers, tmp_path: Path, address: str
) -> None:
    config = config_of(servers, tmp_path)
    (tmp_path / "secrets" / "teams").write_text(address)
    channels = Channels(config, tmp_path, "site.toml", environment={})
    with pytest.raises(ConfigError) as caught:
        channels.check("teams", "digest")
    assert address not in str(caught.value)


def test_secrets_come_from_the_environment_too_and_a_file_that_others_can_read_fails_in_the_doctor(
    servers: Servers, tmp_path: Path
) -> None:
    config = config_of(servers, tmp_path)
    (tmp_path / "secrets" / "smtp").chmod(0o644)
    failed = [
        check.name
        for check in examine_notices(
            Channels(config, tmp_path, "x", environment={}), NOW, up_runs=False, opens_secrets=True
        )
        if check.result == "fail"
    ]
    assert failed == ["notices: digest by mail", "notices: escalation by mail"]
    given = {"FEDFORGET_SMTP_PASSWORD": PASSWORD, "FEDFORGET_TEAMS_URL": servers.hook("teams")}
    alone = config.model_copy(update={"teams": NotifyConfig().teams})
    channels = Channels(alone, tmp_path, "x", environment=given)
    assert "teams" in channels.of("digest")
    message = written(Notice("test", "north", NOW), "en")
    channels.send("mail", "digest", message)
    channels.send("teams", "digest", message)
    assert len(servers.mails) == len(servers.posts) == 1
    assert PASSWORD not in repr(channels)
    assert tmp_path / "secrets" / "deputy" in secret_files(config, tmp_path)


def test_notices_that_go_to_nobody_fail_in_the_doctor(tmp_path: Path) -> None:
    channels = Channels(NotifyConfig(enabled=True), tmp_path, "site.toml", environment={})
    found = {check.name: check.result for check in examine_notices(channels, NOW, up_runs=False, opens_secrets=True)}
    assert found == {"notices": "fail", "notices to the deputy": "warn"}
    off = Channels(NotifyConfig(), tmp_path, "site.toml", environment={})
    assert [*examine_notices(off, NOW, up_runs=False, opens_secrets=True)] == []


def test_a_process_that_sends_no_more_is_noticed(servers: Servers, tmp_path: Path) -> None:
    notifier = notifier_of(config_of(servers, tmp_path), tmp_path)
    notifier.step(NOW)
    later = NOW + timedelta(days=2)
    found = examine_notices(notifier.channels, later, up_runs=True, opens_secrets=False)
    assert {check.name.split()[1] for check in found if check.result == "warn"} == {"digest"}


def test_long_lists_are_cut_and_what_is_no_receipt_is_left_out() -> None:
    many = Line(words.HELD, 500, ("Müller, Anna", "a b", *(f"r-{number}" for number in range(499))))
    text = written(Notice("digest", "north", NOW, (many,)), "en").text
    assert "On hold: 500" in text
    assert text.count("\n  r-") == MOST_SHOWN
    assert "and 480 more" in text
    assert "Anna" not in text


@pytest.mark.parametrize("language", ["de", "fr"])
def test_every_sentence_is_translated(language: str) -> None:
    folder = Path(words.__file__).parent / "locales"
    with (folder / f"{language}.po").open("rb") as file:
        translated = {message.id: message.string for message in read_po(file, locale=language) if message.id}
    assert translated.keys() == TEXTS | words.WORDS
    assert all(translated.values())
    assert "1 déc. 2026" in written(Notice("digest", "north", NOW, LINES), "fr").text
    assert {written(Notice(kind, "north", NOW), "de").subject for kind in DAILY} == {
        "FedForget north: was heute zu tun ist",
        "FedForget north: Antworten sind bald fällig",
    }
