from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from evidence_files import MODEL, Evidence, a_revocation, make_evidence

from common.evidence import dsse, statements
from common.evidence.key_history import KeyHistory
from common.evidence.keys import SigningKey
from common.evidence.schema import encode
from common.evidence.verify import main

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "verify-with-openssl.md"

BLOCKING = """
import sys
sys.modules.update(dict.fromkeys(["torch", "pydantic", "numpy", "flwr", "typer", "rich"]))
from common.evidence.verify import main
code = main(sys.argv[1:])
outside = {m.partition(".")[0] for m, loaded in sys.modules.items() if loaded} - set(sys.stdlib_module_names)
print(sorted(outside - {"__main__"}), file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def folder(evidence: Evidence, tmp_path: Path) -> Path:
    return written(evidence, tmp_path)


def written(evidence: Evidence, folder: Path) -> Path:
    for name, data in {
        "attestation.json": evidence.attestation,
        "bundle.json": evidence.bundle,
        "site.pub": evidence.site.public.pem,
        "server.pub": evidence.server.public.pem,
        "revocation.json": evidence.revocation,
        "checkpoint-of-server.json": dsse.encode_envelope(evidence.checkpoint),
        "leaves.jsonl": b"".join(leaf + b"\n" for leaf in evidence.leaves),
        "model.safetensors": MODEL,
    }.items():
        (folder / name).write_bytes(data)

    return folder


def command(folder: Path, *more: str) -> list[str]:
    keys = [f"--key=site={folder / 'site.pub'}", f"--key=server={folder / 'server.pub'}"]
    return [str(folder / "attestation.json"), *keys, *more]


def everything(folder: Path) -> list[str]:
    files = {"log": "bundle.json", "checkpoint": "checkpoint-of-server.json", "model": "model.safetensors"}
    return command(
        folder,
        *(f"--{option}={folder / name}" for option, name in files.items()),
        f"--revocation={folder}/revocation.json",
    )


def test_the_verifier_says_in_plain_words_what_holds_and_what_is_not_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(everything(folder)) == 0
    text = capsys.readouterr().out
    assert "HOLDS          signatures and encoding: signed by server, site" in text
    assert "NOT CHECKED    evaluator" in text
    assert "not a proof" in text
    assert text.endswith("Everything checked holds.\n")


def test_a_damaged_file_ends_with_code_6(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attestation = folder / "attestation.json"
    attestation.write_bytes(attestation.read_bytes().replace(b"site", b"sitf", 1).replace(b"e", b"f", 1))
    assert main(everything(folder)) == 6
    text = capsys.readouterr().out
    assert "DOES NOT HOLD  signatures and encoding" in text
    assert "NOT TO BE RELIED ON" in text


def test_json_holds_the_same_findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*everything(folder), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["holds"] is True
    assert value["findings"][0]["outcome"] == "holds"
    assert value["limits"]
    (folder / "model.safetensors").write_bytes(b"other")
    assert main([*everything(folder), "--json"]) == 6
    assert json.loads(capsys.readouterr().out)["holds"] is False


def test_a_signer_may_be_required_by_name(folder: Path) -> None:
    assert main(command(folder, "--require=site")) == 0
    assert main(command(folder, "--require=evaluator")) == 6


def test_keys_may_come_from_a_history(evidence: Evidence, folder: Path) -> None:
    history = KeyHistory().add("site", evidence.site.public, "2026-01-01T00:00:00Z")
    history = history.add("server", evidence.server.public, "2026-01-01T00:00:00Z")
    (folder / "history.json").write_bytes(encode(history))
    assert main([str(folder / "attestation.json"), f"--history={folder}/history.json"]) == 0


def test_several_histories_and_single_keys_are_taken_together(evidence: Evidence, folder: Path) -> None:
    newer = SigningKey.generate()
    of_site = KeyHistory().add("site", evidence.site.public, "2026-01-01T00:00:00Z")
    of_site = of_site.rotate(evidence.site.public, newer.public, "2026-12-01T00:00:00Z")
    of_server = KeyHistory().add("server", evidence.server.public, "2026-01-01T00:00:00Z")
    (folder / "of-site.json").write_bytes(encode(of_site))
    (folder / "of-server.json").write_bytes(encode(of_server))
    attestation = str(folder / "attestation.json")
    site = f"--history={folder}/of-site.json"
    assert main([attestation, site, f"--history={folder}/of-server.json"]) == 0
    assert main([attestation, site, f"--key=server={folder}/server.pub"]) == 0
    assert main([attestation, site, site, f"--key=server={folder}/server.pub"]) == 0
    assert main([attestation, site]) == 6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{0}/attestation.json"], "give public keys"),
        (["{0}/attestation.json", "--key=site.pub"], "not NAME=FILE"),
        (["{0}/attestation.json", "--key=site={0}/absent.pub"], "absent.pub"),
        (["{0}/attestation.json", "--key=site={0}/bundle.json"], "not a public key"),
        (["{0}/attestation.json", "--history={0}/bundle.json"], "not a key history"),
        (["{0}/absent.json", "--key=site={0}/site.pub"], "absent.json"),
        (["{0}/attestation.json", "--key=site={0}/site.pub", "--key=server={0}/site.pub"], "pinned twice"),
        (["{0}/attestation.json", "--key=site={0}/site.pub", "--model={0}/absent"], "absent"),
    ],
)
def test_a_command_that_cannot_be_run_ends_with_code_2_and_says_why(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main([argument.format(folder) for argument in arguments]) == 2
    assert says in capsys.readouterr().err


def test_the_verifier_needs_nothing_but_python_and_cryptography(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKING, *everything(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(re.findall(r"'(\w+)'", done.stderr.splitlines()[-1]))
    assert loaded - {"_distutils_hack", "_virtualenv"} <= {"common", "cryptography", "_cffi_backend", "_openssl"}


def test_the_module_runs_as_its_help_says(folder: Path) -> None:
    run = [sys.executable, "-m", "common.evidence.verify"]
    text = subprocess.run([*run, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "exit codes:" in text
    example = re.search(r"example:\n  python -m common\.evidence\.verify (.*?)\n\n", text, re.DOTALL)
    assert example
    arguments = example[1].replace("\\\n", " ").replace("peer-checkpoint", "checkpoint-of-server").split()
    done = subprocess.run(
        [*run, *arguments], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


LAST_LINE = "the leaves lead to both roots that were signed\n"


def by_hand(folder: Path) -> subprocess.CompletedProcess[str]:
    commands = "".join(re.findall(r"```bash\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL))
    return subprocess.run(["bash", "-c", commands], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("more_leaves", [0, 4, 9])
def test_the_commands_of_the_document_accept_fresh_evidence(tmp_path: Path, more_leaves: int) -> None:
    fresh = make_evidence(SigningKey.generate("ecdsa-p256"), SigningKey.generate("ed25519"), more_leaves)
    done = by_hand(written(fresh, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Signature Verified Successfully") == 7
    assert done.stdout.endswith(LAST_LINE)


@pytest.mark.parametrize("name", ["attestation.json", "revocation.json"])
def test_the_commands_of_the_document_check_a_further_signer_whose_key_is_there(folder: Path, name: str) -> None:
    signer = SigningKey.generate()
    key = folder / ("evaluator.pub" if name == "attestation.json" else "steward.pub")
    key.write_bytes(signer.public.pem)
    assert by_hand(folder).returncode != 0
    envelope = dsse.decode_envelope((folder / name).read_bytes())
    (folder / name).write_bytes(dsse.encode_envelope(dsse.add_signature(envelope, signer)))
    done = by_hand(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Signature Verified Successfully") == 8


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("attestation.json", rb'"payload":".{9}(.)'),
        ("attestation.json", rb'"sig":".{9}(.)'),
        ("model.safetensors", rb"^(w)"),
        ("bundle.json", rb'"checkpoint":\{"payload":".{9}(.)'),
        ("bundle.json", rb'"salt":"(.)'),
        ("bundle.json", rb'"inclusion":\["(.)'),
        ("bundle.json", rb'"index":(5)'),
        ("bundle.json", rb'"kind":"(a)'),
        ("bundle.json", rb'"commitment":"(.)'),
        ("revocation.json", rb'"payload":".{9}(.)'),
        ("revocation.json", rb'"sig":".{9}(.)'),
        ("checkpoint-of-server.json", rb'"payload":".{9}(.)'),
        ("checkpoint-of-server.json", rb'"sig":".{9}(.)'),
        ("leaves.jsonl", rb'"commitment":"(.)'),
    ],
)
def test_the_commands_of_the_document_stop_at_damage(folder: Path, name: str, pattern: bytes) -> None:
    data = (folder / name).read_bytes()
    found = re.search(pattern, data)
    assert found
    other = b"6" if found[1] == b"5" else b"5"
    (folder / name).write_bytes(data[: found.start(1)] + other + data[found.end(1) :])
    done = by_hand(folder)
    assert done.returncode != 0
    assert not done.stdout.endswith(LAST_LINE)


def test_the_commands_of_the_document_find_a_log_that_was_cut_short(folder: Path) -> None:
    leaves = (folder / "leaves.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "leaves.jsonl").write_bytes(b"".join(leaves[:-1]))
    done = by_hand(folder)
    assert done.returncode != 0
    assert not done.stdout.endswith(LAST_LINE)


def test_the_commands_of_the_document_find_a_revocation_that_is_not_answered(evidence: Evidence, folder: Path) -> None:
    other = statements.revocation_statement(a_revocation(request="another"))
    signed = dsse.sign(statements.PAYLOAD_TYPE, other, evidence.site)
    (folder / "revocation.json").write_bytes(dsse.encode_envelope(signed))
    done = by_hand(folder)
    assert done.returncode != 0
    assert "the attestation answers" not in done.stdout
