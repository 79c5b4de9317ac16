import builtins
import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcome_grounds import GROUNDS
from rich.console import Console

from common.errors import InputError, OutputError, ResultError
from simulations.reporting.answer import headline
from simulations.reporting.cells import DASH
from simulations.reporting.charts.curves import LOSS_RANGE, binned_roc, log_density
from simulations.reporting.palette import COLOURS
from simulations.reporting.report import draw_summary, load_result, print_table, write_report
from simulations.reporting.tensorboard import write_tensorboard
from simulations.result import BranchRehearsals, Histogram, Missing, RehearsalsResult, Result

Make = Callable[..., Result]
Drawn = Callable[..., tuple[Result, str, "Page"]]
VOID = {"meta", "link", "br", "hr", "img", "input"}
SHAPES = [
    {},
    {"retrained": False},
    {"sites": 1, "outcome": "rejected"},
    {"forgetting": 3, "outcome": "inconclusive"},
]


class Page(HTMLParser):
    """Reads a page strictly: every tag closed in order; keeps ids, attributes and the figures with their paths."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.figures: list[tuple[str, float, str]] = []
        self.tags: set[str] = set()
        self._figure: tuple[str, float] | None = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs), f"<{tag}> has an attribute twice"
        self.attributes += [(tag, name, value) for name, value in found.items()]
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "data":
            self._figure = found["data-path"], float(found["value"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._figure is not None:
            self.figures.append((*self._figure, data))
            self._figure = None


def page_of(result: Result, folder: Path) -> tuple[str, Page]:
    text = write_report(result, folder).read_text(encoding="utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def drawn(make_result: Make, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """Results of a shape with their pages; each is drawn once, as charts take a second."""

    @functools.cache
    def draw(shape: str) -> tuple[Result, str, Page]:
        result = make_result(**json.loads(shape))
        return result, *page_of(result, tmp_path_factory.mktemp("page"))

    return lambda **shape: draw(json.dumps(shape))


def at(values: Any, path: str) -> Any:
    for part in path.split("."):
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


@pytest.mark.parametrize("shape", SHAPES)
def test_the_page_is_whole_and_loads_nothing(shape: dict[str, Any], drawn: Drawn) -> None:
    _, text, page = drawn(**shape)
    loading = [(t, n, v) for t, n, v in page.attributes if n in {"src", "href", "srcset", "action"}]
    assert all(value.startswith("#") for _, _, value in loading)
    assert not {"script", "link", "iframe", "object", "embed", "img"} & page.tags
    assert "@import" not in text
    assert all(target.startswith(("#", "'#")) for target in re.findall(r"url\(([^)]*)", text))
    assert len(page.ids) == len(set(page.ids))
    assert {value[1:] for _, _, value in loading} <= set(page.ids)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_figure_of_the_page_is_the_one_in_the_result(shape: dict[str, Any], drawn: Drawn) -> None:
    result, _, page = drawn(**shape)
    values = json.loads(result.model_dump_json())
    assert len(page.figures) > 200

    for path, value, shown in page.figures:
        assert value == at(values, path)
        if re.fullmatch(r"[\d.]+", shown):
            assert float(shown) == pytest.approx(value, abs=0.00051)


def test_every_membership_and_utility_figure_is_on_the_page(drawn: Drawn) -> None:
    result, _, page = drawn(forgetting=3, outcome="inconclusive")
    shown = {path for path, _, _ in page.figures}

    for name, model in result.models.items():
        for branch in model.mia:
            for field in ("auc", "ci90.0", "ci95.1", "ks", "ks_p", "calibrated", "svc"):
                assert f"models.{name}.mia.{branch}.{field}" in shown
            for group in model.branches[branch].groups:
                for field in ("auc", "f1", "accuracy", "ce_mean", "ce_median", "patients"):
                    assert f"models.{name}.branches.{branch}.groups.{group}.{field}" in shown

        for site in ("site-1", "site-2", "site-3"):
            assert f"models.{name}.mia_by_site.{site}.fused.auc" in shown


def test_the_same_result_gives_the_same_bytes(make_result: Make, drawn: Drawn, tmp_path: Path) -> None:
    assert write_report(make_result(), tmp_path).read_bytes() == drawn()[1].encode()
    assert draw_summary(make_result()) == draw_summary(make_result())


def test_every_table_has_a_caption_and_every_chart_a_description(drawn: Drawn) -> None:
    _, text, page = drawn()
    assert text.count("<caption") == text.count("<table") >= 7
    described = [value for tag, name, value in page.attributes if tag == "svg" and name == "aria-label"]
    assert len(described) == text.count("<svg") == 5
    assert all(len(label) > 40 for label in described)


def test_every_figure_of_the_models_says_whose_it_is_where_a_row_becomes_a_card(drawn: Drawn) -> None:
    _, text, page = drawn()
    heads = [value for tag, name, value in page.attributes if (tag, name) == ("td", "data-head")]
    assert len(heads) > 100
    assert set(heads) > {"Original", "Retrained", "Naive", "Unlearned"}
    assert text.count("<td role=") == len(heads)


def test_on_paper_settings_and_digests_are_left_out_and_it_says_where_they_are(drawn: Drawn) -> None:
    _, text, _ = drawn()
    left_out = re.findall(r'<details class="bulk">\n<summary>([A-Z][a-z ]+)', text)
    assert {"Settings ", "Versions and digests"} <= set(left_out)
    assert "details.bulk { display: none; }" in text.split("@media print")[1]
    assert '<p class="on-paper">Settings, versions and digests are in <code>result.json</code>' in text


CHROMIUM = shutil.which("chromium")
MEASURE = """<body><iframe src="report.html" style="width:390px;height:900px;border:0"></iframe><pre></pre><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, width = page.documentElement.scrollWidth;
  const cells = [...page.querySelectorAll("table.models td")].filter(cell => cell.getBoundingClientRect().width);
  const beyond = cells.filter(cell => cell.getBoundingClientRect().right > 390);
  document.querySelector("pre").textContent = `${width} ${cells.length > 50} ${beyond.length}`;
};</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_at_390_pixels_every_models_figure_is_on_the_screen_and_on_paper_it_is_short(
    drawn: Drawn, tmp_path: Path
) -> None:
    _, text, _ = drawn(forgetting=3)
    (tmp_path / "report.html").write_text(text)
    (tmp_path / "measure.html").write_text(MEASURE)
    quiet = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--hide-scrollbars",
        *quiet,
        f"--user-data-dir={tmp_path / 'profile'}",
    ]

    def run(*more: str) -> str:
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=True, timeout=120)
        return done.stdout

    dom = run(
        "--allow-file-access-from-files",
        "--virtual-time-budget=5000",
        "--dump-dom",
        (tmp_path / "measure.html").as_uri(),
    )
    assert "<pre>390 true 0</pre>" in dom
    paper = tmp_path / "report.pdf"
    run(f"--print-to-pdf={paper}", "--no-pdf-header-footer", (tmp_path / "report.html").as_uri())
    assert len(re.findall(rb"/Type\s*/Page[^s]", paper.read_bytes())) <= 10


