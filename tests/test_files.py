import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from saro.errors import InputError
from saro.files import (
    atomic_write,
    read_json,
    read_jsonl,
    read_jsonl_objects,
    remove_parts,
    replace_folder,
    sha256_file,
    sha256_json,
    write_json,
    write_jsonl,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Row(BaseModel):
    name: str
    size: int = 0


def test_atomic_write_makes_folders_and_leaves_one_file(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with atomic_write(path) as handle:
        handle.write("grüße\n")
        assert not path.exists()
    assert path.read_bytes() == "grüße\n".encode()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt])
def test_atomic_write_keeps_the_old_file_when_cut_off(tmp_path, stop):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(stop), atomic_write(path) as handle:
        handle.write("half of the n")
        raise stop
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_jsonl_keeps_the_old_file_when_a_row_fails(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])

    def rows():
        yield {"a": 2}
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError):
        write_jsonl(path, rows())
    assert [row for _, row in read_jsonl_objects(path)] == [{"a": 1}]
    assert list(tmp_path.iterdir()) == [path]


def test_replace_folder_replaces_everything(tmp_path):
    old, new = tmp_path / "model", tmp_path / "model.part"
    (old / "deep").mkdir(parents=True)
    (old / "deep" / "stale").write_text("x")
    (new / "deep").mkdir(parents=True)
    (new / "deep" / "fresh").write_text("y")
    replace_folder(new, old)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "deep", "fresh"]


def test_replace_folder_to_a_new_place(tmp_path):
    (tmp_path / "part").mkdir()
    replace_folder(tmp_path / "part", tmp_path / "done")
    assert [path.name for path in tmp_path.iterdir()] == ["done"]


@settings(max_examples=40, deadline=None)  # each example is fsynced
@given(value=JSON)
def test_json_round_trip(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.dictionaries(st.text(), JSON, max_size=3), min_size=1, max_size=4))
def test_jsonl_round_trip(tmp_path_factory, rows):
    """Line separators inside strings (such as U+2028) do not break a row in two."""
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    assert write_jsonl(path, rows) == len(rows)
    assert list(read_jsonl_objects(path)) == list(enumerate(rows, start=1))


def test_jsonl_of_records_and_blank_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert write_jsonl(path, [Row(name="a"), {"name": "b", "size": 2}]) == 2
    path.write_text("\n" + path.read_text().replace("\n", "\n  \n"))
    assert list(read_jsonl(path, Row)) == [Row(name="a"), Row(name="b", size=2)]
    assert [number for number, _ in read_jsonl_objects(path)] == [2, 4]


@pytest.mark.parametrize(
    ("content", "where", "problem"),
    [
        (b'{"name": "a"}\n{"name": \n', ":2", "not valid JSON"),
        (b'{"name": "a"}\n\n[1]\n', ":3", "a JSON list, not an object"),
        (b'{"name": "a"}\n"b"\n', ":2", "a JSON str, not an object"),
        (b'{"name": "a"}\n{"name": "b", "size": "many"}\n', ":2", "size: "),
        (b'{"name": "a"}\n{"size": 1}\n', ":2", "name: Field required"),
        (b'{"name": "\xff"}\n', "", "not UTF-8"),
        (b"", "", "holds no rows"),
        (b"\n \n", "", "holds no rows"),
    ],
)
def test_errors_name_the_line_and_the_key(tmp_path, content, where, problem):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(read_jsonl(path, Row))
    assert caught.value.where == f"{path}{where}"
    assert problem in caught.value.problem
    assert caught.value.mend


def test_no_file_and_a_folder_are_errors(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            list(read_jsonl_objects(path))
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b"", b'{"a":', b"\xff"])
def test_malformed_json_is_an_error(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(path)


def test_sha256_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1


@given(value=st.dictionaries(st.text(), JSON, max_size=4))
def test_sha256_json_ignores_order_and_is_the_hash_of_canonical_json(value):
    backwards = dict(reversed(value.items()))
    assert sha256_json(value) == sha256_json(backwards)
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    assert sha256_json(value) == hashlib.sha256(canonical).hexdigest()


@given(one=JSON, other=JSON)
def test_sha256_json_tells_values_apart(one, other):
    assert (sha256_json(one) == sha256_json(other)) == (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / ".rows.jsonl.0123abcd.part").write_text("{")
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / ".model.part").mkdir()  # folders are replaced as a whole when they are written again
    remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.part", "rows.jsonl"]
