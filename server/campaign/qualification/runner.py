"""A qualification from its register to its result; it may be killed anywhere, and yields to real campaigns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property

from pydantic import BaseModel
from torch import Tensor

from common.errors import UnavailableError
from common.learning.config import ExperimentConfig
from common.learning.evaluation.qualification.figures import SiteRehearsals
from common.learning.evaluation.qualification.rule import qualify
from common.learning.model.checkpoint import state_digest
from common.protocol.rehearsals import REHEARSE, Rehearsal, RehearseReply
from common.protocol.wire import pack
from server.campaign.qualification.folder_journal import FolderJournal
from server.campaign.qualification.register import Register, waves
from server.campaign.qualification.result import Result
from server.campaign.qualification.wave import WaveRecord, Waves, request_of
from server.rounds.exchanges.meter import Meter
from server.rounds.federation import Federation

OnWave = Callable[[int, int, float], None]
"""Called after each wave with the number of those finished, of all, and the seconds that are left, as far as known."""


class YieldedError(UnavailableError):
    """A real campaign needs the sites: the qualification waits."""


class SiteReport(BaseModel):
    """One site's report, as it came."""

    report: SiteRehearsals


@dataclass(frozen=True)
class QualificationRun:
    """Runs one registered qualification; arguments as of `Waves`.

    `model` gives the model in use: a campaign that goes first changes it within the lineage, and the waves after that
    begin from the new one.
    """

    federation: Federation
    model: Callable[[], Mapping[str, Tensor]]
    config: ExperimentConfig
    register: Register
    journal: FolderJournal
    clock: Callable[[], datetime]
    yields: Callable[[], bool] = lambda: False
    on_wave: OnWave = lambda *_: None
    quorum: float = 0.0

    def run(self) -> Result:
        """Do what is left, and judge by the registered rule.

        Raises:
            YieldedError: a real campaign needs the sites.
            UnavailableError: too few sites answered.
        """
        earlier_result = self.journal.body("result", Result)
        if earlier_result is not None:
            return earlier_result
        records = [self._wave(number) for number in range(len(self._waves))]
        round_of = {number: at for record in records for number, at in record.chosen.items()}
        reports = self._close(round_of)
        cost = Meter()
        for record in records:
            cost.add(Meter.of(record.cost))
        result = Result(
            registered=self.register,
            qualification=qualify(self.register.plan, reports),
            processes=tuple(process for record in records for _, process in sorted(record.processes.items())),
            refused={number: why for record in records for number, why in record.refused.items()},
            cost=asdict(cost),
            finished=self.clock(),
        )
        self.journal.put("result", result)

        return result

    @cached_property
    def _waves(self) -> tuple[tuple[Rehearsal, ...], ...]:
        moving = [t for name, t in self.model().items() if name not in self.federation.downlink.frozen]
        return waves(self.register, sum(t.numel() * t.element_size() for t in moving))

    def _wave(self, number: int) -> WaveRecord:
        steps = Waves(self.federation, self.model(), self.config, self.register, self.journal, self._yield, self.quorum)
        begin = time.monotonic()
        tries = 0
        while True:
            try:
                record = steps.run(number, self._waves[number])
                break
            except YieldedError:
                raise
            except UnavailableError:
                # Repeated with the same patients, as was registered.
                tries += 1
                if tries > self.register.plan.retries:
                    raise
        waves_left = len(self._waves) - number - 1
        self.on_wave(number + 1, len(self._waves), waves_left * (record.seconds or time.monotonic() - begin))

        return record

    def _yield(self) -> None:
        if self.yields():
            raise YieldedError("a real campaign goes first")

    def _close(self, chosen: Mapping[int, int]) -> dict[str, SiteRehearsals]:
        """Ask every site for its report; those that came before a restart are not asked again."""
        bodies = {name: self.journal.body(f"report-{name}", SiteReport) for name in self.federation.sites}
        reports = {name: body.report for name, body in bodies.items() if body is not None}
        missing = [name for name in self.federation.sites if name not in reports]

        if missing:
            self._yield()
            request = request_of(self.register, self.config, state_digest(self.model()), "close", chosen=chosen)
            self.federation.begin("rehearse-close")
            for site, records in self.federation.exchange(REHEARSE, dict.fromkeys(missing, pack(request))):
                reply = self.federation.read(site, REHEARSE, records, RehearseReply)
                if reply is not None and reply.report is not None:
                    self.journal.put(f"report-{site}", SiteReport(report=reply.report))
                    reports[site] = reply.report

        away = sorted({one.site for one in self.register.rehearsals} - reports.keys())
        if away:
            raise UnavailableError(f"no report on the rehearsals from {', '.join(away)}")
        return reports
