import os
import signal
import subprocess
import sys
from pathlib import Path

import saro
from saro.journal import Journal

WRITER = """
import sys
from pathlib import Path
from saro.journal import Journal

with Journal(Path(sys.argv[1])) as journal:
    number = 0
    while True:
        journal.put(f"key-{number}", "rollout", {"number": number, "text": "x" * 500})
        print(number, flush=True)
        number += 1
"""


def test_every_unit_whose_put_returned_survives_a_kill(tmp_path):
    path = tmp_path / "journal.sqlite"
    environment = {**os.environ, "PYTHONPATH": str(Path(saro.__file__).parents[1])}
    promised = -1
    for _ in range(3):  # the third writer opens what two killed ones left
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True, env=environment
        )
        for _, line in zip(range(40), writer.stdout, strict=False):
            promised = max(promised, int(line))
        writer.send_signal(signal.SIGKILL)
        promised = max([promised, *map(int, writer.stdout.read().split())])
        assert writer.wait() == -signal.SIGKILL
    assert promised >= 39
    with Journal(path) as journal:
        for number in range(promised + 1):
            assert journal.get(f"key-{number}") == {"number": number, "text": "x" * 500}
        assert journal.get(f"key-{promised + 2}") is None


def test_units_are_there_when_the_journal_is_opened_again(tmp_path):
    path = tmp_path / "runs" / "journal.sqlite"
    payload = {"text": "“grüße” \n", "ids": [1, 2], "score": 0.25, "none": None}
    with Journal(path) as journal:
        assert journal.get("a") is None
        journal.put("a", "evaluate", payload)
        assert journal.get("a") == payload
    with Journal(path) as journal:
        assert journal.get("a") == payload
        assert journal.get("b") is None


def test_the_last_put_of_a_key_counts(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.put("a", "rollout", 1)
        journal.put("b", "rollout", 2)
        journal.put("a", "rollout", 3)
        assert (journal.get("a"), journal.get("b")) == (3, 2)


def test_a_second_reader_sees_what_was_put(tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as writer, Journal(path) as reader:
        writer.put("a", "rollout", [1])
        assert reader.get("a") == [1]
