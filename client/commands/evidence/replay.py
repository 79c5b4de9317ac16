"""`fedforget-site replay`: repeat an attested unlearning on site and compare the weights bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from common.errors import EvidenceError, InputError
from common.platform.terminal.console import AsJson, Folder, clear_errors, fields_table, show


def replay(
    attestation: Annotated[Path, typer.Argument(metavar="ATTESTATION", help="Signed attestation.")],
    weights: Annotated[
        Path,
        typer.Option("--weights", metavar="FILE", help="Weights that the unlearning started from (safetensors)."),
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            "--source", metavar="MANIFEST", help="Manifest of the hospital's own records, for studies that were purged."
        ),
    ] = None,
    folder: Folder = Path(),
    as_json: AsJson = False,
) -> None:
    """Repeat an attested unlearning with the same weights, patients and seed, and compare the digests.

    Run it on the same kind of CPU. The command logs its access to the patients' data. It says which studies were purged
    and are no longer in the hospital's records; such an unlearning cannot be replayed.
    """
    import torch  # noqa: PLC0415 - with what follows, for this command alone
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    from client.cohort.imports.import_source import read_source  # noqa: PLC0415
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
        record = bound(unlearning, log.name)

        try:
            state = load_file(weights)
        except (OSError, SafetensorError):
            raise InputError(
                "cannot read the weights", where=str(weights), remedy="ask the coordinator for them"
            ) from None

        site = Site(folder)
        studies = [*site.cohort.studies, *(read_source(source, site.card).cohort.studies if source else ())]
        number = int(unlearning.campaign)

        @contextmanager
        def access(patients: int) -> Iterator[None]:
            # On record before the data are read, and closed even if the replay fails.
            with open_ledger(place) as ledger:
                with ledger.writing() as writing:
                    write_opened(writing.session, number, patients, ledger.clock())
                try:
                    yield
                finally:
                    with ledger.writing() as writing:
                        write_closed(writing.session, number, {"replay": patients}, ledger.clock())

            log.follow()

        # The sum of floats depends on the number of threads, and the weights are compared bit for bit.
        torch.set_num_threads(1)
        outcome = Replayer(place, site.card, state, studies, site.stopped, access).run(record)
        fields = {
            "campaign": number,
            "studies": outcome.studies,
            "attested": record.unlearned,
            "replayed": outcome.unlearned,
        }
        same = outcome.same(record)
        human = fields_table({**fields, "same weights": "yes" if same else "NO"})
        show({**fields, "same": same}, human, as_json=as_json)
        if not same:
            raise EvidenceError("the replayed weights differ from the attested weights")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise InputError(f"cannot read: {err.strerror}", where=str(path), remedy="check the path") from None
