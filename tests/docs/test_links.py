"""What the documents point at exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def headings(document: Path) -> set[str]:
    """Anchors of a document's headings, the way they are commonly derived from their text."""
    lines = re.findall(r"^#+ (.+)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def leads_somewhere(document: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    return target.exists() and (not anchor or anchor in headings(target))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_into_the_project_lead_somewhere(document: Path) -> None:
    links = LINK.findall(document.read_text())
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not leads_somewhere(document, link)] == []


@pytest.mark.parametrize("record", sorted(ROOT.glob("docs/decisions/*.md")), ids=name)
def test_a_decision_record_is_one_short_page(record: Path) -> None:
    text = record.read_text()
    number = int(record.name[:4])
    assert text.startswith(f"# {number}. ")
    assert len(text.splitlines()) <= 40
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == [
        "Context",
        "Decision",
        "Consequences",
    ]


def test_decision_records_are_numbered_without_gaps() -> None:
    numbers = [int(file.name[:4]) for file in sorted(ROOT.glob("docs/decisions/*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
