"""Checks a running server with independent tools: promtool, an OpenAPI validator, a browser, strace.

usage: check.py [--screenshot DIR]      (from the project's root, after `make build`)
"""
import argparse
import base64
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.request

from openapi_spec_validator import validate
from playwright.sync_api import expect, sync_playwright

from harness import PATIENCE, golden, server


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        return response.read().decode()


def post(url, document):
    request = urllib.request.Request(url, json.dumps(document).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return json.load(response)


def check_metrics(url):
    """`promtool check metrics` reports nothing."""
    post(f"{url}/models/churn/predict", golden("churn", "1.1.0")[0]["input"])
    result = subprocess.run(["promtool", "check", "metrics"], input=get(f"{url}/metrics"), capture_output=True, text=True)
    assert result.returncode == 0 and not result.stdout + result.stderr, result.stdout + result.stderr


def check_openapi(url):
    """An independent validator accepts the document as OpenAPI 3.1."""
    document = json.loads(get(f"{url}/openapi.json"))
    validate(document)
    assert any(path.startswith("/models/churn/") for path in document["paths"])


def check_page(url, screenshots):
    """The page of each model answers in a browser, and fetches nothing from other hosts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        foreign, errors = [], []
        page.on("request", lambda request: None if request.url.startswith(url) else foreign.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(f"{url}/")
        page.get_by_role("link", name="/docs").click()
        page.wait_for_selector("#models a")
        names = page.locator("#models a").all_inner_texts()
        assert names == ["churn", "churn-pipeline", "diabetes", "digits", "digits-array"], names
        for name in names:
            page.locator("#models").get_by_role("link", name=name, exact=True).click()
            expect(page.locator("#name")).to_have_text(name)
            for which in ("one instance", "several"):
                page.get_by_role("button", name=which).click()
                page.get_by_role("button", name="Send").click()
                expect(page.locator("#status")).to_have_text(re.compile("^200 "))
                answer = json.loads(page.locator("#answer").inner_text())
                assert len(answer["predictions"]) == (1 if which == "one instance" else 2)
                page.evaluate("document.getElementById('status').textContent = ''")
            assert page.locator("#input tr").count() >= 1
            expect(page.locator("#versions tr")).not_to_have_count(0)
            expect(page.locator("#versions tr").filter(has_text="stable")).to_contain_text("100 %")
        check_file_picker(page)
        check_narrow(page, screenshots)
        page.locator("#models").get_by_role("link", name="churn", exact=True).click()
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#status")).to_have_text(re.compile("^200 "))
        if screenshots:
            page.screenshot(path=pathlib.Path(screenshots) / "docs.png", full_page=True)
        page.locator("#body").fill('{"plan": 1}')
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#status")).to_have_text(re.compile("^422 "))
        if screenshots:
            page.screenshot(path=pathlib.Path(screenshots) / "docs-error.png")
        browser.close()
        assert not foreign, f"the page fetched {foreign}"
        assert [error for error in errors if "422" not in error] == [], errors


def check_file_picker(page):
    """A selected image becomes base64 in the request, alone and in one of several instances."""
    image = base64.b64decode(golden("digits", "1.0.0")[1]["input"]["image"])
    page.locator("#models").get_by_role("link", name="digits", exact=True).click()
    for which in ("one instance", "several"):
        page.get_by_role("button", name=which).click()
        picker = page.locator("#files input[type=file]")
        assert picker.get_attribute("accept") == "image/png"
        picker.set_input_files([])
        picker.set_input_files({"name": "digit.png", "mimeType": "image/png", "buffer": image + b"picked"})
        expected = base64.b64encode(image + b"picked").decode()
        expect(page.locator("#body")).to_have_value(re.compile(re.escape(expected)))
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#status")).to_have_text(re.compile("^200 "))
        page.evaluate("document.getElementById('status').textContent = ''")
    page.locator("#models").get_by_role("link", name="diabetes", exact=True).click()
    expect(page.locator("#files input")).to_have_count(0)


def check_narrow(page, screenshots):
    """On the screen of a telephone no table is wider than the page."""
    wide = page.viewport_size
    page.set_viewport_size({"width": 400, "height": 900})
    page.locator("#models").get_by_role("link", name="churn", exact=True).click()
    expect(page.locator("#name")).to_have_text("churn")
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    cut = page.evaluate("[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth).length")
    assert cut == 0, f"{cut} tables are wider than the page"
    narrowest = page.evaluate("Math.min(...[...document.querySelectorAll('#input td.rules:not(:empty)')].map((cell) => cell.clientWidth))")
    assert narrowest >= 300, narrowest
    if screenshots:
        page.screenshot(path=pathlib.Path(screenshots) / "docs-narrow.png", full_page=True)
    page.set_viewport_size(wide)


def check_silence():
    """ONNX Runtime's vendor telemetry is off: only the server's own sockets are opened, and no file is written below HOME."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as temporary:
        trace = pathlib.Path(temporary) / "trace"
        environment = {"HOME": home, "XDG_CACHE_HOME": f"{home}/.cache"}
        os.environ.pop("ORT_DISABLE_TELEMETRY", None)
        with server("strace", "-D", "-f", "-qq", "-e", "trace=socket,connect,bind,sendto", "-o", str(trace), environment=environment) as running:
            post(f"{running.url}/models/churn/predict", golden("churn", "1.1.0")[0]["input"])
            time.sleep(0.5)  # what phones home does so from a thread of its own
        calls = trace.read_text()
        families = set(re.findall(r"socket\((AF_\w+)", calls))
        connects = re.findall(r"connect\(.*", calls)
        binds = re.findall(r"bind\(.*?sin_addr=inet_addr\(\"([^\"]+)", calls)
        assert connects == [], connects
        assert set(binds) == {"127.0.0.1"} and families <= {"AF_INET", "AF_UNIX"}, (binds, families)
        assert os.listdir(home) == [], os.listdir(home)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screenshot", metavar="DIR", help="keep pictures of the page")
    args = parser.parse_args()
    with server() as running:
        for check in (check_metrics, check_openapi, lambda url: check_page(url, args.screenshot)):
            check(running.url)
    print("promtool: the metrics are clean")
    print("openapi-spec-validator: /openapi.json is OpenAPI 3.1")
    print("chromium: every model answers on /docs, nothing comes from elsewhere")
    check_silence()
    print("strace: no socket but ours, nothing written at home")


if __name__ == "__main__":
    main()
