"""Whom ``synthesize`` asks: a recording, or a model behind an API, within a budget and from where it was cut off."""

import asyncio
import contextlib
from pathlib import Path

from saro.config import SynthesizeConfig
from saro.engines.asking import Asker
from saro.engines.budget import Budget, Price
from saro.engines.ledger import Ledger
from saro.engines.live import LiveTeacher, classification_request, lesson_request
from saro.engines.provider import Provider, Request
from saro.engines.recorded import RecordedTeacher, Teacher
from saro.files import locked, write_json
from saro.judges.reasoning import ReasoningJudge, grading_request
from saro.progress import Reporter
from saro.records import Chain, Policy
from saro.sources.prompts import locate, read_prompts
from saro.stages.synthesize import Panel, consult, synthesize

_CHARACTERS_A_TOKEN = 4  # for a forecast in English; the budget reckons with the worst case instead


def is_recorded(teacher: str) -> bool:
    """Whether ``teacher`` names a file of recorded replies, there or not; a model's name has a slash in it."""
    file = Path(teacher)
    return teacher.startswith("starter:") or "/" not in teacher or file.suffix in {".jsonl", ".json"} or file.exists()


def teach(
    config: SynthesizeConfig, policies: dict[str, Policy], out: Path, ledger: Path, reporter: Reporter
) -> dict[str, object]:
    """Make RIT-D as :func:`saro.stages.synthesize.synthesize` does, after a live teacher has been asked for it.

    Args:
        config: of the stage.
        policies: by id.
        out: folder of the stage.
        ledger: file of what was asked and answered; the same file again goes on from there.
        reporter: where progress goes.

    Returns:
        The summary; after a live teacher also ``spending``: requests, tokens and dollars of all processes so far,
        attempts lost in flight, and whether the budget was reached.

    Raises:
        InputError: as ``synthesize``; another process at work; a live teacher or judge that cannot be reached.
    """
    if is_recorded(config.teacher) and config.judge is None:
        return synthesize(config, Panel(_recorded(config, policies), None, policies), out, reporter)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with locked(ledger.with_suffix(".lock"), out), Ledger(ledger) as book:
        budget = Budget(config.budget, config.budget_tokens)
        for model, usage in book.spent().items():
            budget.count(usage, _prices(config).get(model))
        if book.lost:
            reporter.say(f"{book.lost} requests were in flight when an earlier process ended: they may be paid twice")
        finished = asyncio.run(_consult(config, policies, book, budget, reporter))
        if not finished:
            reporter.say("the budget was reached: with a larger synthesize.budget the same command goes on")
        summary = synthesize(config, _panel(config, policies, book, budget, None, None), out, reporter)
        summary["spending"] = {
            "attempts": book.attempts(),
            "tokens": budget.tokens,
            "dollars": round(budget.dollars, 4) if config.price else None,
            "attempts lost in flight": book.lost,
            "budget reached": not finished,
        }
    write_json(out / "summary.json", summary)
    return summary


def _recorded(config: SynthesizeConfig, policies: dict[str, Policy]) -> RecordedTeacher:
    return RecordedTeacher(locate(config.teacher), policies)


def forecast(config: SynthesizeConfig, policies: dict[str, Policy]) -> dict[str, object]:
    """What asking would take, were every reply as long as may be and none asked for again: requests, tokens, dollars.

    Input tokens are reckoned at four characters each. Only the budget is a limit.
    """
    chain = Chain(steps=("x" * _CHARACTERS_A_TOKEN * config.max_tokens,), answer="x")
    counts = {"prompts": 0, "requests": 0, "input tokens": 0, "output tokens": 0}
    dollars = 0.0

    def count(request: Request, times: int, price: tuple[float, float] | None) -> None:
        nonlocal dollars
        given = times * (len(request.system) + len(request.user)) // _CHARACTERS_A_TOKEN
        got = times * request.max_tokens
        counts["requests"] += times
        counts["input tokens"] += given
        counts["output tokens"] += got
        if price:
            dollars += (given * price[0] + got * price[1]) / 1e6

    recorded = is_recorded(config.teacher)
    longest = max(policies.values(), key=lambda policy: len(policy.text))
    for prompt in read_prompts(config.prompts, config.limit):
        counts["prompts"] += 1
        policy = policies.get(prompt.category)
        if not recorded:
            if policy is None:
                count(classification_request(prompt, policies), 1, config.price)
            lesson = lesson_request(prompt, policy or longest, 0, config.temperature, config.max_tokens)
            count(lesson, config.samples, config.price)
        if config.judge:
            grading = grading_request(prompt, chain, policy or longest)
            count(grading, config.samples, config.judge_price or config.price)
    return {**counts, "dollars": round(dollars, 2) if config.price else None}


async def _consult(
    config: SynthesizeConfig, policies: dict[str, Policy], ledger: Ledger, budget: Budget, reporter: Reporter
) -> bool:
    async with contextlib.AsyncExitStack() as stack:

        def provider(name: str, url: str | None) -> Provider:
            made = Provider(name, url, config.connections, config.timeout)
            stack.push_async_callback(made.close)
            return made

        teacher = None if is_recorded(config.teacher) else provider(config.teacher, config.teacher_url)
        judge = provider(config.judge, config.judge_url) if config.judge else None
        panel = _panel(config, policies, ledger, budget, teacher, judge)
        return await consult(config, panel, config.connections + config.connections // 4 + 1, reporter)


def _panel(
    config: SynthesizeConfig,
    policies: dict[str, Policy],
    ledger: Ledger,
    budget: Budget,
    teacher: Provider | None,
    judge: Provider | None,
) -> Panel:
    def asker(identity: str, provider: Provider | None) -> Asker:
        return Asker(identity, provider, ledger, budget, _prices(config).get(identity), config.attempts)

    asked: Teacher
    if is_recorded(config.teacher):
        asked = _recorded(config, policies)
    else:
        identity = _identity(config.teacher, config.teacher_url)
        asked = LiveTeacher(asker(identity, teacher), policies, config.samples, config.temperature, config.max_tokens)
    grading = ReasoningJudge(asker(_identity(config.judge, config.judge_url), judge)) if config.judge else None
    return Panel(asked, grading, policies)


def _identity(model: str, url: str | None) -> str:
    return f"{model} at {url}" if url else model


def _prices(config: SynthesizeConfig) -> dict[str, Price]:
    prices = {}
    if config.judge and (judged := config.judge_price or config.price):
        prices[_identity(config.judge, config.judge_url)] = Price(*judged)
    if config.price:
        prices[_identity(config.teacher, config.teacher_url)] = Price(*config.price)
    return prices
