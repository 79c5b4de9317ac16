from __future__ import annotations

import pytest
from evidence_files import Evidence, make_evidence

from common.evidence.keys import SigningKey


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    return make_evidence(SigningKey.generate("ed25519"), SigningKey.generate("ecdsa-p256"))
