from pathlib import Path

import pytest

from common.learning.data.tables.manifest import Manifest, read_manifest

COVID = Path(__file__).parents[5] / "shared/data/covid_cxr/manifest.csv"


@pytest.fixture(scope="session")
def covid() -> Manifest:
    """The real chest radiographs, where a checkout has them beside it."""
    if not COVID.is_file():
        pytest.skip("the real set is not beside the repository")
    return read_manifest(COVID)
