import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

import saro
from saro.engines.ledger import Ledger, Spending
from saro.engines.provider import Answer, Fault, Usage

MOST, USED = Usage(input_tokens=100, output_tokens=50), Usage(input_tokens=30, output_tokens=20)
ANSWER = Answer(text="“yes” \n", finish="stop", usage=USED)


def test_an_ended_attempt_is_there_when_the_ledger_is_opened_again(tmp_path):
    with Ledger(tmp_path / "new" / "r.sqlite") as ledger:
        assert ledger.result("k") is None
        number = ledger.begin("m", MOST, None).result()
        assert ledger.spent() == [Spending("m", MOST, None)]  # in flight, it counts at its most
        ledger.end(number, USED, None, "k", ANSWER).result()
        assert ledger.result("k") == ANSWER
        assert ledger.spent() == [Spending("m", USED, None)]
    with Ledger(tmp_path / "new" / "r.sqlite") as ledger:
        assert (ledger.result("k"), ledger.spent(), ledger.lost, ledger.attempts()) == (
            ANSWER,
            [Spending("m", USED, None)],
            0,
            1,
        )


def test_an_answer_takes_the_place_of_a_fault(tmp_path):
    with Ledger(tmp_path / "r.sqlite") as ledger:
        fault = Fault(reason="HTTP 500", again=True)
        ledger.end(ledger.begin("m", MOST, None).result(), Usage(), None, "k", fault).result()
        assert ledger.result("k") == fault
        ledger.end(ledger.begin("m", MOST, None).result(), USED, None, "k", ANSWER).result()
        assert ledger.result("k") == ANSWER
        assert (ledger.attempts(), ledger.spent()) == (2, [Spending("m", USED, None)])


def test_what_nobody_waits_for_any_more_is_written_all_the_same(tmp_path):
    with Ledger(tmp_path / "r.sqlite") as ledger:
        number = ledger.begin("m", MOST, None).result()
        ledger._waiting.put((lambda connection: time.sleep(0.1), Future()))  # the next ones wait behind it
        ledger.end(number, USED, None, "k", ANSWER).cancel()
        ledger.begin("m", MOST, None).result()
        assert ledger.result("k") == ANSWER


WRITER = """
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from saro.engines.ledger import Ledger
from saro.engines.provider import Answer, Usage

with Ledger(Path(sys.argv[1])) as ledger:
    for number in range(10**6):
        attempt = ledger.begin("m", Usage(input_tokens=2, output_tokens=2), None).result()
        answer = Answer(text=str(number), finish="stop", usage=Usage(input_tokens=1))
        ledger.end(attempt, Usage(input_tokens=1), None, str(number), answer).result()
        print(number, flush=True)
"""


def test_what_was_promised_survives_a_kill_and_what_was_in_flight_is_counted(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(saro.__file__).parents[1])}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "r.sqlite"], stdout=subprocess.PIPE, text=True, env=environment
    )
    promised = max(int(line) for _, line in zip(range(30), writer.stdout, strict=False))
    writer.send_signal(signal.SIGKILL)
    promised = max([promised, *map(int, writer.stdout.read().split())])
    assert writer.wait() == -signal.SIGKILL
    with Ledger(tmp_path / "r.sqlite") as ledger:
        assert all(ledger.result(str(number)).text == str(number) for number in range(promised + 1))
        assert ledger.lost <= 1
        ended = ledger.attempts() - ledger.lost
        used = Usage(input_tokens=ended + 2 * ledger.lost, output_tokens=2 * ledger.lost)
        assert ledger.spent() == [Spending("m", used, None)]


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path):
    path = tmp_path / "r.sqlite"
    with Ledger(path) as ledger:
        attempt = ledger.begin("m", MOST, None).result()

        def full(connection):
            connection.execute("CREATE TABLE IF NOT EXISTS x (a)")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

        with pytest.raises(OSError, match="full") as failed:
            ledger._enqueue(full).result()
        assert (failed.value.errno, failed.value.filename) == (errno.ENOSPC, str(path))
        ledger.end(attempt, USED, None, "k", ANSWER).result()  # room again: it goes on
        assert ledger.result("k") == ANSWER
    tables = sqlite3.connect(path).execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert sorted(tables) == [("attempts",), ("results",)]


def test_a_ledger_of_before_dollars_were_kept_goes_on(tmp_path):
    path = tmp_path / "r.sqlite"
    old = sqlite3.connect(path)
    old.executescript(
        "CREATE TABLE results (key TEXT PRIMARY KEY, payload TEXT NOT NULL);"
        "CREATE TABLE attempts (id INTEGER PRIMARY KEY, model TEXT NOT NULL, state TEXT NOT NULL,"
        " input INTEGER NOT NULL, output INTEGER NOT NULL);"
        "INSERT INTO attempts VALUES (1, 'm', 'ended', 30, 20)"
    )
    old.close()
    with Ledger(path) as ledger:
        ledger.end(ledger.begin("m", MOST, 0.5).result(), USED, 0.25, "k", ANSWER).result()
        assert ledger.spent() == [Spending("m", USED, 0.25), Spending("m", USED, None)]
