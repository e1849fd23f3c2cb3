"""How long the HTML report takes: to make, to open in chromium, to search, sort and scroll, and in how much memory.

    python -m tests.benchmarks.report 20000 50000 100000

The argument is numbers of songs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

from tagger.report.html import render
from tests.support.reports import example

#: Resolves when what was asked for is on the screen.
PAINTED = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"


def measured(n_songs: int) -> dict[str, float]:
    """The figures of a report of so many songs; memory is that of all processes of the browser, shared pages once."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = example(20, n_songs)
        began = time.perf_counter()
        text = render(report)
        figures = {"made s": time.perf_counter() - began}
        path = Path(folder, "report.html")
        path.write_text(text, encoding="utf-8")
        figures["file MB"] = path.stat().st_size / 1e6
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(300_000)
        empty, idle = memory_mb(), cpu_seconds()
        figures["opened s"] = seconds(page, lambda: page.goto(path.as_uri(), timeout=300_000))
        figures["of which CPU s"] = cpu_seconds() - idle
        figures["memory MB"] = memory_mb() - empty
        figures["filtered s"] = seconds(page, lambda: page.get_by_role("searchbox").last.fill("wrong 7.flac"))
        page.get_by_role("searchbox").last.fill("")
        head = page.get_by_role("columnheader", name="Confidence").get_by_role("button")
        figures["sorted s"] = seconds(page, lambda: head.evaluate("each => each.click()"))
        figures["to the end s"] = seconds(page, lambda: page.evaluate("scrollTo(0, document.body.scrollHeight)"))
        browser.close()
        return figures


def seconds(page: Page, action: Any) -> float:
    """How long an action takes until its result is painted."""
    began = time.perf_counter()
    action()
    page.evaluate(PAINTED)
    return time.perf_counter() - began


def browsers() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if "chrom" in each.name()]


def memory_mb() -> float:
    return sum(each.memory_full_info().pss for each in browsers()) / 1e6


def cpu_seconds() -> float:
    """Processor time of the browser: tells of a busy machine too."""
    return sum(sum(each.cpu_times()[:2]) for each in browsers())


if __name__ == "__main__":
    for n_songs in map(int, sys.argv[1:]):
        figures = measured(n_songs)
        print(f"{n_songs:>7} songs: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()), flush=True)