def test_charts_follow_the_colours_of_the_page(drawn: Drawn) -> None:
    _, text, _ = drawn()
    charts = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert re.findall(r"#[0-9a-f]{6}", charts) == []
    assert "var(--unlearned)" in charts


def test_a_null_is_a_dash_with_its_reason(make_result: Make, tmp_path: Path) -> None:
    result = make_result()
    unlearned = result.models["unlearned"]
    unlearned.mia["text"] = unlearned.mia["text"].model_copy(update={"auc": None, "ci90": None, "ci95": None})
    unlearned.mia["image"] = unlearned.mia["image"].model_copy(update={"calibrated": None})
    unlearned.forget.auc = None
    unlearned.branches["fused"].groups["forget"].auc = None
    unlearned.missing.append(Missing(path="mia.text.auc", reason="only 2 controls share a label"))
    unlearned.missing.append(Missing(path="branches.fused.forget.auc", reason="only one class of them"))
    text, page = page_of(result, tmp_path)
    assert text.count(DASH) >= 8
    for reason in ("only 2 controls share a label", "only one class of them", "no reason was recorded"):
        assert reason in text
    assert "models.unlearned.mia.text.auc" not in {path for path, _, _ in page.figures}


def test_a_result_without_histograms_history_or_attacks_still_makes_a_page(make_result: Make, tmp_path: Path) -> None:
    result = make_result().model_copy(update={"history": [], "cost": {}})
    for model in result.models.values():
        model.loss_histograms = {}
        model.mia = {}
        model.mia_by_site = {}
        model.missing = []

    text, _ = page_of(result, tmp_path)
    assert text.count("<figure>") == 0, "what was not recorded leaves no empty place"
    assert draw_summary(result).startswith(b"\x89PNG")


