"""The page of the search service, used in a browser by clicks and keys as people do."""

import contextlib
import csv
import json
import pathlib
import re
import shutil
import subprocess
import urllib.request

import numpy as np
import pytest
import web_services as services

from dah_tf import codes as packed
from dah_tf.index import Index

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = "axe-core@4.14.1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
ITEMS = 30
FILES = ("style.css", "palette.css", "main.js", "strings.js", "icon.svg")


@pytest.fixture(scope="module", name="browser")
def make_browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module", name="served")
def make_served(tmp_path_factory):
    """The folder and the address of a service that anybody on the machine may change."""
    folder = tmp_path_factory.mktemp("page")
    services.photos(folder, ITEMS)
    with services.running(folder, "open=True") as (_, address):
        yield folder, address


@pytest.fixture(name="visit")
def make_visit(browser):
    """Opens an address; afterwards the browser must have complained about nothing."""
    problems, contexts = [], []

    def visit(address, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: said.type == "error" and problems.append(said.text))
        host = re.match(r"https?://[^/]+", address)[0]
        page.on("request", lambda sent: foreign(sent.url, host) and problems.append(sent.url))
        page.goto(address)
        page.wait_for_function("() => document.getElementById('summary').textContent !== ''")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert problems == []


def foreign(url, host):
    return not url.startswith((host + "/", f"blob:{host}/"))


def settled(page, count=None):
    """Waits for the answer of a search; returns the ids of the tiles in their order."""
    page.wait_for_function("() => /found|fits/.test(document.getElementById('status').textContent)")
    if count is not None:
        page.wait_for_function(
            "n => document.querySelectorAll('#results a.tile').length === n", arg=count
        )
    return [int(tile.get_attribute("data-id")) for tile in page.query_selector_all("a.tile")]


def distances(folder, code):
    """Distance of every item from a packed code, by plain NumPy."""
    stored = np.concatenate(
        [services.code_of(number) for number in range(len(Index.open(folder / "photos.index")))]
    )
    return np.unpackbits(stored ^ code, axis=1).sum(axis=1)


def label_of(number):
    return "cat" if number % 2 else "dog"


def upload(page, number, name="upload.png"):
    """Chooses a picture as the query by the button for files."""
    content = services.png(services.picture(number))
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})


def test_a_chosen_image_finds_its_neighbours(served, visit):
    folder, address = served
    page = visit(address)
    upload(page, 100)
    found = settled(page, 20)
    code = services.code_of(100)
    expected = distances(folder, code)
    assert [expected[each] for each in found] == sorted(expected)[:20]
    shown = page.locator(".place").all_inner_texts()
    assert shown == [f"{n} · distance {expected[each]}" for n, each in enumerate(found, 1)]
    # The address has the code, not the image, and back leads to the empty page.
    assert page.url == f"{address}/?code={code.tobytes().hex()}"
    assert "The query is the image upload.png." in page.inner_text("#query-about")
    assert page.locator("#preview img").evaluate("image => image.naturalWidth") == services.SIDE
    assert "Searching" in page.inner_text("#latency") and "ms in all" in page.inner_text("#latency")
    page.wait_for_function("() => document.querySelector('#results img').naturalWidth > 0")
    last = max(expected[each] for each in found)
    ties, kept = int((expected == last).sum()), sum(expected[each] == last for each in found)
    text = page.inner_text("#ties") if ties > kept else ""
    assert (f"{ties} items of the index are at distance {last}, and {kept}" in text) == (
        ties > kept
    )


def test_a_result_is_the_next_query_and_back_returns(served, visit):
    _, address = served
    page = visit(address)
    upload(page, 101)
    first = settled(page, 20)
    page.click(f'a.tile[data-id="{first[2]}"]')
    page.wait_for_url(f"**/?id={first[2]}")
    page.wait_for_function(
        "() => /of 20 have/.test(document.getElementById('precision').textContent)"
    )
    second = settled(page, 20)
    assert second[0] == first[2]
    # Its label is known: the share of right ones is told, and wrong ones are framed.
    own = label_of(first[2])
    wrong = {each for each in second if label_of(each) != own}
    framed = page.locator("li.wrong a.tile").evaluate_all("all => all.map(a => +a.dataset.id)")
    assert set(framed) == wrong and len(framed) == len(wrong)
    assert page.locator("li.wrong .other").all_inner_texts() == ["other label"] * len(wrong)
    right = 20 - len(wrong)
    assert f"{right} of 20 have the label {own}" in page.inner_text("#precision")
    assert f"precision {5 * right:.1f} %" in page.inner_text("#precision")
    page.go_back()
    page.wait_for_function(
        "() => /upload.png/.test(document.getElementById('query-about').textContent)"
    )
    assert settled(page, 20) == first
    page.go_forward()
    page.wait_for_url(f"**/?id={first[2]}")


