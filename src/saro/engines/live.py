"""A teacher behind an API: it is told the policy that applies, and asked for chains."""

import re
from collections.abc import Mapping

from saro import chains
from saro.engines.asking import Asker, all_ended
from saro.engines.provider import Answer, Fault, Request
from saro.records import Chain, Policy, Prompt, Reply
from saro.templates import fence, render

STEPS = (3, 6)
_CLASSIFY_TOKENS = 1024  # a teacher that reasons first needs them; another stops by itself
_CLASSIFY_TRIES = 3


class LiveTeacher:
    """Classifies prompts without a category, and answers each several times under its policy.

    Args:
        asker: asks the model, or recalls what it was asked.
        policies: all that may apply, by id.
        samples: replies a prompt.
        temperature: of the samples; classification is greedy.
        max_tokens: of a reply, reasoning included.
    """

    def __init__(
        self, asker: Asker, policies: Mapping[str, Policy], samples: int, temperature: float, max_tokens: int
    ) -> None:
        self._asker, self._policies = asker, policies
        self._samples, self._temperature, self._max_tokens = samples, temperature, max_tokens

    async def policy(self, prompt: Prompt) -> Policy | str | None:
        """The policy of the prompt's category; without one, the policy that the teacher names."""
        if prompt.category in self._policies:
            return self._policies[prompt.category]
        for sample in range(_CLASSIFY_TRIES):
            found = await self._asker.ask(classification_request(prompt, self._policies, sample))
            if not isinstance(found, Answer):
                return found.reason
            body = found.text.rpartition(chains.CLOSE)[2].lower()
            named = set(re.findall(r"[\w-]+", body)) & set(self._policies)
            if len(named) == 1 and found.finish == "stop" and chains.OPEN not in body:
                return self._policies[named.pop()]
        return "the teacher named no one policy"

    async def replies(self, prompt: Prompt, policy: Policy | None) -> list[Reply]:
        """One reply a sample, in order; those that failed say why."""
        if policy is None:
            raise ValueError("a live teacher answers under a policy")
        answers = await all_ended(
            self._asker.ask(lesson_request(prompt, policy, sample, self._temperature, self._max_tokens))
            for sample in range(self._samples)
        )
        return [self._reply(prompt, sample, answer) for sample, answer in enumerate(answers)]

    def _reply(self, prompt: Prompt, sample: int, answer: Answer | Fault) -> Reply:
        engine = self._asker.identity
        if not isinstance(answer, Answer):
            return Reply(prompt_id=prompt.id, sample=sample, text="", engine=engine, fault=answer.reason)
        text = answer.text
        if answer.reasoning and chains.OPEN not in text:  # the provider has taken the reasoning apart
            text = f"{chains.OPEN}\n{answer.reasoning}\n{chains.CLOSE}\n\n{text}"
        parsed = chains.parse(text)
        if isinstance(parsed, Chain):
            text = chains.render(parsed)
        return Reply(prompt_id=prompt.id, sample=sample, text=text, finish=answer.finish, engine=engine)


def classification_request(prompt: Prompt, policies: Mapping[str, Policy], sample: int = 0) -> Request:
    """Asks for the prompt's policy: greedily first, and anew at temperature 1 where that did not help."""
    return Request(
        system=render("classify", policies=list(policies.values())),
        user=fence(prompt.text),
        max_tokens=_CLASSIFY_TOKENS,
        temperature=0.0 if sample == 0 else 1.0,
        sample=sample,
    )


def lesson_request(prompt: Prompt, policy: Policy, sample: int, temperature: float, max_tokens: int) -> Request:
    """Asks for a chain under a policy; the prompt itself is what the user says."""
    low, high = STEPS
    return Request(
        system=render("teach", policy=policy, least_steps=low, most_steps=high),
        user=prompt.text,
        max_tokens=max_tokens,
        temperature=temperature,
        sample=sample,
    )
