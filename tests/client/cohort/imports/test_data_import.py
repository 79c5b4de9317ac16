"""A hospital's own data: what an import registers, what a later one leaves as it was, and what it never tells."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from client.cohort.site import Site
from client.cohort.site_files import SITE_FILE, read_site
from client.commands import data
from client.commands.rights import revocations, revoke
from client.revocations.opening import open_ledger
from client.revocations.revocation import State
from client.revocations.workflow.campaign_steps import close
from client.settings import SiteFolder
from common.learning.model.checkpoint import ModelCard
from common.learning.records import Subset

SECRET = "MRN-0815"
app = typer.Typer()
data.register(app)
app.command()(revoke.revoke)
app.add_typer(revocations.app, name="revocations")

WriteManifest = Callable[..., Path]


@pytest.fixture
def write_manifest(tmp_path: Path) -> WriteManifest:
    """Writes `cohort.csv` with one study for each of the numbered patients; `image_of` lends one another's image."""

    def write(numbers: range, image_of: dict[int, int] | None = None) -> Path:
        rows = ["patient_id,study_id,image,report,label"]
        for number in numbers:
            image = tmp_path / f"{(image_of or {}).get(number, number)}.png"
            if not image.exists():
                pixels = np.random.default_rng(number).integers(0, 255, (32, 32), dtype=np.uint8)
                Image.fromarray(pixels).save(image)

            label = ("clear", "opacity")[number % 2]
            rows.append(f"{SECRET}-{number},s{number},{image.name},{SECRET} report {number},{label}")

        manifest = tmp_path / "cohort.csv"
        manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")

        return manifest

    return write


@pytest.fixture
def folder(tmp_path: Path, card: ModelCard) -> Path:
    """A site's folder with the federation's card in it."""
    place = tmp_path / "north"
    (place / "federation").mkdir(parents=True)
    (place / "federation" / "experiment.json").write_text(card.model_dump_json(), encoding="utf-8")

    return place


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def imported(manifest: Path, folder: Path, *more: str) -> dict[str, object]:
    done = run("data", "import", manifest, "--dir", folder, "--json", *more)
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    found: dict[str, object] = json.loads(done.stdout)

    return found


def revoke_patients(folder: Path, *numbers: int) -> None:
    done = run("revoke", "--dir", folder, stdin="\n".join(f"{SECRET}-{n}" for n in numbers))
    assert done.exit_code == 0, done.output


def trained(folder: Path) -> list[int]:
    return sorted(int(p.rpartition("-")[2]) for p in Site(folder).patients(Subset.TRAIN))


def test_an_import_registers_all_patients_in_five_sets_and_decodes_their_images(
    write_manifest: WriteManifest, folder: Path
) -> None:
    report = imported(write_manifest(range(40)), folder)
    assert (report["studies"], report["patients"], report["new"], report["exact"]) == (40, 40, 40, 0)
    counts = {str(s): len(Site(folder).patients(s)) for s in Subset}
    assert counts == {
        "train": 18,
        "validation": 4,
        "never_seen_calibration": 6,
        "never_seen_audit": 6,
        "test": 6,
    }
    shown = run("data", "show", "--dir", folder, "--json")
    sets = json.loads(shown.stdout)
    assert sets.pop("patients") == {"stopped": 0, "stopped_and_here": 0}
    assert sets == report["sets"]
    assert {row: sum(labels.values()) for row, labels in sets.items()} == {**counts, "revoked": 0}
    assert len(list((folder / "cache").glob("*-v*"))) == 40
    assert Path(read_site(folder).studies[0].image).is_absolute()


def test_a_later_import_moves_nobody_and_gives_newcomers_their_share(
    write_manifest: WriteManifest, folder: Path
) -> None:
    imported(write_manifest(range(40)), folder)
    before = read_site(folder).subsets
    report = imported(write_manifest(range(10, 80)), folder, "--seed", "9")
    after = read_site(folder).subsets
    assert (report["new"], report["absent"], report["patients"]) == (40, 10, 70)
    assert {p: after[p] for p in before} == before
    newcomers = [subset for p, subset in after.items() if p not in before]
    assert {subset: newcomers.count(subset) for subset in Subset}[Subset.TRAIN] in range(13, 24)
    assert set(newcomers) == set(Subset)
    assert sum(len(Site(folder).patients(s)) for s in Subset) == 70


def test_who_has_revoked_stays_out_of_training_after_every_import(write_manifest: WriteManifest, folder: Path) -> None:
    manifest = write_manifest(range(40))
    imported(manifest, folder)
    first, second = trained(folder)[:2]
    revoke_patients(folder, first, second)
    assert imported(manifest, folder)["revoked"] == 2
    assert not {first, second} & set(trained(folder))
    assert Site(folder).forget == {f"{SECRET}-{first}", f"{SECRET}-{second}"}


