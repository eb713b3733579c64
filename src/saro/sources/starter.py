"""The starter pack as a whole: prompts by split, the recorded teacher, the questions, the policies."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from saro import chains
from saro.files import read_jsonl
from saro.policies import load_policies
from saro.records import Chain, Kind, Policy, Prompt, Question, Reply
from saro.sources.prompts import STARTER

SPLITS = ("train", "rollout", "heldout")


@dataclass(frozen=True)
class Pack:
    """A pack of data; ``prompts`` by split, the policies by id."""

    prompts: dict[str, list[Prompt]]
    teacher: list[Reply]
    questions: list[Question]
    policies: dict[str, Policy]

    @cached_property
    def all_prompts(self) -> list[Prompt]:
        """The prompts of all splits, in order."""
        return [prompt for split in SPLITS for prompt in self.prompts[split]]

    @cached_property
    def by_id(self) -> dict[str, Prompt]:
        """The prompts of all splits."""
        return {prompt.id: prompt for prompt in self.all_prompts}

    @cached_property
    def chains(self) -> dict[str, Chain]:
        """The teacher's chains by the prompt's id, those alone that parse."""
        parsed = {reply.prompt_id: chains.parse(reply.text) for reply in self.teacher}
        return {prompt_id: chain for prompt_id, chain in parsed.items() if isinstance(chain, Chain)}

    @cached_property
    def answered(self) -> list[tuple[Prompt, Chain]]:
        """The prompts that a chain of the teacher answers, with it."""
        return [(self.by_id[one], chain) for one, chain in self.chains.items() if one in self.by_id]

    def of_kind(self, split: str, kind: Kind) -> list[Prompt]:
        """The prompts of one kind in one split."""
        return [prompt for prompt in self.prompts[split] if prompt.kind == kind]


def load_pack(folder: Path = STARTER) -> Pack:
    """Read a pack; every row is validated.

    Raises:
        InputError: naming the file, line and key where a row is no such record.
    """
    return Pack(
        prompts={split: list(read_jsonl(folder / f"{split}.jsonl", Prompt)) for split in SPLITS},
        teacher=list(read_jsonl(folder / "teacher.jsonl", Reply)),
        questions=list(read_jsonl(folder / "capability.jsonl", Question)),
        policies=load_policies(),
    )
