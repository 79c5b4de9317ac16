"""What leaves the registry: a folder that plain torch and safetensors load, with a model card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from common.disk import unwritable
from common.errors import OutputError
from common.evidence.outcomes.grounds_text import grounds_lines, outcome_text
from common.learning.data.vocabulary import BUILTIN, VOCABULARY
from common.learning.model.card import ModelCard
from server.registry.manifest import Manifest, Metric, Provenance
from server.registry.onnx_export import check_onnx, write_onnx
from server.registry.preprocess import PREPROCESS_FILE, VOCABULARY_FILE, preprocess_json, stands_alone

PROGRAMS = ("example.py", "predict.py", "network.py", "preparation.py")
"""Of `server.registry.export_files`."""


def write_export(
    source: Path, manifest: Manifest, card: ModelCard, lineage: Sequence[str], folder: Path, *, onnx: bool = False
) -> Path:
    """Copy a verified version to a new folder, with `README.md`, and what runs it without FedForget.

    Args:
        onnx: write `model.onnx` too.

    Raises:
        ConfigError: ONNX is asked for, and the extra is not installed.
        RefusedError: ONNX is asked for, and the version is built on encoders of folders.
        OutputError: the folder exists or cannot be written; nothing is left of it then.
    """
    if onnx:
        check_onnx(card)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise OutputError("exists already", where=str(folder), remedy="name a new folder") from None
    except OSError as err:
        raise unwritable(err, folder, remedy="check the path") from err

    try:
        for path in source.iterdir():
            shutil.copy(path, folder / path.name)
        (folder / "README.md").write_text(model_card(manifest, card, lineage), encoding="utf-8")
        (folder / PREPROCESS_FILE).write_text(preprocess_json(card), encoding="utf-8")
        for name in PROGRAMS:
            (folder / name).write_bytes(files("server.registry.export_files").joinpath(name).read_bytes())
        if card.data.tokenizer == BUILTIN:
            shutil.copy(VOCABULARY, folder / VOCABULARY_FILE)
        if onnx:
            write_onnx(folder, card)
    except OSError as err:
        # A part of an export could be taken for a whole one.
        shutil.rmtree(folder, ignore_errors=True)
        raise unwritable(err, folder) from err

    return folder


def model_card(manifest: Manifest, card: ModelCard, lineage: Sequence[str]) -> str:
    """`README.md` of an exported version."""
    origin = manifest.provenance
    figures = "\n".join(_row(metric) for metric in origin.metrics) or "| none were recorded | | | |"

    return f"""# FedForget model {manifest.name}

A classifier of radiographs with their reports into {len(card.classes)} classes: {", ".join(card.classes)}. It has
three outputs: from the image ({card.model.image_encoder}, {card.data.image_size} pixels square), from the report
({card.model.text_encoder}, at most {card.data.max_tokens} tokens), and from both. It was trained across hospitals
whose data stayed with them.

## Intended use

Research and evaluation at hospitals that have validated it on their own patients. It is not a medical device, and
nothing here says that it may be used to diagnose or treat anybody.

## Where it comes from

- created {manifest.created:%Y-%m-%d %H:%M} UTC, round {origin.round}, sites: {", ".join(origin.sites)}
- campaign {_or_none(manifest.campaign)}, Flower run {_or_none(origin.run)}
- lineage, newest first: {", ".join(lineage)}
- code {origin.code}, settings {origin.config}
- weights {manifest.weights}

{_forgotten(origin)}## Figures

With 95 % intervals, on the patients that the sites keep for it.

| figure | value | 95 % interval | patients |
|---|---|---|---|
{figures}

## Limits

- The figures hold for these hospitals' patients. Elsewhere, and for groups that are rare in them, it can do worse.
- Forgetting is measured by the attacks that were run. A membership AUC near .5 is evidence, no proof.
- Weights can still hold traces of those who were trained on and have not revoked: hand them on with care.

## Using it

{_using(card)}

## Loading

`python example.py inputs.safetensors` needs torch and safetensors only; it checks the files against `manifest.json` and
prints the logits. `preprocess.json` says in numbers how inputs are prepared. With FedForget installed, `fedforget.load`
gives the model, ready to predict.
"""


def _forgotten(origin: Provenance) -> str:
    """The section on the outcome; empty where nobody was forgotten, or an earlier version did not record it."""
    if origin.outcome is None:
        return ""
    lines = "\n".join(f"- {line}" for line in grounds_lines(origin.outcome, origin.grounds))
    return f"## Why patients count as forgotten\n\n{outcome_text(origin.outcome, origin.grounds)}\n\n{lines}\n\n"


def _using(card: ModelCard) -> str:
    """How the inputs are prepared, in which order the outputs are, and whether that needs FedForget."""
    order = ", ".join(f"{number} = {name}" for number, name in enumerate(card.classes))
    how = (
        "`python predict.py image.png report.txt` prints the probability of each class. It needs torch and\n"
        "safetensors, and Pillow to read the image; `network.py` is the network, `preparation.py` prepares the inputs."
    )

    if not stands_alone(card):
        how = (
            "This version is built on a pretrained encoder or tokenizer of a folder of its own: FedForget and\n"
            "transformers are needed to run it, with that folder."
        )

    return f"""{how}

- Image: one channel, 8 bits. Deeper images are scaled from their least to their greatest value, colour becomes
  luminance (ITU-R BT.601). The longer side becomes {card.data.image_size} pixels by area averaging, the rest of the
  square is black; values are divided by 255. Convert DICOM to PNG first, with its window applied.
- Report: at most {card.data.max_tokens} word pieces of `vocabulary.json` with `[CLS]` and `[SEP]`: lower case,
  accents removed, split at white space and punctuation.
- Outputs: logits `[3, batch, {len(card.classes)}]`. First axis: 0 = image, 1 = report, 2 = both. Last axis: {order}."""


def _row(metric: Metric) -> str:
    if metric.value is None:
        return f"| {metric.name} | not measured: {metric.missing} | | |"
    limits = "" if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}"
    return f"| {metric.name} | {metric.value:.3f} | {limits} | {_or_none(metric.patients)} |"


def _or_none(value: int | None) -> str:
    return "none" if value is None else str(value)