def test_who_is_to_be_unlearned_stays_registered_when_the_data_name_nobody_of_that_id(
    write_manifest: WriteManifest, folder: Path
) -> None:
    imported(write_manifest(range(40)), folder)
    first = trained(folder)[0]
    revoke_patients(folder, first)
    imported(write_manifest(range(first + 1, 40)), folder)
    assert Site(folder).forget == {f"{SECRET}-{first}"}
    assert len(Site(folder).cohort.of(Site(folder).forget)) == 1


def test_who_is_unlearned_is_not_even_read_again(write_manifest: WriteManifest, folder: Path) -> None:
    manifest = write_manifest(range(40))
    imported(manifest, folder)
    first = trained(folder)[0]
    revoke_patients(folder, first)
    with open_ledger(SiteFolder(folder)) as ledger:
        assert close(ledger, [ledger.pseudonyms.of(f"{SECRET}-{first}")], State.UNLEARNED) == 1
    (manifest.parent / f"{first}.png").write_bytes(b"no image")
    assert imported(manifest, folder)["patients"] == 39
    assert f"report {first}" + '"' not in (folder / SITE_FILE).read_text(encoding="utf-8")


def test_the_image_of_a_revoked_patient_does_not_come_back_under_another_id(
    write_manifest: WriteManifest, folder: Path
) -> None:
    imported(write_manifest(range(40)), folder)
    first = trained(folder)[0]
    revoke_patients(folder, first)
    report = imported(write_manifest(range(42), {40: first}), folder)
    assert (report["held_back"], report["two_ids"], report["new"]) == (1, 1, 1)
    assert f"{SECRET}-40" not in read_site(folder).subsets


def test_a_newcomer_who_looks_like_a_known_patient_joins_that_patients_set(
    write_manifest: WriteManifest, folder: Path
) -> None:
    imported(write_manifest(range(40)), folder)
    before = read_site(folder).subsets
    imported(write_manifest(range(45), {40 + n: n for n in range(5)}), folder)
    after = read_site(folder).subsets
    assert [after[f"{SECRET}-{40 + n}"] for n in range(5)] == [before[f"{SECRET}-{n}"] for n in range(5)]


def test_pixels_of_patients_who_are_in_the_data_no_longer_leave_the_cache(
    write_manifest: WriteManifest, folder: Path
) -> None:
    imported(write_manifest(range(40)), folder)
    imported(write_manifest(range(5, 40)), folder)
    assert len(list((folder / "cache").glob("*-v*"))) == 35


def test_an_image_that_cannot_be_read_registers_nobody(write_manifest: WriteManifest, folder: Path) -> None:
    manifest = write_manifest(range(20))
    (manifest.parent / "7.png").write_bytes(b"no image")
    done = run("data", "import", manifest, "--dir", folder)
    assert done.exit_code == 2
    assert "row 9" in done.output
    assert SECRET not in done.output
    assert not (folder / SITE_FILE).exists()


def test_labels_that_are_not_the_federations_are_refused(write_manifest: WriteManifest, folder: Path) -> None:
    manifest = write_manifest(range(20))
    manifest.write_text(manifest.read_text(encoding="utf-8").replace(",opacity", ",oedema"), encoding="utf-8")
    done = run("data", "import", manifest, "--dir", folder)
    assert done.exit_code == 2
    assert "unknown label" in done.output


def test_without_the_federations_card_the_import_says_what_to_do(write_manifest: WriteManifest, folder: Path) -> None:
    shutil.rmtree(folder / "federation")
    done = run("data", "import", write_manifest(range(20)), "--dir", folder)
    assert done.exit_code == 2
    assert "join the federation first" in done.output


def test_a_folder_that_the_coordinators_card_names_is_not_read(
    write_manifest: WriteManifest, folder: Path, card: ModelCard
) -> None:
    named = card.model_copy(update={"data": card.data.model_copy(update={"tokenizer": "/somewhere"})})
    (folder / "federation" / "experiment.json").write_text(named.model_dump_json())
    result = run("data", "import", write_manifest(range(20)), "--dir", folder)
    assert result.exit_code == 2
    assert "give --tokenizer FOLDER" in " ".join(result.output.split())
    assert not (folder / "site.json").exists()


