"""Logits of this version with nothing but torch and safetensors: `python example.py [INPUTS.safetensors]`.

INPUTS has `images`, `tokens` and `mask`, as preprocess.json describes; without it, one black image and an empty report.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Check the files against the manifest, run the network, and print its logits."""
    sys.path.insert(0, str(FOLDER))
    from network import Network  # type: ignore[import-not-found]  # noqa: PLC0415 - beside this file

    manifest = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    for name, expected in manifest["files"].items():
        if hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() != expected:
            raise SystemExit(f"{name} is not the file that was published")

    shape = json.loads((FOLDER / "model.json").read_text(encoding="utf-8"))["model"]
    network = Network(load_file(FOLDER / "model.safetensors"), shape)
    inputs = json.loads((FOLDER / "preprocess.json").read_text(encoding="utf-8"))
    if len(sys.argv) > 1:
        batch = load_file(sys.argv[1])
    else:
        tokens = torch.full((1, inputs["report"]["max_tokens"]), inputs["report"]["special_tokens"]["[PAD]"])
        tokens[0, :2] = torch.tensor([inputs["report"]["special_tokens"][name] for name in ("[CLS]", "[SEP]")])
        size = inputs["image"]["size"]
        batch = {
            "images": torch.zeros(1, 1, size, size),
            "tokens": tokens,
            "mask": (torch.arange(len(tokens[0])) < 2)[None].long(),
        }

    logits = network.logits(batch["images"], batch["tokens"], batch["mask"])
    print(json.dumps(dict(zip(inputs["outputs"]["branches"], logits.tolist(), strict=True)), indent=2))


if __name__ == "__main__":
    main()
