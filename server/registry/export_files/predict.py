"""Classify a radiograph with its report: `python predict.py image.png report.txt`.

Needs torch and safetensors, and Pillow to read the image (PNG or JPEG; convert DICOM first). README.md says how an
image is prepared and in which order the outputs are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from network import Network  # type: ignore[import-not-found]  # noqa: E402 - beside this file
from preparation import read_image, tokenize  # type: ignore[import-not-found]  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


def predict(image: str, report: str) -> dict[str, dict[str, float]]:
    """Probability of each class by branch, for the image in a file and the text of its report."""
    card = json.loads((FOLDER / "model.json").read_text(encoding="utf-8"))
    network = Network(load_file(FOLDER / "model.safetensors"), card["model"])
    tokens, mask = tokenize(report, FOLDER / "vocabulary.json", card["data"]["max_tokens"])
    logits = network.logits(read_image(image, card["data"]["image_size"]), tokens, mask)
    names = ("image", "report", "both")
    rows = logits[:, 0].softmax(dim=1).tolist()

    return {name: dict(zip(card["classes"], row, strict=True)) for name, row in zip(names, rows, strict=True)}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python predict.py IMAGE REPORT.txt")
    probabilities = predict(sys.argv[1], Path(sys.argv[2]).read_text(encoding="utf-8"))
    print(json.dumps(probabilities, indent=2))
