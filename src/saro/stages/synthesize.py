"""Synthesize: RIT-D from a teacher. Every reply is parsed and judged; what is not accepted is kept with its reason."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from saro import chains
from saro.config import SynthesizeConfig
from saro.engines.asking import all_ended
from saro.engines.budget import Spent
from saro.engines.recorded import Teacher
from saro.errors import InputError
from saro.files import atomic_write
from saro.judges.llm import Grades, Safety
from saro.progress import Reporter
from saro.records import Chain, Policy, Prompt, Record, Reply
from saro.sources.prompts import read_prompts
from saro.stages.outcome import read_outcome

_NO_POLICY = "no one policy to go by"


class Demonstration(Record):
    """One row of RIT-D: a prompt and the chain that answers it."""

    prompt: Prompt
    chain: Chain
    teacher: str
    grades: Grades | None = None


class Rejected(Record):
    """A teacher's reply that was not accepted, and why."""

    reply: Reply
    reason: str
    grades: Grades | None = None


class Judge(Protocol):
    """Whoever grades reasoning, and tells a safe completion from an unsafe one."""

    async def grade(self, prompt: Prompt, chain: Chain, policy: Policy) -> Grades | str:
        """The grades, or why there are none."""

    async def safety(self, prompt: Prompt, chain: Chain, policy: Policy) -> Safety | str:
        """What an answer to a harmful prompt is, or why nobody knows."""


@dataclass(frozen=True)
class Panel:
    """Who makes RIT-D: a teacher, a judge of its reasoning where there is one, and the policies they go by."""

    teacher: Teacher
    judge: Judge | None
    policies: dict[str, Policy]


