"""The matrix of encoder families in the docs: each row is what really happened with a small encoder of that family.

`python tests/support/encoder_matrix.py` writes it into `docs/how-to/encoders.md`; a test compares it row by row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from encoder_folders import IMAGE, SIDE, TEXT, save_image, save_text

from common.errors import ConfigError
from common.learning.config import DataConfig, ModelConfig
from common.learning.model.card import ModelCard
from common.learning.model.pinned_encoders import encoder_folders
from common.learning.model.towers.families import FAMILIES, Reads

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "encoders.md"
HEAD = "| family | `model_type` | reads | pooling | frozen | trained | adapters |\n|---|---|---|---|---|---|---|\n"
BEGIN = "<!-- families: begin (python tests/support/encoder_matrix.py) -->\n"
END = "<!-- families: end -->\n"
CASES: tuple[tuple[Reads, str], ...] = (*(("image", kind) for kind in IMAGE), *(("text", kind) for kind in TEXT))


def row(reads: Reads, kind: str, root: Path) -> str:
    """One line of the table."""
    image = save_image(root / "image", kind if reads == "image" else "vit")
    text = save_text(root / "text", kind if reads == "text" else "bert")
    family = FAMILIES[reads][kind]
    cells = [family.name, f"`{kind}`", reads, family.pooling]

    for settings in ({"frozen": reads}, {}, {"adapters": reads}):
        model = ModelConfig(
            image_encoder="folder",
            image_folder=str(image),
            text_encoder="folder",
            text_folder=str(text),
            embedding=8,
            **settings,  # type: ignore[arg-type]
        )
        card = ModelCard(model=model, data=DataConfig(), classes=("a", "b"), vocab_size=1)
        try:
            cells.append(_worked(card.pinned(), reads, settings))
        except ConfigError as err:
            cells.append(f"no: {err.problem}")

    return f"| {' | '.join(cells)} |"


def _worked(card: ModelCard, reads: Reads, settings: Mapping[str, str]) -> str:
    """`yes` if a step changes exactly the weights that it should."""
    model = card.build(1).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokens = torch.randint(4, 12, (2, card.data.max_tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    for _ in range(2):
        optimizer.zero_grad()
        model(torch.rand(2, 1, SIDE, SIDE), tokens, torch.ones_like(tokens)).logits.square().sum().backward()
        optimizer.step()

    prefix = f"{reads}_encoder."
    changed = {n for n, t in model.state_dict().items() if n.startswith(prefix) and not torch.equal(t, before[n])}
    of_tower = {name for name in changed if ".project." not in name}
    heads = {name for name in changed if ".project." in name}
    expected = ".adapters." if settings.get("adapters") else ".tower."
    fits = not of_tower if settings.get("frozen") else bool(of_tower) and all(expected in name for name in of_tower)

    return "yes" if heads and fits and encoder_folders(card) else "no"


def main() -> None:
    rows = []
    for reads, kind in CASES:
        with tempfile.TemporaryDirectory() as root:
            rows.append(row(reads, kind, Path(root)))

    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + HEAD + "\n".join(rows) + "\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
