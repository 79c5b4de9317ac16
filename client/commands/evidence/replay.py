"""`fedforget-site replay`: carry an attested unlearning out again on site and compare, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from common.errors import EvidenceError, InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, show


def replay(
    attestation: Annotated[Path, typer.Argument(metavar="ATTESTATION", help="The signed attestation.")],
    weights: Annotated[
        Path,
        typer.Option("--weights", metavar="FILE", help="The weights that the unlearning began from (safetensors)."),
    ],
    source: Annotated[
        Path | None,
        typer.Option("--source", metavar="MANIFEST", help="The hospital's own records, for studies that were purged."),
    ] = None,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Carry an attested unlearning out again from the same weights, patients and seed, and compare the digests.

    On the CPU of the kind of machine it ran on. The access to the patients is opened, closed and logged. What was
    purged and is in no record of the hospital any more cannot be replayed: the command says so.
    """
    import torch  # noqa: PLC0415 - with what follows, for this command alone
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    from client.cohort.data_import import read_source  # noqa: PLC0415
    from client.cohort.site import Site  # noqa: PLC0415
    from client.commands.evidence.log import opened_site  # noqa: PLC0415
    from client.evidence.replay import Replayer, bound  # noqa: PLC0415
    from client.revocations.access import write_closed, write_opened  # noqa: PLC0415
    from client.revocations.opening import open_ledger  # noqa: PLC0415
    from client.settings import SiteFolder  # noqa: PLC0415
    from common.evidence import dsse, statements  # noqa: PLC0415
    from common.evidence.keys import PinnedKeys  # noqa: PLC0415
    from common.platform.event_log.store import OWNER, only  # noqa: PLC0415

    with clear_errors(), opened_site(folder) as log:
        place = SiteFolder(folder)
        coordinator = log.coordinator()
        envelope = only(dsse.decode_envelope(_read(attestation)), coordinator)
        dsse.verify(envelope, statements.PAYLOAD_TYPE, PinnedKeys.of([(OWNER, coordinator)]), {OWNER: 1})
        _, unlearning = statements.read_unlearning(envelope.body)
        said = bound(unlearning, log.name)

        try:
            state = load_file(weights)
        except (OSError, SafetensorError):
            raise InputError("no readable weights", where=str(weights), remedy="ask the coordinator for them") from None

        site = Site(folder)
        studies = [*site.cohort.studies, *(read_source(source, site.card).cohort.studies if source else ())]
        number = int(unlearning.campaign)

        @contextmanager
        def access(patients: int) -> Iterator[None]:
            with open_ledger(place) as ledger:
                with ledger.writing() as writing:
                    write_opened(writing.session, number, patients, ledger.clock())
                try:
                    yield
                finally:
                    with ledger.writing() as writing:
                        write_closed(writing.session, number, {"replay": patients}, ledger.clock())

            log.follow()

        torch.set_num_threads(1)
        done = Replayer(place, site.card, state, studies, site.stopped, access).run(said)
        fields = {"campaign": number, "studies": done.studies, "attested": said.unlearned, "replayed": done.unlearned}
        same = done.same(said)
        human = fields_table({**fields, "same weights": "yes" if same else "NO"})
        show({**fields, "same": same}, human, as_json=as_json)
        if not same:
            raise EvidenceError("other weights came out than were attested")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise InputError(f"cannot be read: {err.strerror}", where=str(path), remedy="check the path") from None
