"""A single patient of the README's federation with frozen encoders: from `revoke` to an attested exact version."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from encoder_folders import save_image, save_text

from tests.integration.test_local_federation import BIN, ROOT, Here, wait_for

MOST_SECONDS = 60.0
"""From `revoke` to the published version."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BIN / "fedforget-server").exists(), reason="the README's commands need `make setup`"),
]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """The README's federation, trained on frozen encoders of random weights."""
    found = Here(tmp_path)
    for name in ("deploy", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    settings = {
        "experiment.model.image_encoder": "folder",
        "experiment.model.image_folder": save_image(tmp_path / "image", "resnet"),
        "experiment.model.text_encoder": "folder",
        "experiment.model.text_folder": save_text(tmp_path / "text", "distilbert"),
        "experiment.model.frozen": "both",
        "experiment.unlearn.method": "exact",
        "experiment.unlearn.exact.declared_by": "Dr. Frost, data protection",
    }
    chosen = " ".join(f"--set '{name}={value}'" for name, value in settings.items())
    try:
        found.run(f"deploy/local-federation start runs/federation {chosen}")
        found.run(".venv/bin/fedforget-server train --dir runs/federation/server --wait")
        yield found
    finally:
        found.run("deploy/local-federation stop runs/federation")


def test_one_patient_is_forgotten_exactly_within_a_minute_and_the_attestation_verifies(
    here: Here, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = time.monotonic()
    here.run(".venv/bin/fedforget-site revoke --patient-file runs/federation/letter.txt --dir runs/federation/south")
    revoked = time.monotonic() - begin
    here.server("campaign", "watch", "--next")
    published = time.monotonic() - begin
    training, campaign = json.loads(here.server("campaign", "list"))
    assert (training["state"], campaign["state"]) == ("published", "published"), campaign["reason"]
    assert here.versions() == {"v0001": "quarantined", "v0002": "active"}

    audit = tmp_path / "audit"

    def exported() -> bool:
        shutil.rmtree(audit, ignore_errors=True)
        export: list[str | Path] = [BIN / "fedforget-server", "attestation", "export", str(campaign["number"]), audit]
        subprocess.run([*export, "--dir", here.federation / "server"], check=False, capture_output=True, timeout=120)
        return (audit / "attestation.json").exists()

    wait_for(exported, "the hospital's signature")
    attested = time.monotonic() - begin
    server, south = tmp_path / "from-server", tmp_path / "from-south"
    here.server("log", "export", server)
    here.site("south", "log", "export", south)
    keys = [f"--key=server={server / 'server.pub'}", f"--key=site={south / 'site.pub'}"]
    model = here.federation / "server" / "models" / "v0002" / "model.safetensors"
    verify: list[str | Path] = [BIN / "fedforget-site", "verify", audit, *keys, f"--model={model}"]
    done = subprocess.run(verify, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    text = " ".join(done.stdout.split())
    assert "Exact" in text or "exact" in text
    assert "Dr. Frost, data protection" in text

    with capsys.disabled():
        print(f"\nrevoke {revoked:.1f} s, published after {published:.1f} s, attested after {attested:.1f} s")
    assert published < MOST_SECONDS