def test_a_shared_link_shows_the_same(served, visit):
    folder, address = served
    page = visit(f"{address}/?id=4&k=10&distance=8&label=dog")
    found = settled(page)
    expected = distances(folder, services.code_of(4))
    wanted = [n for n in range(ITEMS) if label_of(n) == "dog" and expected[n] <= 8]
    assert set(found) <= set(wanted) and len(found) == min(10, len(wanted)) and found[0] == 4
    assert page.input_value("#label") == "dog"
    assert page.inner_text("#distance-shown") == f"8 of {services.BITS} bits"
    assert page.inner_text("#k-shown") == "10"


def test_sliders_by_keys(served, visit):
    folder, address = served
    page = visit(f"{address}/?id=7")
    settled(page, 20)
    page.focus("#k")
    page.keyboard.press("ArrowLeft")
    settled(page, 10)
    assert "k=10" in page.url and page.get_attribute("#k", "aria-valuetext") == "10"
    page.focus("#distance")
    page.keyboard.press("Home")
    expected = distances(folder, services.code_of(7))
    settled(page, int((expected == 0).sum()))
    assert "distance=0" in page.url
    page.keyboard.press("End")
    settled(page, 10)
    assert "distance" not in page.url
    page.select_option("#label", "cat")
    page.wait_for_url("**label=cat**")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.tile .label')].every(e => e.textContent === 'cat')"
    )
    assert len(settled(page)) == 10


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_an_image_is_dropped_or_pasted(served, visit, way):
    _, address = served
    page = visit(address)
    content = services.png(services.picture(11))
    page.evaluate(
        """([way, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "moved.png", { type: "image/png" }));
          const event = way === "drop"
            ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
          document.getElementById("drop").dispatchEvent(event);
        }""",
        [way, list(content)],
    )
    assert settled(page, 20)[0] == 11  # the item of the same picture
    assert "moved.png" in page.inner_text("#query-about")


def test_what_is_no_image_is_refused(served, visit):
    _, address = served
    page = visit(address)
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"text"})
    assert page.inner_text("#error") == "This is not an image file."
    assert page.url.rstrip("/") == address


def test_a_fault_of_the_service_is_told(served, browser):
    _, address = served
    page = browser.new_page()
    page.goto(f"{address}/?id=99999")
    page.wait_for_function("() => document.getElementById('error').textContent !== ''")
    assert page.inner_text("#error") == "there is no such item"
    page.close()


def test_the_bits_that_differ_are_named(served, visit):
    _, address = served
    page = visit(f"{address}/?id=3")
    found = settled(page, 20)
    page.hover(f'a.tile[data-id="{found[5]}"]')
    bits = [packed.unpack(services.code_of(each), services.BITS)[0] for each in (3, found[5])]
    places = (np.flatnonzero(bits[0] != bits[1]) + 1).tolist()
    text = f"They differ in {len(places)} bits of {services.BITS}: {', '.join(map(str, places))}."
    assert page.inner_text("#strip-about") == text
    # The keyboard does the same: the focus moves by arrows, and Enter searches.
    page.focus(f'a.tile[data-id="{found[0]}"]')
    page.keyboard.press("ArrowRight")
    assert page.evaluate("+document.activeElement.dataset.id") == found[1]
    page.keyboard.press("End")
    assert page.evaluate("+document.activeElement.dataset.id") == found[-1]
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/?id={found[-1]}")


def test_results_are_saved_as_csv_and_json(served, visit, tmp_path):
    _, address = served
    page = visit(f"{address}/?id=2&k=5")
    found = settled(page, 5)
    for name in ("csv", "json"):
        with page.expect_download() as download:
            page.click(f"#{name}")
        download.value.save_as(tmp_path / f"found.{name}")
    rows = list(csv.DictReader((tmp_path / "found.csv").open(newline="")))
    assert [int(row["id"]) for row in rows] == found
    assert [row["label"] for row in rows] == [label_of(each) for each in found]
    content = json.loads((tmp_path / "found.json").read_text())
    assert [each["id"] for each in content["neighbours"]] == found and content["bits"] == 20


def test_items_are_added_and_removed(tmp_path, visit):
    services.photos(tmp_path, 6)
    with services.running(tmp_path, "open=True") as (_, address):
        page = visit(address)
        upload(page, 50)
        settled(page, 6)
        page.fill("#add-label", "bird")
        page.fill("#add-key", "cat/1.png")
        page.click("#add button")
        page.wait_for_function(
            "() => /is in the index/.test(document.getElementById('status').innerText)"
        )
        number = int(re.search(r"item (\d+)", page.inner_text("#status"))[1])
        assert page.locator("a.tile").count() == 7 and "7 images" in page.inner_text("#summary")
        assert len(Index.open(tmp_path / "photos.index")) == 7
        page.click(f'button.remove[data-id="{number}"]')
        page.click('#remove-dialog button[value="cancel"]')
        assert page.locator("a.tile").count() == 7
        page.click(f'button.remove[data-id="{number}"]')
        page.click('#remove-dialog button[value="remove"]')
        page.wait_for_function(
            "() => /is removed/.test(document.getElementById('status').innerText)"
        )
        assert page.locator("a.tile").count() == 6
        assert len(Index.open(tmp_path / "photos.index")) == 6


