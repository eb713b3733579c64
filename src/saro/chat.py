"""A conversation in the terminal with a trained model: reasoning dimmed, answer plain."""

from pathlib import Path

from rich.console import Console

from saro import chains
from saro.pipeline import open_run
from saro.terminal import printable


def chat(target: str, max_new_tokens: int, temperature: float, seed: int) -> None:
    """Read lines from standard input and answer each, streaming; an empty line or end of input ends the talk.

    Args:
        target: a run folder (its SaRO model is used) or any model's name.
        max_new_tokens: limit of one reply.
        temperature: 0 is greedy.
        seed: of the sampling; each turn has a stream of its own.

    Raises:
        InputError: no such run or model.
    """
    from saro.engines.local import Sampling, sample
    from saro.models import choose_compute, load_model
    from saro.rendering import load_renderer

    folder = Path(target)
    name = str(open_run(folder).saro) if (folder / "manifest.json").is_file() else target
    console = Console()
    renderer = load_renderer(name)
    compute = choose_compute("auto", "auto")
    model = load_model(name, compute.device, compute.dtype)
    console.print("Write a message and press Enter; an empty line ends the talk.", style="dim")
    turns: list[str] = []
    while line := _read_line(console):
        turns.append(line)
        printer = _Printer(console)
        tokens: list[int] = []

        def stream(_row: int, token: int, tokens: list[int] = tokens, printer: _Printer = printer) -> None:
            tokens.append(token)
            printer.show(renderer.decode(tokens))

        prompt = renderer.prompt_ids(*turns)
        [reply] = sample(
            model, [prompt], [seed + len(turns)], Sampling(max_new_tokens, temperature), renderer.eos, stream
        )
        text = renderer.decode(reply.token_ids)
        printer.show(text, last=True)
        if reply.finish == "length":
            console.print("\\[cut off at the token limit]", style="dim")
        parsed = chains.parse(text)
        turns.append(parsed.answer)  # earlier turns keep their answers only, as with other reasoning models


def _read_line(console: Console) -> str:
    try:
        return console.input("[bold]you[/bold]> ").strip()
    except EOFError:
        return ""


class _Printer:
    """Prints a growing reply piece by piece: dim until the reasoning is closed, plain after it."""

    def __init__(self, console: Console) -> None:
        self._console, self._shown = console, 0

    def show(self, text: str, last: bool = False) -> None:
        """Print what ``text`` has beyond what was shown; the tags themselves are not shown."""
        if not last and text.endswith("\ufffd"):
            return  # half a character: wait for the token that completes it
        reasoning, closed, answer = text.partition(chains.CLOSE)
        thinks = text.lstrip().startswith(chains.OPEN[: max(1, len(text.lstrip()))])
        if thinks and not last and len(text.lstrip()) <= len(chains.OPEN):
            return
        dim = reasoning.replace(chains.OPEN, "", 1).lstrip("\n") if thinks else ""
        plain = answer.lstrip("\n") if thinks else text
        if not last and thinks and not closed:
            dim = dim[: len(dim) - len(chains.CLOSE)] if "<" in dim[-len(chains.CLOSE) :] else dim
        whole = printable(f"{dim}\n\n{plain}" if plain and dim else dim + plain)
        new = whole[self._shown :]
        split = max(0, len(dim) - self._shown) if dim else 0
        self._console.out(new[:split], end="", style="dim", highlight=False)
        self._console.out(new[split:], end="\n\n" if last else "", highlight=False)
        self._shown = len(whole)
