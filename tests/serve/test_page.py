"""The page: drawn on in a real browser, and what it asks the server for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import scconv_deploy
from scconv_deploy.config import ExportConfig
from scconv_deploy.contracts import Silence
from scconv_deploy.pipeline import run_export
from tests.serve.browser import Browser, installed
from tests.serve.calls import call, get
from tests.serve.running import Running, running

MODEL = Path(__file__).parents[2] / "samples" / "digits" / "model.pt"
BOX = "(({left, top, width}) => [left, top, width])(document.getElementById('pad').getBoundingClientRect())"
ANSWER = "document.getElementById('answer').textContent"


def test_the_page_allows_no_foreign_scripts_and_a_new_nonce_each_time(server: Running) -> None:
    status, headers, first = call(server.http, "GET", "/")
    _, _, second = call(server.http, "GET", "/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert b"%NONCE%" not in first
    assert first != second


def test_cards_tell_every_model(server: Running) -> None:
    status, cards = get(server.http, "/ui/models")
    assert status == 200
    assert [(c["name"], c["version"]) for c in cards] == [("many", 1), ("many", 2), ("net", 1)]
    assert cards[2]["inputs"][0]["optimum"] == [1, 3, 4, 4]
    assert cards[2]["facts"]["Precision"] == "fp32"
    assert cards[2]["facts"]["Verified"] is None  # this bundle's manifest does not say


@pytest.mark.skipif(installed() is None, reason="needs Chromium")
def test_a_drawn_one_is_seen_as_the_engine_sees_it(tmp_path: Path) -> None:
    """A stroke from top to bottom; the page's answer must be the engine's on the page's own pixels."""
    out = tmp_path / "digits"
    run_export(MODEL, ExportConfig("onnx", out=out, verify=False), Silence())
    arguments = (str(out), "--port", "0", "--no-grpc", "--ui", "--threads", "1")
    with running(tmp_path / "log", *arguments) as server, Browser(tmp_path / "profile") as browser:
        browser.open(f"http://127.0.0.1:{server.http}/")
        browser.wait_for("document.querySelectorAll('#card dt').length > 3")
        left, top, size = browser.wait_for(BOX)
        stroke = [(left + size * 0.5, top + size * y) for y in (0.15, 0.3, 0.45, 0.6, 0.75, 0.85)]
        browser.drag(stroke)
        shown = browser.wait_for(f"/^[0-9]$/.test({ANSWER}) && {ANSWER}")
        pixels = browser.evaluate("Array.from(pixels(axes(chosen())))")
        assert browser.evaluate("document.getElementById('trouble').hidden")
        assert "ms from click to answer" in browser.evaluate("document.getElementById('latency').textContent")
    drawn = np.array(pixels, np.float32).reshape(1, 1, 8, 8)
    assert drawn.max() > 0.5
    with scconv_deploy.open(out, threads=1) as engine:
        logits = engine(drawn)
    assert shown == "1"
    assert shown == str(int(np.argmax(np.asarray(logits))))