def test_few_patients_are_said_to_be_few_instead_of_drawn_flat(make_result: Make, tmp_path: Path) -> None:
    result = make_result()
    for histograms in result.models["unlearned"].loss_histograms.values():
        histograms["forget"] = Histogram(edges=[0.0, 1e9], counts=[9])
    text, _ = page_of(result, tmp_path)
    assert text.count("too few patients for bins") == 3
    assert text.count("too few patients for a curve") == 3


def test_one_patient_who_is_forgotten_by_qualification_has_an_answer_first_and_no_empty_chart(
    make_result: Make, tmp_path: Path
) -> None:
    made = make_result(retrained=False)
    for model in made.models.values():
        model.mia = {
            branch: one.model_copy(update=dict.fromkeys(type(one).model_fields)) for branch, one in model.mia.items()
        }
        model.loss_histograms = {}
    rehearsals = RehearsalsResult(
        rehearsals=40,
        patients=200,
        controls=212,
        margin=0.1,
        branches={
            branch: BranchRehearsals(difference=0.01, low=-0.03, high=0.05, original=0.2)
            for branch in ("image", "text", "fused")
        },
        distances=[0.1 * number for number in range(40)],
        distance=1.1,
    )
    grounds = GROUNDS["accepted_qualified"]
    decision = made.decision.model_copy(update={"outcome": "accepted_qualified", "grounds": grounds})
    result = made.model_copy(update={"decision": decision, "rehearsals": rehearsals})
    text, page = page_of(result, tmp_path)

    assert text.index("No, by qualification.") < text.index("rests on: qualification q3") < text.index("<figure>")
    assert "What the qualification rests on" in text
    assert not re.search(r"too few patients for|needs \d+ patients|not available|nothing to draw", text)
    assert {path for path, _, _ in page.figures} >= {"rehearsals.branches.fused.original"}
    assert not any(".mia." in path for path, _, _ in page.figures)
    out = StringIO()
    print_table(result, Console(file=out, width=80, color_system=None))
    assert "MIA" not in out.getvalue()
    assert "Accepted by qualification" in out.getvalue()


def test_without_retraining_the_page_says_so_and_compares_with_the_first_training(drawn: Drawn) -> None:
    _, text, page = drawn(retrained=False)
    assert "this run left it out" in text
    assert "of the work of first training" in text
    assert not any(path.startswith("models.retrained") for path, _, _ in page.figures)


def test_names_from_the_result_cannot_become_markup(make_result: Make, tmp_path: Path) -> None:
    result = make_result()
    result.decision.reasons.append("<script>alert(1)</script>")
    result.data["<b>site</b>"] = {"forget": 1}
    text, page = page_of(result, tmp_path)
    assert "script" not in page.tags
    assert "&lt;b&gt;site&lt;/b&gt;" in text


def test_the_answer_tells_remembering_from_overdoing_it(make_result: Make) -> None:
    result = make_result(outcome="rejected")
    fused = result.models["unlearned"].mia["fused"]
    fused.ci95 = (0.62, 0.80)
    assert headline(result).startswith("Yes. On the fused branch it still knows them")
    fused.ci95 = (0.20, 0.38)
    assert headline(result).startswith("Yes, by overdoing it. On the fused branch")
    fused.ci95 = (0.45, 0.55)
    assert "turned down" in headline(result)
    assert headline(make_result()).startswith("No.")
    assert headline(make_result(outcome="inconclusive")).startswith("It cannot be said yet")


