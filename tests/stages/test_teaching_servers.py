"""The live teacher against real servers: ``transformers serve``, and vLLM where ``make test-vllm`` has installed it."""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from real_servers import serving, vllm
from saro.config import SynthesizeConfig
from saro.engines.ledger import Ledger
from saro.errors import InputError
from saro.files import read_jsonl
from saro.policies import load_policies
from saro.progress import Silent
from saro.stages.synthesize import Rejected
from saro.stages.teaching import teach

pytest.importorskip("inspect_ai", reason="a live teacher needs inspect-ai: pip install 'saro[live]'")
PROMPTS = 20


def ask(url, model, out):
    """Every prompt is answered and accounted for; so small a model, untaught, hardly makes a chain."""
    config = SynthesizeConfig(
        limit=PROMPTS, teacher=f"openai-api/local/{model}", teacher_url=url, max_tokens=48, connections=8, timeout=120
    )
    try:
        teach(config, load_policies(), out, out / "requests.sqlite", Silent())
    except InputError as error:
        assert "none of its replies was accepted" in str(error)
    accepted = (out / "ritd.jsonl").read_text().splitlines() if (out / "ritd.jsonl").is_file() else []
    rejected = list(read_jsonl(out / "rejected.jsonl", Rejected))
    assert len(accepted) + len(rejected) == PROMPTS
    reasons = Counter(row.reason.split(":")[0] for row in rejected)
    assert reasons["request"] == 0, [row.reason for row in rejected]
    assert all(row.reply.text for row in rejected)
    with Ledger(out / "requests.sqlite") as ledger:
        assert ledger.attempts() == PROMPTS
        spent = ledger.spent()[0].usage
        assert PROMPTS <= spent.output_tokens <= PROMPTS * 48
        assert spent.input_tokens > PROMPTS * 300  # the policy is in every request


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("LOCAL_API_KEY", "none")


@pytest.mark.slow
def test_transformers_serve_teaches(embedded, tmp_path):
    command = shutil.which("transformers", path=str(Path(sys.executable).parent))
    assert command, "transformers brings its command"
    with serving([command, "serve", embedded, "--device", "cpu"], tmp_path / "log", seconds=120) as url:
        ask(url, embedded, tmp_path / "out")


@pytest.mark.slow
def test_vllm_teaches(embedded, tmp_path):
    command = os.environ.get("SARO_VLLM")
    if not command:
        pytest.skip("needs a vLLM of its own: make test-vllm")
    with serving(vllm(command, embedded), tmp_path / "log", seconds=600) as url:
        ask(url, "student", tmp_path / "out")
