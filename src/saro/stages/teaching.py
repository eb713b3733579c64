"""Whom ``synthesize`` asks: a recording, or a model behind an API, within a budget and from where it was cut off."""

import asyncio
import contextlib
from pathlib import Path

from saro.config import SynthesizeConfig
from saro.engines.asking import Asker, Model
from saro.engines.batch import BatchProvider
from saro.engines.budget import Budget, Price
from saro.engines.ledger import Ledger
from saro.engines.live import LiveTeacher, classification_request, lesson_request
from saro.engines.prices import known_price
from saro.engines.provider import Provider, Request, Usage
from saro.engines.provider_process import ProviderProcesses
from saro.engines.recorded import RecordedTeacher, Teacher
from saro.errors import InputError
from saro.files import locked, write_json
from saro.judges.llm import LLMJudge, grading_request, safety_request
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
    """Make RIT-D and its ``summary.json`` under ``out``; a live teacher or judge is asked first.

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
        InputError: as ``synthesize``; another process at work; a live teacher or judge that cannot be reached; a budget
            in dollars for a model without a price.
    """
    if is_recorded(config.teacher) and config.judge is None:
        summary = synthesize(config, Panel(_recorded(config, policies), None, policies), out, reporter)
    else:
        summary = _teach_live(config, policies, out, ledger, reporter)
    write_json(out / "summary.json", summary)
    return summary


def _teach_live(
    config: SynthesizeConfig, policies: dict[str, Policy], out: Path, ledger: Path, reporter: Reporter
) -> dict[str, object]:
    prices = _prices(config)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with locked(ledger.with_suffix(".lock"), out), Ledger(ledger) as book:
        budget = Budget(config.budget, config.budget_tokens)
        for spending in book.spent():
            price = prices.get(spending.model)  # of what was sent before a price was known
            unpriced = price.of(spending.usage) if price else 0.0
            budget.count(spending.usage, unpriced if spending.dollars is None else spending.dollars)
        if book.lost:
            reporter.say(f"{book.lost} requests were in flight when an earlier process ended: they may be paid twice")
        finished = asyncio.run(_consult(config, policies, book, budget, prices, reporter))
        if not finished:
            reporter.say("the budget was reached: with a larger synthesize.budget the same command goes on")
        summary = synthesize(config, _panel(config, policies, book, budget, prices, None, None), out, reporter)
        summary["spending"] = {
            "attempts": book.attempts(),
            "tokens": budget.tokens,
            "dollars": round(budget.dollars, 4) if None not in prices.values() else None,
            "attempts lost in flight": book.lost,
            "budget reached": not finished,
        }
    return summary


def _recorded(config: SynthesizeConfig, policies: dict[str, Policy]) -> RecordedTeacher:
    return RecordedTeacher(locate(config.teacher), policies)


def forecast(config: SynthesizeConfig, policies: dict[str, Policy]) -> dict[str, object]:
    """What asking would take, were every reply as long as may be and none asked for again: requests, tokens, dollars.

    Input tokens are reckoned at four characters each. Only the budget is a limit.

    Raises:
        InputError: a budget in dollars for a model without a price.
    """
    prices = _prices(config)
    chain = Chain(steps=("x" * _CHARACTERS_A_TOKEN * config.max_tokens,), answer="x")
    counts = {"prompts": 0, "requests": 0, "input tokens": 0, "output tokens": 0}
    dollars = 0.0

    def count(request: Request, times: int, price: Price | None) -> None:
        nonlocal dollars
        given = times * (len(request.system) + len(request.user)) // _CHARACTERS_A_TOKEN
        got = times * request.max_tokens
        counts["requests"] += times
        counts["input tokens"] += given
        counts["output tokens"] += got
        if price:
            dollars += price.of(Usage(input_tokens=given, output_tokens=got))

    recorded = is_recorded(config.teacher)
    teaching, judging = prices.get(_teacher(config)), prices.get(_judge(config))
    longest = max(policies.values(), key=lambda policy: len(policy.text))
    for prompt in read_prompts(config.prompts, config.limit):
        counts["prompts"] += 1
        policy = policies.get(prompt.category)
        if not recorded:
            if policy is None:
                count(classification_request(prompt, policies), 1, teaching)
            lesson = lesson_request(prompt, policy or longest, 0, config.temperature, config.max_tokens)
            count(lesson, config.samples, teaching)
        if config.judge:
            count(grading_request(prompt, chain, policy or longest), config.samples, judging)
            if prompt.label == "harmful":  # of every answer that is no plain refusal
                count(safety_request(prompt, chain, policy or longest), config.samples, judging)
    return {**counts, "dollars": round(dollars, 2) if None not in prices.values() else None}