def test_the_table_fits_80_columns_and_ends_with_decision_and_cost(make_result: Make) -> None:
    out = StringIO()
    result = make_result(retrained=False)
    result.models["original"].mia["image"].ci90 = (0.52, 1.0)
    print_table(result, Console(file=out, width=80, color_system=None))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert "…" not in out.getvalue()
    row = next(line for line in lines if line.lstrip().startswith("Unlearned"))
    assert row.split() == ["Unlearned", ".52", ".49", ".51", ".09", ".74", ".72", ".52", ".80", ".56"]
    assert ".45–.59" in lines[lines.index(row) + 1]
    assert any(".52–1.0" in line for line in lines)
    assert not any("Retrained" in line for line in lines)
    assert any(line.startswith("Accepted") for line in lines)
    assert lines[-1].startswith("Forgetting took 8.3")


def test_a_written_result_is_read_back(make_result: Make, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(make_result().model_dump_json(), encoding="utf-8")
    assert load_result(tmp_path) == make_result()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no result.json here"),
        ("{", "not valid JSON"),
        ("[1]", "schema_version is None, this version reads 1"),
        ('{"schema_version": 2}', "schema_version is 2, this version reads 1"),
        ('{"schema_version": 1, "seconds": NaN}', "NaN is not a figure"),
        ('{"schema_version": 1, "seed": 1}', "config: Field required"),
    ],
)
def test_a_result_that_cannot_be_used_is_refused_with_a_remedy(content: str | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content, encoding="utf-8")
    with pytest.raises(ResultError) as caught:
        load_result(tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.remedy


def test_a_report_that_cannot_be_written_leaves_nothing_half_done(make_result: Make, tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_report(make_result(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_density_of_uneven_bins_has_area_one_on_a_log_axis() -> None:
    edges, heights = log_density(Histogram(edges=[0.0, 0.1, 1.0, 1e9], counts=[5, 10, 5]))
    assert heights @ np.diff(np.log10(edges)) == pytest.approx(1.0)
    assert heights[1] == pytest.approx(0.5)
    assert (edges[0], edges[-1]) == LOSS_RANGE


def test_the_binned_curve_uses_only_edges_that_both_groups_have() -> None:
    forget = Histogram(edges=[0.0, 0.1, 1.0, 9.0], counts=[6, 2, 2])
    never_seen = Histogram(edges=[0.0, 0.5, 1.0, 9.0], counts=[1, 2, 7])
    curve = binned_roc(forget, never_seen)
    assert curve is not None
    fpr, tpr = curve
    assert fpr.tolist() == pytest.approx([0, 0, 0.3, 1, 1])
    assert binned_roc(forget, Histogram(edges=[0.0, 9.0], counts=[9])) is None
    assert tpr.tolist() == pytest.approx([0, 0, 0.8, 1, 1])


def test_colours_keep_their_contrast_on_both_pages() -> None:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    text = {"ink", "quiet", "accepted", "rejected", "inconclusive"}
    for name, colour in COLOURS.items():
        for mine, page, card in (
            (colour.light, COLOURS["page"].light, COLOURS["card"].light),
            (colour.dark, COLOURS["page"].dark, COLOURS["card"].dark),
        ):
            if name not in {"page", "card", "rule", "band"}:
                for ground in (page, card):
                    high, low = sorted((light(mine), light(ground)), reverse=True)
                    assert (high + 0.05) / (low + 0.05) >= (4.5 if name in text else 3.0), name

    assert len({colour.light for colour in COLOURS.values()}) == len(COLOURS)


def test_tensorboard_gets_rounds_and_final_figures(make_result: Make, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write_tensorboard(make_result(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["naive", "original", "retrained", "unlearned"]
    events = accumulator.EventAccumulator(str(tmp_path / "original"))
    events.Reload()
    assert [e.step for e in events.Scalars("validation/auc")] == list(range(1, 25))
    assert events.Scalars("final/mia_auc_fused")[0].value == pytest.approx(0.771)


def test_without_tensorboard_the_error_names_the_extra(
    make_result: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"fedforget\[tensorboard\]"):
        write_tensorboard(make_result(), tmp_path)
