from __future__ import annotations

import re
from itertools import pairwise

from audioml.lineage.node import make_node, summarize
from audioml.lineage.page import BOX_PX, place, render_page
from audioml.lineage.words import describe_facts

FILES = [make_node("recording", f"talks/<{i}>.wav", sha256=f"{i:064d}") for i in range(40)]
MODEL = make_node(
    "model",
    "tones/3",
    make_node("run", "rescnn", make_node("params", "2 params", values={"seed": "0", "model.name": "rescnn"})),
    make_node("recordings", "trained on", *FILES, clips=40),
    aliases=["champion"],
    withdrawn={"recordings": 2, "train": 1, "reason": "consent & more", "via": []},
)


def test_long_lists_are_counted_but_for_the_first() -> None:
    short = summarize(MODEL, 10)
    names = [child.name for child in short.children[1].children]
    assert names == [*(file.name for file in FILES[:10]), "and 30 more"]
    assert len(MODEL.children[1].children) == 40
    assert summarize(MODEL, 40) == MODEL


def test_boxes_of_a_column_do_not_overlap_and_edges_meet_them() -> None:
    root = place(summarize(MODEL, 10))
    boxes = root.walk()
    assert len({box.anchor for box in boxes}) == len(boxes) == 15
    columns: dict[int, list[tuple[int, int]]] = {}
    for box in boxes:
        columns.setdefault(box.x, []).append((box.y, box.y + box.height))
    for spans in columns.values():
        spans.sort()
        assert all(above[1] < below[0] for above, below in pairwise(spans))
    starts = {(box.x + BOX_PX, box.middle) for box in boxes if box.children}
    ends = {(box.x, box.middle) for box in boxes} - {(root.x, root.middle)}
    drawn = [[int(n) for n in re.findall(r"\d+", edge)] for edge in root.edges()]
    assert {(edge[0], edge[1]) for edge in drawn} == starts
    assert {(edge[-2], edge[-1]) for edge in drawn} == ends


def test_the_page_needs_no_other_host_and_shows_text_as_text() -> None:
    page = render_page(MODEL, 10)
    assert "talks/&lt;0&gt;.wav" in page
    assert "<0>" not in page
    assert "consent &amp; more" in page
    assert "and 30 more" in page
    assert "http" not in page.replace("http-equiv", "")
    assert not re.search(r"<(script|img|link|iframe)", page)
    assert set(re.findall(r'href="(.)', page)) == {"#"}
    assert set(re.findall(r'href="#(n\d+)"', page)) == set(re.findall(r'<tr id="(n\d+)"', page))


def test_facts_in_words() -> None:
    assert describe_facts(MODEL) == "aliases champion · WITHDRAWN: 2 (1 trained on)"
    assert describe_facts(FILES[0]) == "SHA-256 000000000000"
    assert describe_facts(MODEL.children[0].children[0]) == "model.name rescnn · seed 0"
    told = make_node("dataset", "d", in_dvc_cache=False, clips=1234, hours=0.51234, dvc_md5="a" * 32, note=None)
    assert describe_facts(told) == "not in DVC's cache · clips 1,234 · hours 0.5123 · DVC MD5 aaaaaaaaaaaa"
