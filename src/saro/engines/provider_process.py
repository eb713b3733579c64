"""Providers in processes of their own, where one process would be bound by its CPU rather than by the server.

``python -m saro.engines.provider_process`` is one of them. It reads JSON lines: first how to reach the model, then
numbered requests; it writes a line when it is ready and one for each answer. It ends when its input does.
"""

import asyncio
import gc
import json
import os
import sys
import traceback
from asyncio.subprocess import PIPE, Process
from typing import Any, BinaryIO, cast

from pydantic import TypeAdapter

from saro.engines.provider import Answer, Fault, Provider, Request, Unanswered
from saro.errors import InputError

_LONGEST_LINE = 2**30  # bytes
_PATIENCE = 5.0  # seconds that a process has to end
_RESULT: TypeAdapter[Answer | Fault] = TypeAdapter(Answer | Fault)


class ProviderProcesses:
    """Asks a model as :class:`Provider` does, through several processes; :meth:`start` makes one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._processes: list[Process] = []
        self._waiting: list[dict[int, asyncio.Future[Answer | Fault]]] = []
        self._readers: list[asyncio.Task[None]] = []
        self._number = 0

    @classmethod
    async def start(
        cls, name: str, url: str | None, connections: int, timeout: float, processes: int
    ) -> "ProviderProcesses":
        """Start ``processes`` of them, which share ``connections``.

        Raises:
            InputError: as :class:`Provider`.
        """
        share = -(-connections // processes)
        settings = json.dumps({"name": name, "url": url, "connections": share, "timeout": timeout}).encode() + b"\n"
        command = [sys.executable, "-P", "-m", __name__]  # -P: no module of the user's folder takes another's place
        made = cls(name)
        try:
            ready = []
            for place in range(processes):
                process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=_LONGEST_LINE)
                made._add(process)
                ready.append(made._expect(place, -1))
                _stdin(process).write(settings)
            await asyncio.gather(*ready)
        except BaseException:
            await made.close()
            raise
        return made

    async def ask(self, request: Request) -> Answer | Fault:
        """Send ``request`` once, by the process that has the fewest in flight.

        Raises:
            InputError: as :meth:`Provider.ask`.
            Unanswered: the process has ended.
        """
        place = min(range(len(self._processes)), key=lambda place: len(self._waiting[place]))
        self._number += 1
        found = self._expect(place, self._number)
        if self._readers[place].done():
            self._fail(place)
        else:
            line = json.dumps([self._number, request.model_dump()])
            _stdin(self._processes[place]).write(line.encode() + b"\n")
        return await found

    async def close(self) -> None:
        """End the processes; one that does not is killed."""
        for process in self._processes:
            _stdin(process).close()
        ended = asyncio.gather(*(process.wait() for process in self._processes))
        try:
            await asyncio.wait_for(ended, _PATIENCE)
        except TimeoutError:
            for process in self._processes:
                if process.returncode is None:
                    process.kill()
        await asyncio.gather(*self._readers)

    def _add(self, process: Process) -> None:
        self._processes.append(process)
        self._waiting.append({})
        self._readers.append(asyncio.create_task(self._read(len(self._readers))))

    def _expect(self, place: int, number: int) -> "asyncio.Future[Answer | Fault]":
        found = asyncio.get_running_loop().create_future()
        self._waiting[place][number] = found
        return found

    async def _read(self, place: int) -> None:
        output = cast(asyncio.StreamReader, self._processes[place].stdout)  # it was started with a pipe
        try:
            while line := await output.readline():
                number, kind, value = json.loads(line)
                found = self._waiting[place].pop(number)
                if found.done():  # nobody waits any more
                    continue
                if kind == "error":
                    found.set_exception(InputError(*value))
                else:
                    found.set_result(_RESULT.validate_python(value))
        finally:
            self._fail(place)

    def _fail(self, place: int) -> None:
        """Its process has ended: whoever waits for it hears so."""
        error = Unanswered(self._name, "a process that asks it has ended", "run the same command again: it goes on")
        for found in self._waiting[place].values():
            if not found.done():
                found.set_exception(error)
        self._waiting[place].clear()


def _stdin(process: Process) -> asyncio.StreamWriter:
    return cast(asyncio.StreamWriter, process.stdin)  # it was started with a pipe


async def _serve(output: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=_LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    def say(number: int, kind: str, value: Any) -> None:
        output.write(json.dumps([number, kind, value]).encode() + b"\n")
        output.flush()

    try:
        provider = Provider(**json.loads(await lines.readline()))
    except InputError as error:
        say(-1, "error", [error.where, error.problem, error.mend])
        return
    say(-1, "result", Fault(reason="ready", again=False).model_dump())

    async def answer(number: int, request: Request) -> None:
        try:
            say(number, "result", (await provider.ask(request)).model_dump())
        except InputError as error:
            say(number, "error", [error.where, error.problem, error.mend])
        except Exception:  # a bug of ours: the process ends, and who waits for it hears so
            traceback.print_exc()
            os._exit(1)

    gc.collect()
    gc.freeze()  # what Inspect has loaded stays: to search it for garbage again and again takes a fifth of the time
    answering: set[asyncio.Task[None]] = set()
    while line := await lines.readline():
        number, request = json.loads(line)
        task = asyncio.create_task(answer(number, Request.model_validate(request)))
        answering.add(task)
        task.add_done_callback(answering.discard)
    os._exit(0)  # whoever asked is gone: nobody would hear the answers


def main() -> None:
    """Serve until the input ends."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks decides; this one ends with it
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # what a library prints must not stand between the answers
        asyncio.run(_serve(output))


if __name__ == "__main__":
    main()
