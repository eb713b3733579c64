import re

import pytest

from saro.errors import InputError
from saro.policies import load_policies

SECTIONS = (
    "Refuse",
    "Answer",
    "Answer safely",
    "Signs of a disguised request",
    "Benign look-alikes",
    "Reflections",
)
HEAD = "---\nid: parking\ntitle: Parking\ncategory: parking badly\nobjective: Keep gates free.\n---\n\n"
GOOD = HEAD + "## Refuse\n- Gates.\n\n---\n\nMore.\n"


def test_a_folder_of_ones_own(tmp_path):
    (tmp_path / "parking.md").write_text(GOOD)
    (tmp_path / "crlf.md").write_bytes(GOOD.replace("id: parking", "id: crlf").replace("\n", "\r\n").encode())
    (tmp_path / "notes.txt").write_text("no policy")
    policies = load_policies(tmp_path)
    assert list(policies) == ["crlf", "parking"]
    policy = policies["parking"]
    assert (policy.id, policy.title, policy.category, policy.objective) == (
        "parking",
        "Parking",
        "parking badly",
        "Keep gates free.",
    )
    assert (
        policy.text == policies["crlf"].text == "## Refuse\n- Gates.\n\n---\n\nMore."
    )  # a rule in the body is no front matter


def test_the_bundled_policies_are_the_default():
    policies = load_policies()
    assert {"fraud", "self-harm", "no-harm"} <= set(policies)
    assert all(policy.id == key for key, policy in policies.items())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no front matter"),
        (b"# Title\n---\nid: a\n---\nx\n", "no front matter"),
        (b"---\nid: a\ntitle: t\n", "no front matter"),
        (b"---\nid: [a\n---\nx\n", "not YAML"),
        (b"---\n- id\n---\nx\n", "no mapping"),
        (b"---\nid: a\ntitle: t\ncategory: c\n---\nx\n", "objective: Field required"),
        (GOOD.replace("id: parking", "id: Parking Lot").encode(), "id: "),
        (GOOD.replace("title:", "titel:").encode(), "title: Field required"),
        (b"---\nid: a\ntitle: t\ncategory: c\nobjective: o\n---\n\n", "text: "),
        (GOOD.replace("Parking\n", "2024-13-45\n").encode(), ""),  # PyYAML raises a bare ValueError
        (GOOD.encode("utf-16"), ""),
    ],
)
def test_a_malformed_file_is_an_error_that_names_it(tmp_path, content, problem):
    (tmp_path / "a.md").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_policies(tmp_path)
    assert caught.value.where == str(tmp_path / "a.md")
    assert problem in caught.value.problem


def test_an_id_given_twice_is_an_error(tmp_path):
    (tmp_path / "a.md").write_text(GOOD)
    (tmp_path / "b.md").write_text(GOOD)
    with pytest.raises(InputError, match=r"b\.md.*'parking' is taken"):
        load_policies(tmp_path)


def test_no_folder_and_an_empty_one_are_errors(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_policies(tmp_path / "none")
    with pytest.raises(InputError, match=r"no \*\.md policy"):
        load_policies(tmp_path)


def test_the_bundled_policies_have_all_their_sections():
    for policy in load_policies().values():
        sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", policy.text, re.MULTILINE))
        for name in SECTIONS:
            assert sections[name].count("\n- ") + sections[name].startswith("- ") >= 1, (policy.id, name)
        assert 2 <= sections["Reflections"].count("- ") <= 3, policy.id
