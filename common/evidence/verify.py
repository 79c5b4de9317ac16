"""Stand-alone verifier, `python -m common.evidence.verify` or one file of `stand_alone`.

It needs Python and `cryptography` only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from pathlib import Path

from common.errors import EvidenceError, FedForgetError, InputError
from common.evidence.examination import REQUIRED, Examination, examine
from common.evidence.key_history import KeyHistory, KeyRecord
from common.evidence.keys import PinnedKeys, PublicKey
from common.evidence.release import check_release
from common.evidence.schema import decode
from common.printable import printable

# A key given with --key has no dates: it counts as valid from the start.
_ALWAYS = "1970-01-01T00:00:00Z"
_MODULE = "python -m common.evidence.verify"
EPILOG = """\
example:
  {program} attestation.json --key site=site.pub --key server=server.pub \\
      --log bundle.json --checkpoint peer-checkpoint.json --model model.safetensors

Get the public keys from the hospital and the coordinator themselves, never from the sender of the attestation.
Every signature must be by a key that you give. A name stands for one party; repeat it for further keys of that party.

exit codes:
  0  everything that could be checked holds; read what was not checked
  2  the command, or a file given with it, cannot be used
  6  something does not hold
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.attestation is None) == (options.release is None):
        parser.error("give an attestation, or --release FOLDER")

    try:
        if options.release is not None:
            return _release(options.release, _pinned(options.key), as_json=options.json)
        result = examine(
            _read(options.attestation),
            _keys(options.key, options.history),
            dict.fromkeys(options.require, 1) or REQUIRED,
            None if options.log is None else _read(options.log),
            [_read(path) for path in options.checkpoint],
            {path: _digest(path) for path in options.model},
            [_read(path) for path in options.revocation],
            [_read(path) for path in options.leaf],
        )
    except FedForgetError as err:
        sys.stderr.write(f"error: {printable(str(err))}\n")
        return err.exit_code

    sys.stdout.write(_as_json(result) if options.json else _as_text(result))

    return 0 if result.holds else EvidenceError.exit_code


def _parser() -> argparse.ArgumentParser:
    program = f"python {name}" if (name := Path(sys.argv[0]).name).endswith(".pyz") else _MODULE
    parser = argparse.ArgumentParser(
        prog=program,
        description="Check an unlearning attestation offline, with public keys alone.",
        epilog=EPILOG.format(program=program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("attestation", metavar="ATTESTATION", nargs="?", help="signed attestation")
    add("--release", metavar="FOLDER", help="check the files of a release of FedForget instead; --key release=FILE")
    add(
        "--key", action="append", default=[], metavar="NAME=FILE", help="public key (PEM) of a party: site, server, ..."
    )
    add("--history", action="append", default=[], metavar="FILE", help="key history of parties whose keys have changed")
    add(
        "--require",
        action="append",
        default=[],
        metavar="NAME",
        help="party that must have signed (default: site and server); steward must have signed the revocations",
    )
    add("--log", metavar="BUNDLE", help="log bundle: a checkpoint with proofs or with all leaves")
    add("--checkpoint", action="append", default=[], metavar="FILE", help="checkpoint co-signed by a peer")
    add("--model", action="append", default=[], metavar="FILE", help="file of the model in use")
    add("--revocation", action="append", default=[], metavar="FILE", help="signed revocation statement")
    add("--leaf", action="append", default=[], metavar="FILE", help="opened leaf of a hospital's log")
    add("--json", action="store_true", help="print JSON")

    return parser


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as err:
        raise InputError(f"cannot be read: {err.strerror}", where=path, remedy="check the path") from None


def _digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise InputError(f"cannot be read: {err.strerror}", where=path, remedy="check the path") from None


def _pinned(pairs: Sequence[str]) -> PinnedKeys:
    return PinnedKeys.of(map(_named, pairs))


def _release(folder: str, keys: PinnedKeys, *, as_json: bool) -> int:
    """Check a release; whatever does not hold is raised as an `EvidenceError`."""
    release = check_release(Path(folder), keys)
    if as_json:
        sys.stdout.write(json.dumps({"holds": True, **asdict(release)}, indent=2) + "\n")
    else:
        text = (
            f"FedForget {release.version}, commit {release.commit}: the signature and {len(release.files)} files hold."
        )
        sys.stdout.write(printable(text) + "\n")

    return 0


def _keys(pairs: Sequence[str], histories: Sequence[str]) -> PinnedKeys | KeyHistory:
    if not pairs and not histories:
        raise InputError("no public key given", where="--key", remedy="give public keys with --key or --history")
    named_keys = _pinned(pairs)
    if not histories:
        return named_keys
    # A key that is given by itself counts over its record in a history.
    always = tuple(KeyRecord(name, key.pem.decode(), _ALWAYS) for name, key in named_keys.entries)

    return reduce(KeyHistory.with_all, (KeyHistory(always), *map(_history, histories)))


def _named(text: str) -> tuple[str, PublicKey]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise InputError(f"{text!r} is not NAME=FILE", where="--key", remedy="try --key site=site.pub")
    try:
        return name, PublicKey.from_pem(_read(path))
    except InputError as err:
        raise InputError(err.problem, where=path, remedy=err.remedy) from None


def _history(path: str) -> KeyHistory:
    try:
        return decode(KeyHistory, _read(path))
    except EvidenceError as err:
        raise InputError(f"not a key history: {err}", where=path) from None


def _as_json(result: Examination) -> str:
    return json.dumps({"holds": result.holds, **asdict(result)}, indent=2) + "\n"


def _as_text(result: Examination) -> str:
    lines = [f"{item.outcome.upper():<14} {item.subject}: {item.reason}" for item in result.findings]
    if result.warnings:
        lines += ["", *(f"!!! {warning}" for warning in result.warnings)]
    if result.claims:
        lines += ["", "What the attestation says:", *(f"  {claim}" for claim in result.claims)]
    lines += ["", "What it does not show:", *(f"  {limit}" for limit in result.limits)]
    lines += ["", "Everything checked holds." if result.holds else "NOT TO BE RELIED ON: something does not hold."]

    return "\n".join(map(printable, lines)) + "\n"


if __name__ == "__main__":
    sys.exit(main())