def test_a_patient_of_a_held_out_set_revokes_with_nothing_left_to_unlearn(
    write_manifest: WriteManifest, folder: Path
) -> None:
    imported(write_manifest(range(40)), folder)
    tested = next(iter(Site(folder).patients(Subset.TEST)))
    revoke_patients(folder, int(tested.rpartition("-")[2]))
    with open_ledger(SiteFolder(folder)) as ledger:
        assert ledger.waiting() == (0, None)
    assert tested not in Site(folder).patients(Subset.TEST)


def test_of_a_manifest_of_several_sites_one_is_chosen(write_manifest: WriteManifest, folder: Path) -> None:
    manifest = write_manifest(range(60))
    header, *rows = manifest.read_text(encoding="utf-8").splitlines()
    rows = [f"{row},{'north' if n < 40 else 'south'}" for n, row in enumerate(rows)]
    manifest.write_text("\n".join([f"{header},site", *rows]), encoding="utf-8")
    done = run("data", "import", manifest, "--dir", folder)
    assert (done.exit_code, "choose one with --only-site" in " ".join(done.output.split())) == (2, True)
    assert imported(manifest, folder, "--only-site", "north")["patients"] == 40
    assert run("data", "import", manifest, "--dir", folder, "--only-site", "west").exit_code == 2


def test_look_alikes_may_be_told_to_be_different_persons(write_manifest: WriteManifest, folder: Path) -> None:
    imported(write_manifest(range(40)), folder)
    first = trained(folder)[0]
    revoke_patients(folder, first)
    report = imported(write_manifest(range(42), {40: first}), folder, "--distinct-ids")
    assert (report["held_back"], report["two_ids"], report["new"]) == (0, 1, 2)


def test_a_mimic_folder_is_imported_with_its_folds(tmp_path: Path, folder: Path, card: ModelCard) -> None:
    root = tmp_path / "mimic"
    rows = ["subject_id,study_id,dicom_id,edeme_severity,fold"]

    for number in range(10):
        subject = f"1000{number:04}"
        study = f"5000{number:04}"
        place = root / "files" / "p10" / f"p{subject}" / f"s{study}"
        place.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"d{number}.jpg")
        place.with_suffix(".txt").write_text("FINDINGS: clear lungs", encoding="utf-8")
        rows.append(f"{subject},{study},d{number},{number % 4},{(number % 5) + 1}")

    split = tmp_path / "split.csv"
    split.write_text("\n".join(rows), encoding="utf-8")
    assert "give --split" in run("data", "import", root, "--dir", folder).output
    refused = run("data", "import", root, "--split", split, "--dir", folder)
    assert (refused.exit_code, "classes are clear, opacity" in " ".join(refused.output.split())) == (2, True)

    mimic = card.model_copy(update={"classes": ("0", "1", "2", "3")})
    (tmp_path / "card.json").write_text(mimic.model_dump_json(), encoding="utf-8")
    report = imported(root, folder, "--split", str(split), "--card", str(tmp_path / "card.json"))
    assert (report["patients"], report["sets"]["train"]) == (10, {"0": 2, "1": 1, "2": 0, "3": 1})  # type: ignore[index]


def test_an_import_holds_whom_somebody_who_revoked_may_be_until_a_person_answers(
    write_manifest: WriteManifest, folder: Path
) -> None:
    imported(write_manifest(range(40)), folder)
    revoke_patients(folder, 3)
    done = run("revoke", "--also-unknown", "--dir", folder, stdin=f"{SECRET}-0077\n")
    assert done.exit_code == 0, done.output
    manifest = write_manifest(range(80))
    manifest.write_text(manifest.read_text().replace(f"{SECRET}-3,", f"{SECRET.lower()}-003,"), encoding="utf-8")
    assert imported(manifest, folder)["doubtful"] == 2
    site = Site(folder)
    assert {f"{SECRET.lower()}-003", f"{SECRET}-77"} <= site.stopped
    assert imported(manifest, folder)["doubtful"] == 0
    assert f"{SECRET}-77" in Site(folder).stopped


def test_the_errors_of_an_import_are_listed_in_json_and_name_nobody(
    write_manifest: WriteManifest, folder: Path
) -> None:
    manifest = write_manifest(range(30))
    manifest.write_text(manifest.read_text().replace(f"{SECRET}-", "1.2346E+"), encoding="utf-8")
    done = run("data", "import", manifest, "--dir", folder, "--json")
    assert done.exit_code == 2
    found = json.loads(done.stdout)
    assert (len(found["problems"]), found["more"]) == (20, 10)
    assert found["problems"][0]["where"].endswith("row 2")
    assert "scientific notation" in found["problems"][0]["problem"]
    assert len([line for line in done.stderr.splitlines() if "scientific notation" in line]) == 20
    assert "1.2346" not in done.output
