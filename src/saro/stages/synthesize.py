"""Synthesize: RIT-D from a teacher. Every reply is parsed and judged; what is not accepted is kept with its reason."""

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from saro import chains
from saro.config import SynthesizeConfig
from saro.engines.recorded import Teacher
from saro.errors import InputError
from saro.files import write_json, write_jsonl
from saro.progress import Reporter
from saro.records import Chain, Policy, Prompt, Record, Reply
from saro.sources.prompts import load_prompts
from saro.stages.outcome import read_outcome


class Demonstration(Record):
    """One row of RIT-D: a prompt and the chain that answers it."""

    prompt: Prompt
    chain: Chain
    teacher: str


class Rejected(Record):
    """A teacher's reply that was not accepted, and why."""

    reply: Reply
    reason: str


def synthesize(
    config: SynthesizeConfig, teacher: Teacher, policies: dict[str, Policy], out: Path, reporter: Reporter
) -> dict[str, object]:
    """Ask the teacher for every prompt and keep what passes; write ``ritd.jsonl`` and ``rejected.jsonl`` under ``out``.

    Acceptance: the reply is a chain, its answer refuses the harmful and helps the benign, and the chain cites no
    policy other than the prompt's category among those known. Of several accepted samples of one prompt the shortest
    is kept (Shortest Rejection Sampling, arXiv:2504.09420), unless ``config.select`` says otherwise.

    Returns:
        The summary: counts of prompts, accepted and rejected rows by reason, and accepted rows by kind.

    Raises:
        InputError: no reply was accepted, or the prompts name a category without a policy.
    """
    prompts = load_prompts(config.prompts, config.limit)
    _check_categories(prompts, policies, config.prompts)
    by_id = {prompt.id: prompt for prompt in prompts}
    passed: list[tuple[Reply, Demonstration]] = []
    rejected: list[Rejected] = []
    with reporter.task("reading the teacher", len(prompts)) as task:
        for count, reply in enumerate(teacher.replies(prompts), start=1):
            prompt = by_id[reply.prompt_id]
            verdict = _examine(reply, prompt, policies)
            if isinstance(verdict, Chain):
                passed.append((reply, Demonstration(prompt=prompt, chain=verdict, teacher=reply.engine)))
            else:
                rejected.append(Rejected(reply=reply, reason=verdict))
            task.update(min(count, len(prompts)))
    chosen = _select(passed, config.select)
    accepted = [row for place, (_, row) in enumerate(passed) if place in chosen]
    for place, (reply, _) in enumerate(passed):
        if place not in chosen:
            rejected.append(Rejected(reply=reply, reason=f"selection: not the {config.select}"))
    write_jsonl(out / "rejected.jsonl", rejected)
    if not accepted:
        raise InputError(config.teacher, "none of its replies was accepted", f"see why in {out / 'rejected.jsonl'}")
    write_jsonl(out / "ritd.jsonl", accepted)
    summary: dict[str, object] = {
        "prompts": len(prompts),
        "accepted": len(accepted),
        "rejected": dict(Counter(row.reason for row in rejected)),
        "kinds": dict(Counter(row.prompt.kind for row in accepted)),
    }
    write_json(out / "summary.json", summary)
    return summary


def _select(passed: list[tuple[Reply, Demonstration]], select: Literal["shortest", "first", "all"]) -> set[int]:
    """Places of the rows to keep; of samples of equal length, the one with the lowest number."""
    if select == "all":
        return set(range(len(passed)))
    best: dict[str, tuple[int, int, int]] = {}
    for place, (reply, row) in enumerate(passed):
        length = len(chains.render(row.chain).split()) if select == "shortest" else 0
        rank = (length, reply.sample, place)
        best[row.prompt.id] = min(best.get(row.prompt.id, rank), rank)
    return {place for _, _, place in best.values()}


def _examine(reply: Reply, prompt: Prompt, policies: dict[str, Policy]) -> Chain | str:
    """The chain of an acceptable reply, or the reason why it is not acceptable."""
    if reply.finish == "length":
        return "form: cut off"
    parsed = chains.parse(reply.text)
    if not isinstance(parsed, Chain):
        return f"form: {parsed.reason}"
    if not read_outcome(reply.text, prompt.label).wished:
        return "outcome: answers the harmful" if prompt.label == "harmful" else "outcome: refuses the benign"
    cited = cited_policies(parsed, policies)
    if not cited:
        return "policy: cites none"
    if prompt.category != "unknown" and cited != {prompt.category}:
        return "policy: cites another"
    return parsed


def cited_policies(chain: Chain, policies: dict[str, Policy]) -> set[str]:
    """Ids of the policies that the reasoning names, as in "the fraud policy"."""
    reasoning = " ".join(chain.steps)
    return {name for name in policies if re.search(rf"(?<![\w-]){re.escape(name)} policy\b", reasoning, re.IGNORECASE)}


def _check_categories(prompts: list[Prompt], policies: dict[str, Policy], source: str) -> None:
    for prompt in prompts:
        if prompt.category != "unknown" and prompt.category not in policies:
            raise InputError(
                f"{source}, prompt {prompt.id}",
                f"category {prompt.category!r} has no policy (known: {', '.join(sorted(policies))})",
                "mend the category, leave it out, or add a policy file",
            )