async def _consult(
    config: SynthesizeConfig,
    policies: dict[str, Policy],
    ledger: Ledger,
    budget: Budget,
    prices: dict[str, Price | None],
    reporter: Reporter,
) -> bool:
    async with contextlib.AsyncExitStack() as stack:

        async def model(name: str, url: str | None) -> Model:
            made: Provider | BatchProvider | ProviderProcesses
            if config.batch is not None:
                made = BatchProvider(name, url, config.batch)
            elif config.processes > 1:
                made = await ProviderProcesses.start(name, url, config.connections, config.timeout, config.processes)
            else:
                made = Provider(name, url, config.connections, config.timeout)
            stack.push_async_callback(made.close)
            return made

        teacher = None if is_recorded(config.teacher) else await model(config.teacher, config.teacher_url)
        judge = await model(config.judge, config.judge_url) if config.judge else None
        panel = _panel(config, policies, ledger, budget, prices, teacher, judge)
        return await consult(config, panel, _at_once(config) * 5 // 4 + 1, reporter)


def _at_once(config: SynthesizeConfig) -> int:
    return config.connections if config.batch is None else config.batch


def _panel(
    config: SynthesizeConfig,
    policies: dict[str, Policy],
    ledger: Ledger,
    budget: Budget,
    prices: dict[str, Price | None],
    teacher: Model | None,
    judge: Model | None,
) -> Panel:
    # What a batch lost is tried again by the next command only: it may be paid for, and lost for the same reason.
    attempts = config.attempts if config.batch is None else 1

    def asker(identity: str, model: Model | None) -> Asker:
        return Asker(identity, model, ledger, budget, prices.get(identity), attempts, _at_once(config))

    asked: Teacher
    if is_recorded(config.teacher):
        asked = _recorded(config, policies)
    else:
        asked = LiveTeacher(
            asker(_teacher(config), teacher), policies, config.samples, config.temperature, config.max_tokens
        )
    grading = LLMJudge(asker(_judge(config), judge)) if config.judge else None
    return Panel(asked, grading, policies)


def _teacher(config: SynthesizeConfig) -> str:
    return _identity(config.teacher, config.teacher_url)


def _judge(config: SynthesizeConfig) -> str:
    return _identity(config.judge, config.judge_url) if config.judge else ""


def _identity(model: str, url: str | None) -> str:
    return f"{model} at {url}" if url else model


def _prices(config: SynthesizeConfig) -> dict[str, Price | None]:
    """Prices of the models that will be asked, by identity: as given, or else as known; None: neither.

    Raises:
        InputError: there is a budget in dollars, and one of them has no price.
    """
    asked: list[tuple[str, str, str | None, tuple[float, float] | None]] = []
    if not is_recorded(config.teacher):
        asked.append((_teacher(config), config.teacher, config.teacher_url, config.price))
    if config.judge and _judge(config) != _teacher(config):
        asked.append((_judge(config), config.judge, config.judge_url, config.judge_price))
    prices: dict[str, Price | None] = {}
    for identity, model, url, given in asked:
        prices[identity] = Price(*given) if given else known_price(model, url)
        if prices[identity] is None and config.budget is not None:
            key = "synthesize.price" if identity == _teacher(config) else "synthesize.judge_price"
            raise InputError(
                key,
                "is missing: a budget in dollars needs the model's price, and none is known",
                "give it in dollars a million tokens, in and out: 2.5,10",
            )
    return prices
