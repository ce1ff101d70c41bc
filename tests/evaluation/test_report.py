"""The report, parsed from its HTML."""

from __future__ import annotations

import base64
import io
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import soundfile
from playwright.sync_api import sync_playwright

from audioml.evaluation.calibration import Calibration, tabulate_reliability
from audioml.evaluation.cost import Cost
from audioml.evaluation.explanation import Explanation
from audioml.evaluation.intervals import Grouping, Interval
from audioml.evaluation.plots import (
    draw_learning_curve,
    draw_reliability,
    draw_robustness,
    draw_spectrogram,
    encode_wav,
    to_svg,
)
from audioml.evaluation.report import (
    Evaluation,
    Mistake,
    count_confusions,
    format_number,
    format_percent,
    format_short,
    list_confusions,
    render_report,
)
from audioml.evaluation.unknown import Strangers
from audioml.evaluation.variants import VariantFigures

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Keeps tags with their attributes, and the text; checks that tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.text = re.sub(r"[ \n]+", " ", " ".join(self.texts))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def make_mistake(path: str = "yes/1.wav", **values) -> Mistake:
    noise = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    fields = {
        "actual": "yes",
        "predicted": "no",
        "confidence": 0.876,
        "duration_s": 0.5,
        "shown_s": 0.5,
        "sample_rate": 8000,
        "spectrogram": draw_spectrogram(noise, 8000),
        "audio": encode_wav(noise, 8000),
        "details": {"speaker": "ann"},
    }
    return Mistake(path=path, **(fields | values))


def make_evaluation(**values) -> Evaluation:
    pairs = pd.DataFrame({"actual": ["yes"] * 6 + ["no"] * 4, "predicted": ["yes"] * 4 + ["no"] * 6})
    slices = [["speaker", "ann", 5, 0.6, 0.3, 0.7, "worse"], ["speaker", "bob", 5, 1.0, 0.5, 1.0, ""]]
    fields = {
        "name": "words",
        "metric": "accuracy",
        "headline": Interval(0.8, 0.6, 0.95, 10),
        "confidence": 0.95,
        "counts": {"train": 1200, "validation": 30, "test": 10},
        "hours": 1.234,
        "metrics": {"accuracy": 0.8, "macro_f1": 0.79, "f1/yes": 0.8},
        "validation": 0.9,
        "tables": {"confusion": pairs, "per_label": pd.DataFrame({"label": ["no"], "recall": [0.25], "support": [4]})},
        "slices": pd.DataFrame(slices, columns=["slice", "value", "n", "metric", "low", "high", "differs"]),
        "mistakes": [make_mistake()],
        "n_mistakes": 2,
        "curves": "<svg><text>Loss</text></svg>",
        "card": {"MLflow run": "abc123"},
        "params": "name: words\n",
    }
    return Evaluation(**(fields | values))


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(make_evaluation()))


def test_all_tags_are_closed(page):
    assert page.open == []


def test_nothing_comes_from_other_hosts_and_no_script_runs(page):
    assert page.all("script") == []
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            if address := attributes.get(name):
                assert address.startswith(("data:", "#")), (tag, address)
    policies = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"]
    assert "url(" not in page.text


def test_the_headline_says_what_is_known(page):
    said = "accuracy on 10 test clips. 95 % confidence interval: 60.0\u00a0% to 95.0\u00a0%."
    assert said in page.text
    for number in ("1,200 clips", "30 clips", "1.23 h", "90.0\u00a0%", "79.0\u00a0%"):
        assert number in page.text


def test_the_page_can_be_read_without_seeing_it(page):
    assert [html["lang"] for html in page.all("html")] == ["en"]
    assert [image["alt"] for image in page.all("img")] == ["Spectrogram of yes/1.wav, labelled yes, predicted no"]
    assert [audio["aria-label"] for audio in page.all("audio")] == ["Play yes/1.wav"]
    assert all(header.get("scope") in ("row", "col") for header in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= set(ids)
    assert {section["aria-labelledby"] for section in page.all("section")} <= set(ids)


def test_the_sound_can_be_played(page):
    (audio,) = page.all("audio")
    assert "controls" in audio
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(audio["src"].split(",")[1])))
    assert (len(samples), rate) == (4000, 8000)


