import json

import pytest

from saro import chains
from saro.errors import InputError
from saro.files import write_json, write_jsonl
from saro.judges.llm import Grades
from saro.records import Chain, Prompt
from saro.stages.export import export
from saro.stages.synthesize import Demonstration

CHAIN = Chain(steps=("It is |bread|.", "The no-harm policy: help."), answer="Mix flour and water.")
ROWS = [
    Demonstration(
        prompt=Prompt(id=f"p{place}", text=f"Bake {place}?", label="benign", kind="ordinary", category="no-harm"),
        chain=CHAIN,
        teacher="openai/x",
        grades=Grades(compliance=9, relevance=8, accuracy=7) if place else None,
    )
    for place in range(3)
]


@pytest.fixture
def exported(tmp_path):
    write_jsonl(tmp_path / "in" / "ritd.jsonl", ROWS)
    summary = {
        "prompts": 4,
        "accepted": 3,
        "rejected": {"form: unclosed": 2},
        "spending": {"tokens": 1200, "dollars": 0.5},
    }
    write_json(tmp_path / "in" / "summary.json", summary)
    assert export(tmp_path / "in" / "ritd.jsonl", tmp_path / "out") == {"rows": 3, "files": 5}
    return tmp_path / "out"


def test_both_forms_say_the_same(exported):
    messages = [json.loads(line) for line in (exported / "messages.jsonl").read_text().splitlines()]
    completions = [json.loads(line) for line in (exported / "prompt_completion.jsonl").read_text().splitlines()]
    for row, one, other in zip(ROWS, messages, completions, strict=True):
        user, reply = one["messages"]
        assert [user] == other["prompt"] == [{"role": "user", "content": row.prompt.text}]
        assert chains.segment(reply["reasoning_content"]) == row.chain.steps
        assert reply["content"] == row.chain.answer
        assert chains.parse(other["completion"][0]["content"]) == row.chain
        assert (one["id"], one["category"], one["teacher"]) == (row.prompt.id, "no-harm", "openai/x")


@pytest.mark.parametrize("name", ["messages", "prompt_completion"])
def test_parquet_holds_what_the_lines_hold(exported, name):
    from datasets import load_dataset

    lines = [json.loads(line) for line in (exported / f"{name}.jsonl").read_text().splitlines()]
    parquet = load_dataset("parquet", data_files=str(exported / f"{name}.parquet"), split="train").to_list()
    key = "messages" if name == "messages" else "completion"
    assert [row["id"] for row in parquet] == [row["id"] for row in lines]
    for got, expected in zip(parquet, lines, strict=True):
        assert [{k: v for k, v in one.items() if v is not None} for one in got[key]] == expected[key]


def test_the_card_counts_yield_and_cost(exported):
    card = (exported / "README.md").read_text()
    for part in (
        "3 prompts",
        "openai/x",
        "| ordinary | 3 |",
        "3 replies were kept for 4 prompts",
        "| form: unclosed | 2 |",
    ):
        assert part in card
    assert "- dollars: 0.5" in card


def test_trl_trains_on_both(exported, tiny_student, tmp_path):
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    for name in ("messages", "prompt_completion"):
        data = load_dataset("parquet", data_files=str(exported / f"{name}.parquet"), split="train")
        arguments = SFTConfig(
            output_dir=str(tmp_path / name),
            max_steps=1,
            per_device_train_batch_size=2,
            report_to="none",
            use_cpu=True,
            bf16=False,
        )
        trainer = SFTTrainer(model=str(tiny_student), args=arguments, train_dataset=data)
        assert trainer.train().training_loss > 0
        trained = trainer.processing_class.decode(trainer.train_dataset[0]["input_ids"])
        assert "Bake 0?" in trained and "Mix flour and water." in trained


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        export(tmp_path / "none.jsonl", tmp_path / "out")