async def consult(config: SynthesizeConfig, panel: Panel, at_once: int, reporter: Reporter) -> bool:
    """Put every prompt to a live panel, many at once, so that the ledger holds all that :func:`synthesize` will ask.

    Args:
        config: which prompts, and what is accepted.
        panel: a live teacher and judge.
        at_once: prompts that are worked on at the same time.
        reporter: where progress goes.

    Returns:
        Whether all were; False where the budget was reached.

    Raises:
        InputError: a prompt's category has no policy, or the server will take no request of ours.
    """
    total = sum(1 for _ in _checked(config, panel.policies))
    prompts = read_prompts(config.prompts, config.limit)
    done, spent = 0, False
    with reporter.task("asking", total) as task:

        async def work() -> None:
            nonlocal done, spent
            for prompt in prompts:
                try:
                    await _examined(prompt, panel, config)
                except Spent:
                    spent = True
                if spent:
                    break  # the others end what they have begun: it is paid for
                done += 1
                task.update(done)

        workers = [asyncio.create_task(work()) for _ in range(min(at_once, total))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
    return not spent


def synthesize(config: SynthesizeConfig, panel: Panel, out: Path, reporter: Reporter) -> dict[str, object]:
    """Keep what passes of the panel's replies; write ``ritd.jsonl`` and ``rejected.jsonl`` under ``out``.

    Acceptance: the reply is a chain that cites the prompt's policy and no other; its answer refuses the harmful, or is
    a safe completion of it where there is a judge to say so, and helps the benign; and, where there is a judge, each of
    its grades reaches ``config.min_grade``. Of several
    accepted samples of one prompt the shortest is kept (Shortest Rejection Sampling, arXiv:2504.09420), unless
    ``config.select`` says otherwise.

    Returns:
        The summary: counts of prompts, accepted and rejected rows by reason, and accepted rows by kind.

    Raises:
        InputError: no reply was accepted, or the prompts name a category without a policy.
    """
    total = sum(1 for _ in _checked(config, panel.policies))
    kinds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with (
        reporter.task("reading the teacher", total) as task,
        atomic_write(out / "rejected.jsonl") as refused,
        atomic_write(out / "ritd.jsonl") as kept,
        asyncio.Runner() as runner,
    ):
        for count, prompt in enumerate(read_prompts(config.prompts, config.limit), start=1):
            accepted, rejected = _select(runner.run(_examined(prompt, panel, config)), config)
            for row in accepted:
                kept.write(row.model_dump_json() + "\n")
                kinds[prompt.kind] += 1
            for rejection in rejected:
                refused.write(rejection.model_dump_json() + "\n")
                reasons[rejection.reason] += 1
            task.update(count)
    summary: dict[str, object] = {
        "prompts": total,
        "accepted": sum(kinds.values()),
        "rejected": dict(reasons),
        "kinds": dict(kinds),
    }
    if not kinds:
        (out / "ritd.jsonl").unlink()
        raise InputError(config.teacher, "none of its replies was accepted", f"see why in {out / 'rejected.jsonl'}")
    return summary


async def _examined(
    prompt: Prompt, panel: Panel, config: SynthesizeConfig
) -> list[tuple[Reply, Demonstration | Rejected]]:
    """Every reply of the teacher with what became of it."""
    policy = await panel.teacher.policy(prompt)
    if isinstance(policy, str):
        nothing = Reply(prompt_id=prompt.id, text="", engine=config.teacher, fault=policy)
        return [(nothing, Rejected(reply=nothing, reason=f"classification: {policy}"))]
    replies = await panel.teacher.replies(prompt, policy)
    rows = await all_ended(_judged(reply, prompt, policy, panel, config) for reply in replies)
    return list(zip(replies, rows, strict=True))


async def _judged(
    reply: Reply, prompt: Prompt, policy: Policy | None, panel: Panel, config: SynthesizeConfig
) -> Demonstration | Rejected:
    """One reply of the teacher as a row of RIT-D, or why it is none."""
    chain = _read(reply, policy, panel.policies, config.citation)
    if isinstance(chain, str):
        return Rejected(reply=reply, reason=chain)
    applied = policy or _one_cited(chain, panel.policies)
    wrong = await _wrong_outcome(reply, prompt, chain, applied, panel.judge)
    if wrong is not None:
        return Rejected(reply=reply, reason=wrong)
    grades = await _graded(prompt, chain, applied, panel.judge)
    if isinstance(grades, str):
        return Rejected(reply=reply, reason=f"judge: unscored ({grades})")
    if grades and (low := _lowest(grades, config.min_grade)):
        return Rejected(reply=reply, reason=f"judge: {low} too low", grades=grades)
    named = prompt if policy is None else prompt.model_copy(update={"category": policy.id})
    return Demonstration(prompt=named, chain=chain, teacher=reply.engine, grades=grades)


def _one_cited(chain: Chain, policies: dict[str, Policy]) -> Policy | None:
    """The policy that the chain goes by, where its prompt has none, as in a recording; None unless it is one."""
    cited = cited_policies(chain, policies)
    return policies[cited.pop()] if len(cited) == 1 else None


async def _wrong_outcome(
    reply: Reply, prompt: Prompt, chain: Chain, policy: Policy | None, judge: Judge | None
) -> str | None:
    """Why the answer is the wrong one; None: it is right. Only a judge can tell a safe completion of the harmful."""
    if read_outcome(reply.text, prompt.label).wished:
        return None
    if prompt.label == "benign":
        return "outcome: refuses the benign"
    if judge is None:
        return "outcome: answers the harmful"
    if policy is None:
        return f"judge: unscored ({_NO_POLICY})"
    found = await judge.safety(prompt, chain, policy)
    if isinstance(found, str):
        return f"judge: unscored ({found})"
    return "outcome: answers the harmful" if found.answer == "unsafe" else None


async def _graded(prompt: Prompt, chain: Chain, policy: Policy | None, judge: Judge | None) -> Grades | str | None:
    """The judge's grades, or why there are none; None without a judge."""
    if judge is None:
        return None
    return _NO_POLICY if policy is None else await judge.grade(prompt, chain, policy)


def _read(reply: Reply, policy: Policy | None, policies: dict[str, Policy], citation: bool) -> Chain | str:
    """The chain of a reply that has the form and cites the policy, or the reason why it does not."""
    if reply.fault is not None:
        return f"request: {reply.fault}"
    if reply.finish == "length":
        return "form: cut off"
    parsed = chains.parse(reply.text)
    if not isinstance(parsed, Chain):
        return f"form: {parsed.reason}"
    cited = cited_policies(parsed, policies)
    if citation and not cited:
        return "policy: cites none"
    if policy is not None and cited - {policy.id}:
        return "policy: cites another"
    return parsed


def _lowest(grades: Grades, least: int) -> str | None:
    """The criterion with the lowest grade, where it is under ``least``."""
    values = dict(grades)
    name = min(values, key=values.__getitem__)
    return name if values[name] < least else None


def _select(
    found: list[tuple[Reply, Demonstration | Rejected]], config: SynthesizeConfig
) -> tuple[list[Demonstration], list[Rejected]]:
    """Of one prompt's samples, those to keep; of equal ones, the one with the lowest number."""
    passed = [(reply, row) for reply, row in found if isinstance(row, Demonstration)]
    rejected = [row for _, row in found if isinstance(row, Rejected)]
    if config.select == "all" or len(passed) < 2:
        return [row for _, row in passed], rejected
    chosen = min(passed, key=lambda one: (_rank(one[1], config.select), one[0].sample))
    rejected += [
        Rejected(reply=reply, reason=f"selection: not the {config.select}", grades=row.grades)
        for reply, row in passed
        if row is not chosen[1]
    ]
    return [chosen[1]], rejected


def _rank(row: Demonstration, select: str) -> tuple[int, int]:
    length = len(chains.render(row.chain).split())
    if select == "shortest":
        return (length, 0)
    if select == "best":
        return (-(row.grades.total if row.grades else 0), length)
    return (0, 0)


def cited_policies(chain: Chain, policies: dict[str, Policy]) -> set[str]:
    """Ids of the policies that the reasoning names, as in "the fraud policy"."""
    reasoning = " ".join(chain.steps)
    return {name for name in policies if re.search(rf"(?<![\w-]){re.escape(name)} policy\b", reasoning, re.IGNORECASE)}


def _checked(config: SynthesizeConfig, policies: dict[str, Policy]) -> Iterator[Prompt]:
    for prompt in read_prompts(config.prompts, config.limit):
        if prompt.category != "unknown" and prompt.category not in policies:
            raise InputError(
                f"{config.prompts}, prompt {prompt.id}",
                f"category {prompt.category!r} has no policy (known: {', '.join(sorted(policies))})",
                "mend the category, leave it out, or add a policy file",
            )
        yield prompt