def test_confusions_are_counted(page):
    assert "Most often, yes is taken for no (2 clips, 33.3\u00a0% of its clips)." in page.text
    titles = [cell["title"] for cell in page.all("td") if "title" in cell]
    assert titles == [
        "no taken for no: 100\u00a0%",
        "yes taken for no: 33.3\u00a0%",
        "yes taken for yes: 66.7\u00a0%",
    ]


def test_slices_mistakes_and_model_are_there(page):
    for said in (
        "ann",
        "2 of 10 test clips are wrong",
        "88\u00a0% sure",
        "speaker ann",
        "abc123",
        "name: words",
        "Loss",
    ):
        assert said in page.text


def test_what_was_found_beside_accuracy_is_told():
    reliability = tabulate_reliability([0.9, 0.6], [1, 0])
    metrics = {"temperature": 1.5, "ece": 0.02, "adaptive_ece": 0.03, "ece_before": 0.1}
    noise = pd.DataFrame(
        {"snr_db": [np.nan, 5], "n": [8, 8], "metric": [0.8, 0.5], "low": [0.6, 0.3], "high": [0.9, 0.7]}
    )
    page = Page(
        render_report(
            make_evaluation(
                grouping=Grouping("speaker", np.arange(10), 12),
                calibration=Calibration(metrics, reliability, reliability),
                reliability=to_svg(draw_reliability(reliability, reliability), "reliability"),
                noise=noise,
                noise_name="pink",
                noise_curve=to_svg(draw_robustness(noise, "accuracy"), "noise"),
                cost=Cost(59_000, 9_800_000, 297_000, 0.0012, 0.004, 50),
                strangers=Strangers(20, 0.9, 0.75),
                explanations=[Explanation("yes/1.wav", "yes", "no", 0.88, b"png")],
            )
        )
    )
    assert page.open == []
    for said in (
        "Clips of one speaker are drawn together (12 of them).",
        "was by 10.0\u00a0% before outputs were divided by the temperature 1.5",
        "8 test clips mixed with pink noise",
        "9.8\u00a0M",
        "297\u00a0kB as ONNX",
        "1.2 ms from audio file to prediction",
        "Of 20 recordings that are none of the labels, 75.0\u00a0% are answered with unknown",
    ):
        assert said in page.text
    labels = [div.get("aria-label", "") for div in page.all("div")]
    assert "Accuracy: 80.0\u00a0% without noise, 50.0\u00a0% at 5 dB" in labels
    assert "What made yes/1.wav, labelled yes, be answered with no" in [image["alt"] for image in page.all("img")]


def test_variants_are_compared():
    float32 = VariantFigures("float32", False, True, 0.996, 0.0, 297_247, 0.99, 9_805_664, 0.0012)
    int8 = replace(float32, name="int8", serves=True, size_bytes=79_332, latency_p50_s=0.0007)
    pruned = VariantFigures("pruned", False, False, 0.9, 0.096, 110_000)
    page = Page(render_report(make_evaluation(variants=[float32, int8, pruned], max_loss=0.005)))
    assert page.open == []
    for said in (
        "loses no more than 0.005 of the accuracy on validation clips. int8 serves; pruned is refused",
        "float32 297\u00a0kB 9.81\u00a0M 1.2 ms 99.00\u00a0% 99.60\u00a0% 0.0000 accepted",
        "int8 79.3\u00a0kB 9.81\u00a0M 0.7 ms 99.00\u00a0% 99.60\u00a0% 0.0000 serves",
        "pruned 110\u00a0kB – – – 90.00\u00a0% 0.0960 refused",
    ):
        assert said in page.text
    assert "#variants" in [link["href"] for link in page.all("a")]


def test_the_learning_curve_is_told():
    table = pd.DataFrame(
        {"share": ["0.1", "all"], "train_clips": [240, 2400], "metric": [0.5, 0.9], "low": [0.4, 0.8], "high": [0.6, 1]}
    )
    plot = to_svg(draw_learning_curve(table, "accuracy"), "learning_curve")
    page = Page(render_report(make_evaluation(learning_curve=table, learning_plot=plot)))
    assert page.open == []
    assert "trained on shares of its 2,400 training clips" in page.text
    labels = [div.get("aria-label", "") for div in page.all("div")]
    assert "Accuracy: 50.0\u00a0% with 240 training clips, 90.0\u00a0% with 2,400 training clips" in labels


