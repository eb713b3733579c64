"""The data card is what the files hold, and the documentation is the data card."""

from pathlib import Path

from saro.records import LABEL_OF_KIND
from saro.sources.card import data_card
from saro.sources.starter import SPLITS, load_pack

DOCS = Path(__file__).parents[2] / "docs"


def test_the_documentation_is_the_card():
    assert (DOCS / "data.md").read_text(encoding="utf-8") == data_card(load_pack()), (
        "run: saro data card > docs/data.md"
    )


def test_the_figures_are_counted():
    pack = load_pack()
    card = data_card(pack)
    for split in SPLITS:
        kinds = [len(pack.of_kind(split, kind)) for kind in LABEL_OF_KIND]
        cells = " | ".join(f"{number:,}" for number in (sum(kinds), *kinds))
        assert f"| `{split}` | {cells} |" in card


def test_every_policy_stands_in_the_table_of_taxonomies():
    table = (DOCS / "policies.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert set(rows[1:]) == set(load_pack().policies)
