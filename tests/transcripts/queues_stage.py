"""The stage of queues: one queue of one shard, three nodes that hold it, and consumers; n1 leads at first.

queue [max_retries 2] ...       declare it, with settings of its own (times in ms)
produce a b [key k] [delay 2] [dedup d]      messages a and b; with a group key, delayed by seconds, with a dedup id
consume ada [most 3] [wait 9]   ada asks for a message, and waits for up to 5 s unless said otherwise
again ada                       ada's last question arrives once more
cancel ada                      ada does not want an answer any more
ack ada a | release ada a       ada is done with a | gives it back
nack ada a [text] | reject ada a            a failed | and is not to be tried again
extend ada a 60                 ada needs a for so many seconds from now on
run 3 [ada ben]                 time passes, in which some say that they are there
cut | mend                      n1 reaches no other node for a while | it does again
fail-over                       n2 leads
stats | dead                    how many messages are where | the dead letters
redrive 1 | purge 1             so many dead letters are let in again | are dropped
"""

from collections.abc import Callable, Iterator
from typing import Any

from gimmal.wire import queue_commands as q
from gimmal.wire.messages import Refusal
from tests.unit.owned_queue import NOTHING, OwnedQueue

GROUP = b"default"


class Stage:
    """Performs the commands above on one `OwnedQueue`."""

    def __init__(self) -> None:
        self.on = OwnedQueue()
        self.waiting: dict[int, str] = {}  # numbers of consumes without an answer yet: who asked
        self.requests: dict[str, tuple[int, dict[str, int]]] = {}  # by consumer: the last one
        self.held: dict[tuple[str, str], tuple[int, int]] = {}  # (consumer, payload) -> delivery
        self.commands: dict[str, Callable[..., Iterator[str]]] = {
            "queue": self.queue,
            "produce": self.produce,
            "consume": self.consume,
            "again": self.again,
            "cancel": self.cancel,
            "ack": self.ack,
            "nack": self.nack,
            "reject": self.reject,
            "release": self.release,
            "extend": self.extend,
            "run": self.run,
            "cut": self.cut,
            "mend": self.mend,
            "fail-over": self.fail_over,
            "stats": self.stats,
            "dead": self.dead,
            "redrive": self.redrive,
            "purge": self.purge,
        }

    def perform(self, command: str, arguments: list[str]) -> Iterator[str]:
        if command not in self.commands:
            raise ValueError(f"{command}: no such command")
        yield from self.commands[command](*arguments)
        yield from self.news()

    # -- the queue

    def queue(self, *words: str) -> Iterator[str]:
        self.on = OwnedQueue(**_options(words))
        yield from ()

    def produce(self, *words: str) -> Iterator[str]:
        place = next((place for place, word in enumerate(words) if word in ("key", "delay", "dedup")), len(words))
        options = dict(zip(words[place::2], words[place + 1 :: 2], strict=True))
        key, dedup = (options.get(name, "").encode() for name in ("key", "dedup"))
        messages = tuple((payload.encode(), key, dedup) for payload in words[:place])
        answer = self.on.ask(q.PRODUCE, int(options.get("delay", 0)) * 1000, messages)
        if isinstance(answer, Refusal):
            yield f"refused: {answer.name}"
        else:
            yield "taken as " + ", ".join(str(number - self.on.first) for number in answer)

    def stats(self) -> Iterator[str]:
        counts = self.on.stats()
        counts.pop("oldest_ms")
        yield ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count) or "nothing"

    def dead(self) -> Iterator[str]:
        for _, payload, _, attempts, retries, failures in self.on.ask(q.DEAD_LETTERS, GROUP, 100):
            told = ", ".join(
                f"{cause} by {consumer.decode()}: {text.decode()}" for consumer, cause, text, _ in failures
            )
            yield f"{payload.decode()}: given {attempts} times, failed {retries} times; {told}"

    def redrive(self, count: str) -> Iterator[str]:
        yield f"{self.on.ask(q.REDRIVE, GROUP, int(count))} let in again"

    def purge(self, count: str) -> Iterator[str]:
        yield f"{self.on.ask(q.PURGE, GROUP, int(count))} dropped"

    # -- consumers

    def consume(self, name: str, *words: str) -> Iterator[str]:
        options = _options(words)
        wanted = {"most": options.get("most", 1), "wait_ms": options.get("wait", 5) * 1000}
        number = self.on.consume(_client(name), consumer=name.encode(), **wanted)
        self.waiting[number] = name
        self.requests[name] = self.on.requests, wanted
        yield from ()

    def again(self, name: str) -> Iterator[str]:
        request, wanted = self.requests[name]
        number = self.on.consume(_client(name), consumer=name.encode(), request=request, **wanted)
        self.waiting[number] = name
        yield from ()

    def cancel(self, name: str) -> Iterator[str]:
        self.on.ask(q.CANCEL, GROUP, _client(name), self.requests[name][0])
        self.waiting = {number: who for number, who in self.waiting.items() if who != name}
        yield from ()

    def ack(self, name: str, payload: str) -> Iterator[str]:
        yield from self._settle(q.ACK, name, payload)

    def nack(self, name: str, payload: str, *text: str) -> Iterator[str]:
        yield from self._settle(q.NACK, name, payload, (True, None), " ".join(text).encode())

    def reject(self, name: str, payload: str) -> Iterator[str]:
        yield from self._settle(q.NACK, name, payload, (False, None), b"never again")

    def release(self, name: str, payload: str) -> Iterator[str]:
        yield from self._settle(q.RELEASE, name, payload)

    def extend(self, name: str, payload: str, seconds: str) -> Iterator[str]:
        yield from self._settle(q.EXTEND, name, payload, int(seconds) * 1000)

    def _settle(self, code: int, name: str, payload: str, *more: Any) -> Iterator[str]:
        outcome = self.on.ask(code, GROUP, (self.held[name, payload],), *more)[0]
        yield "done" if outcome == q.Outcome.DONE else "stale: it is not this consumer's any more"

    # -- the world

    def run(self, seconds: str, *names: str) -> Iterator[str]:
        self.on.wait(float(seconds), *map(_client, names))
        yield from ()

    def cut(self) -> Iterator[str]:
        self.on.planes.cuts.add("n1")
        yield from ()

    def mend(self) -> Iterator[str]:
        self.on.planes.cuts.clear()
        self.on.planes.adopt()
        self.on.wait(0.5)
        yield from ()

    def fail_over(self) -> Iterator[str]:
        self.on.fail_over()
        yield "n2 leads"

    def news(self) -> Iterator[str]:
        """What consumers have got, or been told."""
        for number, name in list(self.waiting.items()):
            answer = self.on.planes.answers.get(number, NOTHING)
            if answer == NOTHING:
                continue
            del self.waiting[number]
            if isinstance(answer, Refusal):
                yield f"{name}: is sent away, {answer.name}"
            elif not answer:
                yield f"{name}: gets nothing"
            for given, token, attempts, retries, _, payload in answer if type(answer) is tuple else ():
                self.held[name, payload.decode()] = given, token
                failed = f", failed {retries} times before" if retries else ""
                yield f"{name}: gets {payload.decode()}, time {attempts}{failed}"


def _client(name: str) -> bytes:
    return name.encode().ljust(q.CLIENT_BYTES, b".")


def _options(words: tuple[str, ...]) -> dict[str, int]:
    return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}