def test_why_there_are_no_explanations_is_told():
    page = Page(render_report(make_evaluation(explained="The model tree has no gradient.")))
    assert "None. The model tree has no gradient." in page.text


@pytest.mark.parametrize(("value", "text"), [(999, "999"), (59_018, "59\u00a0k"), (9_805_664, "9.81\u00a0M")])
def test_large_numbers_are_short(value, text):
    assert format_short(value) == text


def test_what_people_wrote_is_not_markup():
    evil = "<img src=x onerror=alert(1)>"
    pairs = pd.DataFrame({"actual": [evil], "predicted": ["no"]})
    html = render_report(
        make_evaluation(name=evil, tables={"confusion": pairs}, mistakes=[make_mistake(path=evil)], params=evil)
    )
    assert evil not in html
    assert len(Page(html).all("img")) == 1


def test_a_perfect_model():
    right = pd.DataFrame({"actual": ["a", "b"], "predicted": ["a", "b"]})
    page = Page(
        render_report(
            make_evaluation(
                headline=Interval(1.0, 0.97, 1.0, 100), tables={"confusion": right}, mistakes=[], n_mistakes=0
            )
        )
    )
    assert "every test clip is right" in page.text
    assert "No test clip is taken for another." in page.text


def test_the_least_there_can_be():
    bare = make_evaluation(
        tables={}, slices=make_evaluation().slices.iloc[:0], mistakes=[], validation=None, curves=None, card={}
    )
    page = Page(render_report(bare))
    assert page.open == []
    assert "Slices" not in page.text
    assert "Training" not in page.text
    assert "evaluate.worst_mistakes" in page.text


def test_an_error_rate_above_one_is_shown():
    headline = Interval(1.3, 1.1, 1.5, 10)
    assert "130.0\u00a0%" in Page(render_report(make_evaluation(metric="word_error_rate", headline=headline))).text


def test_large_matrices_become_a_list():
    labels = [f"label{i:02}" for i in range(80)]
    pairs = pd.DataFrame({"actual": labels * 2, "predicted": labels + labels[1:] + labels[:1]})
    assert count_confusions(pairs) is None
    page = Page(render_report(make_evaluation(tables={"confusion": pairs})))
    assert "the matrix would be too large" in page.text


def test_confusions_against_numpy():
    generator = np.random.default_rng(0)
    actual, predicted = generator.integers(0, 5, (2, 400))
    pairs = pd.DataFrame({"actual": actual.astype(str), "predicted": predicted.astype(str)})
    expected = np.zeros((5, 5), int)
    np.add.at(expected, (actual, predicted), 1)
    matrix = count_confusions(pairs)
    assert [[cell["count"] for cell in row["cells"]] for row in matrix["rows"]] == expected.tolist()
    first = list_confusions(pairs)[0]
    wrong = expected - np.diag(np.diag(expected))
    assert first["count"] == wrong.max()
    assert first["share"] == pytest.approx(wrong.max() / expected[int(first["actual"])].sum())


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100"), (0.0, "0"), (0.9999, "99.9"), (0.12345, "12.3"), (1.5, "150.0"), (0.0001, "0.0")],
)
def test_percentages(share, text):
    assert format_percent(share) == f"{text}\u00a0%"


def test_what_is_unknown_is_a_dash():
    assert format_percent(None) == format_percent(float("nan")) == format_number(float("nan")) == "–"
    assert format_number(12345) == "12,345"


@pytest.mark.slow
def test_a_browser_shows_it_and_plays_its_audio(tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    report = tmp_path / "index.html"
    report.write_text(render_report(make_evaluation()), encoding="utf-8")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    requests: list[str] = []
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*flags, "--disable-sync"])
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(report.as_uri())
        duration_s = page.locator("audio").first.evaluate(
            "audio => new Promise(done => { audio.onloadedmetadata = () => done(audio.duration); audio.load() })"
        )
        heading = page.locator("h1").inner_text()
        fits = page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        browser.close()
    assert duration_s == pytest.approx(0.5)
    assert "words" in heading
    assert fits
    assert [url for url in requests if not url.startswith(("data:", report.as_uri()))] == []
    assert complaints == []
