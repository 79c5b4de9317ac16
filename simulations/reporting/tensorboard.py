"""TensorBoard events of a run, behind the extra `tensorboard`."""

from __future__ import annotations

from pathlib import Path

from common.errors import InputError
from simulations.reporting.palette import models_of
from simulations.result import ModelResult, Result


def write_tensorboard(result: Result, folder: Path) -> None:
    """Write scalars per round and final metrics, one TensorBoard run per model, into `folder`.

    Raises:
        InputError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # an extra, and torch is heavy
    except ImportError:
        raise InputError(
            "TensorBoard is not installed", remedy="pip install 'fedforget[tensorboard]', or leave it out"
        ) from None

    for name in models_of(result):
        records = [record for record in result.history if record.model == name]
        with SummaryWriter(str(folder / name)) as writer:
            # Steps are counted over the phases, each of which numbers its rounds from 0.
            for step, record in enumerate(records, start=1):
                values = {
                    "train/loss": record.train_loss,
                    "validation/auc": record.validation_auc,
                    "validation/ce": record.validation_ce,
                    **{f"calibration_auc/{branch}": auc for branch, auc in record.calibration_auc.items()},
                }
                for tag, value in values.items():
                    if value is not None:
                        writer.add_scalar(tag, value, step)

            for tag, value in _final(result.models[name]).items():
                if value is not None:
                    writer.add_scalar(tag, value, len(records))


def _final(model: ModelResult) -> dict[str, float | None]:
    return {
        **{f"final/mia_auc_{branch}": mia.auc for branch, mia in model.mia.items()},
        "final/test_auc": model.test.auc,
        "final/test_ce": model.test.ce_mean,
        "final/forget_accuracy": model.forget.accuracy,
        "final/forget_ce": model.forget.ce_mean,
        "final/never_seen_accuracy": model.never_seen.accuracy,
    }
