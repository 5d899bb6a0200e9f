"""The HTML of a notice, as a mail program that is a browser shows it."""

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from tests.mail.letters import digest, line, made, part
from vmtrak.channels import Parcel, Trial
from vmtrak.channels.mail import letter

WIDTHS = {"desk": 1440, "phone": 390}
READABLE = 4.5
"""Contrast of small text with its ground (WCAG 2.2, 1.4.3)."""

DIGEST = digest(
    line(1, 0, "billing-db-01", owner="finance-apps@example.org"),
    line(2, 1, "<script>document.title='caught'</script>"),
    line(3, 1, "web-frontend-07", owner=None),
    line(4, 5, "خادم-قاعدة-البيانات-٣", owner="مالك الخادم"),
    line(5, 6, "🚀 launch 👩‍🚀", environment=None, ip_address="2001:db8::1f:2e3d:4c5b"),
    line(6, 7, "long-" * 25 + "end", owner="o" * 128),
    line(7, 7, "名" * 60),
    line(8, -3, "old-jenkins"),
    line(9, -20, "test-cluster-node-12", owner="ada"),
    soon=1200,
)

CONTRASTS = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) {
    if (!texts.currentNode.data.trim()) continue;
    const element = texts.currentNode.parentElement;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([texts.currentNode.data.trim().slice(0, 30), contrast]);
  }
  return found;
}"""


Scheme = Literal["light", "dark"]


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Scheme:
    found: Scheme = request.param
    return found


@pytest.fixture(params=list(WIDTHS))
def screen(request: pytest.FixtureRequest, browser: Browser, scheme: Scheme) -> Iterator[Page]:
    """A page without a network or scripts, as mail programs have it."""
    size: ViewportSize = {"width": WIDTHS[request.param], "height": 900}
    context = browser.new_context(viewport=size, color_scheme=scheme, java_script_enabled=False)
    context.set_default_timeout(10_000)
    yield context.new_page()
    context.close()


def shown(page: Page, html: str) -> Page:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_content(html)
    assert [url for url in asked if not url.startswith("about:")] == []
    return page


def test_a_digest_fits_and_can_be_read(screen: Page) -> None:
    page = shown(screen, part(made(DIGEST), "html"))
    size = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert size[0] <= size[1]
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 40
    assert [found for found in contrasts if found[1] < READABLE] == []
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("heading", level=2).all_inner_texts() == [
        "Today (1)",
        "Tomorrow (2)",
        "Soon (1,204)",
        "Overdue (2)",
    ]
    assert page.title() == "1 VM expires today, 2 tomorrow, 1,204 soon, 2 overdue"


def test_every_link_can_be_hit(screen: Page) -> None:
    page = shown(screen, part(made(DIGEST), "html"))
    links = page.get_by_role("link").all()
    assert len(links) == len(DIGEST.lines) + 2
    for link in links:
        box = link.bounding_box()
        assert box is not None
        assert box["height"] >= 15
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= page.evaluate("window.innerWidth")


def test_a_test_message_fits_and_can_be_read(screen: Page) -> None:
    trial = Parcel("0" * 32, "ann@example.org", Trial(DIGEST.day, "ada"), "https://vm.example.org")
    page = shown(screen, part(letter(trial, "vmtrak@example.org"), "html"))
    assert page.get_by_role("heading", level=1).inner_text() == "VMTrak: a test message"
    assert [found for found in page.evaluate(CONTRASTS) if found[1] < READABLE] == []


def test_it_is_light_or_dark_as_the_reader_likes(screen: Page, scheme: Scheme) -> None:
    page = shown(screen, part(made(DIGEST), "html"))
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(243, 245, 246)", "dark": "rgb(14, 20, 23)"}[scheme]