def test_a_key_is_asked_for_and_used(tmp_path, browser):
    services.photos(tmp_path, 6)
    path = services.key_file(tmp_path)
    with services.running(tmp_path, f"api_key_file={path}") as (_, address):
        page = browser.new_page()
        page.goto(f"{address}/?id=1")
        page.wait_for_selector("#key-dialog[open]")
        assert page.inner_text("#error") == "This service asks for an API key."
        for key, allowed in ((services.READ, False), (services.WRITE, True)):
            if not page.locator("#key-dialog[open]").count():
                page.click("#key-button")
            page.fill("#key", key)
            page.keyboard.press("Enter")
            settled(page, 6)
            # Pictures are fetched with the key.
            page.wait_for_function("() => document.querySelector('#results img').naturalWidth > 0")
            page.wait_for_function(
                "n => document.querySelectorAll('button.remove').length === n",
                arg=6 if allowed else 0,
            )
        stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert stored == "[{},{}]" and "key" not in page.url and not page.context.cookies()
        page.close()


def test_ten_thousand_results_load_only_the_pictures_in_sight(tmp_path, visit):
    services.photos(tmp_path, 1)
    many = 10_000
    Index.create(
        tmp_path / "many.index",
        services.BITS,
        fingerprint="fake",
        codes=np.repeat(services.code_of(0), many, axis=0),
        keys=["dog/0.png"] * many,
        labels=["dog"] * many,
        root=str(tmp_path / "photos"),
    )
    shutil.rmtree(tmp_path / "photos.index")
    (tmp_path / "many.index").rename(tmp_path / "photos.index")
    with services.running(tmp_path, "open=True") as (_, address):
        page = visit(f"{address}/?id=0&k=10000")
        settled(page, many)
        page.wait_for_function("() => document.querySelector('#results img').naturalWidth > 0")
        assert page.evaluate("document.querySelectorAll('#results img[src]').length") < 300
        assert "10,000 items of the index" not in page.inner_text("#ties")  # all of them are shown
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for_function(
            "() => [...document.querySelectorAll('#results img')].at(-1).naturalWidth > 0"
        )
        assert page.evaluate("document.querySelectorAll('#results img[src]').length") < 900


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_it_is_accessible(served, browser, scheme, width, axe):
    _, address = served
    size = {"width": width, "height": 800}
    with contextlib.closing(
        browser.new_context(
            viewport=size, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True
        )
    ) as context:
        page = context.new_page()
        page.goto(f"{address}/?id=1")
        settled(page, 20)
        page.evaluate(axe)
        found = page.evaluate("axe.run()")["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
        page.click(".remove")
        found = page.evaluate("axe.run()")["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
        # Nothing is wider than the screen.
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="session", name="axe")
def load_axe(tmp_path_factory):
    """The text of axe-core, which npm fetches."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(
        [npm, "pack", AXE], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("npm cannot fetch axe-core")
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder)
    return (folder / "package" / "axe.min.js").read_text()


def test_the_texts_stand_in_one_file():
    """Every `data-text` of the page has its text, and every text is used."""
    page = pathlib.Path(services.ROOT) / "dah_tf" / "web" / "page"
    strings = (page / "strings.js").read_text()
    shown = set(re.findall(r'data-text="(\w+)"', (page / "index.html").read_text()))
    texts = strings.split("export const texts")[1].split("};")[0]
    names = set(re.findall(r"^  (\w+):", texts, re.MULTILINE))
    scripts = "".join(p.read_text() for p in page.glob("*.js") if p.name != "strings.js")
    assert shown <= names and names - shown <= set(re.findall(r"texts\.(\w+)", scripts))
    said = set(re.findall(r"^  (\w+):", strings.split("export const say")[1], re.MULTILINE))
    assert said == set(re.findall(r"say\.(\w+)", scripts + strings))


def test_the_page_asks_no_other_host(served):
    _, address = served
    for name in ("", *(f"page/{each}" for each in FILES)):
        with urllib.request.urlopen(f"{address}/{name}") as answer:
            text, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy
        hosts = set(re.findall(r"https?://[^/\"' )]+", text))
        assert hosts <= {"http://www.w3.org"}  # the name of a namespace in SVG
