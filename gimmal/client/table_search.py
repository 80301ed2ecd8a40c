"""When a client asks for the cluster table, and whom.

There are three reasons to ask. A header *told* of a newer table: then the node that told is asked, since it has it. Or
the table is *wanted*, whoever has a newer one: there is none yet, a node has refused, operations cannot leave; then
any node will do, another one than the last time if there is. Or an answer is *demanded*, because somebody waits for it.

Rules:

- One question at a time, after a short random wait when a header told, so that a thousand clients do not ask in the
  same millisecond.
- A question without an answer is given up after a while, and another node is asked. Each such wait is twice as long as
  the one before, and what an answer has taken is the measure for the next: a large table over a slow line is not asked
  for again while it travels. If the connection to the node breaks, the question is given up at once.
- An answer that brings nothing newer settles the question. The next one for the same reason has to wait a little, and
  each time longer, up to half a second; only a demand does not wait.
- A node that told of a table which it does not deliver is believed less and less: the wait before it is asked again
  doubles, up to half a minute. What other nodes tell is not touched by that.

It decides; `gimmal.client.session` sends and receives. Times are monotonic seconds.
"""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

_JITTER_S: Final = 0.05
_PATIENCE_S: Final = 0.3
_PATIENCE_LEARNT_MAX_S: Final = 2.0
_PATIENCE_MAX_S: Final = 10.0
_REST_FIRST_S: Final = 0.05
_REST_MAX_S: Final = 0.5
_DOUBT_FIRST_S: Final = 0.3
_DOUBT_MAX_S: Final = 30.0
_FORGIVEN_AFTER_S: Final = 2.0
_DOUBLINGS_MAX: Final = 16
_NEVER: Final = float("inf")
_NOBODY: Final = ""


class _Teller:
    """What one node has told: the newest version, when to ask for it, and how often it did not keep its word."""

    __slots__ = ("ask_at", "broken_count", "trusted_from", "version")

    def __init__(self) -> None:
        self.version = 0
        self.ask_at = _NEVER
        self.broken_count = 0
        self.trusted_from = -_NEVER


class TableSearch:
    """The search of one client. `at` is when to call `choose` next; infinity when there is nothing to ask for."""

    def __init__(self, dice: "Random", now: float) -> None:
        self.at = now
        self._dice = dice
        self._version = 0
        self._wanted_at = now  # infinity: it is not wanted
        self._tellers: dict[str, _Teller] = {}
        self._asked = _NOBODY
        self._last_asked = _NOBODY
        self._asked_at: dict[str, float] = {}  # questions that may still be answered, given up or not
        self._give_up_at = _NEVER
        self._patience_s = _PATIENCE_S
        self._unanswered_count = 0
        self._useless_count = 0
        self._misfit_count = 0
        self._rest_until = -_NEVER
        self._is_stranded = False

    # -- reasons ----------------------------------------------------------------------------------------------

    def want(self, now: float) -> None:
        """Ask for a newer table, whoever has one."""
        if self._wanted_at == _NEVER:
            if now > self._rest_until + _FORGIVEN_AFTER_S:
                self._useless_count = 0
            self._wanted_at = max(now, self._rest_until)
            self._set_time()

    def demand(self, now: float) -> None:
        """Ask at once, even if the last answer has just come; while an answer is on its way, wait for that first."""
        self._wanted_at = now
        self._set_time()

    def on_told(self, address: str, version: int, now: float) -> None:
        """Learn that a node has a newer table."""
        teller = self._tellers.get(address)
        if teller is None:
            teller = self._tellers[address] = _Teller()
        if version > teller.version:
            teller.version = version
            teller.ask_at = max(now + self._dice.uniform(0, _JITTER_S), teller.trusted_from)
            self._set_time()

    # -- questions --------------------------------------------------------------------------------------------

    def choose(self, ready: Iterable[str], now: float) -> str | None:
        """Return the node to ask now, out of those that can be; None when there is none."""
        if self._asked:
            self._give_up(now)
        addresses = list(ready)
        self._is_stranded = not addresses
        if self._is_stranded:
            self.at = now + _PATIENCE_S
            return None
        address = self._best_teller(addresses, now) or self._anybody(addresses)
        self._asked = self._last_asked = address
        self._asked_at[address] = now
        patience_s = self._patience_s * 2.0 ** min(self._unanswered_count, _DOUBLINGS_MAX)
        self._give_up_at = now + min(_PATIENCE_MAX_S, patience_s)
        self._set_time()
        return address

    def _best_teller(self, addresses: Collection[str], now: float) -> str | None:
        """Return the node that told of the newest table, if it is to be believed."""
        told = [
            (teller.version, address)
            for address, teller in self._tellers.items()
            if teller.version > self._version and teller.trusted_from <= now and address in addresses
        ]
        return max(told)[1] if told else None

    def _anybody(self, addresses: list[str]) -> str:
        others = [address for address in addresses if address not in self._asked_at]
        others = others or [address for address in addresses if address != self._last_asked]
        return self._dice.choice(others or addresses)

    def _give_up(self, now: float) -> None:
        """Wait no longer for an answer: another node may have one."""
        self._unanswered_count += 1
        self._doubt(self._asked, now)
        self._asked = _NOBODY
        self._wanted_at = now

    def on_ready(self, now: float) -> None:
        """Learn that a node can be asked, which matters if none could."""
        if self._is_stranded:
            self._is_stranded = False
            self.at = now

    def on_unready(self, address: str, now: float) -> None:
        """Learn that the connection to a node is gone, and most likely its answer with it: ask another one soon.

        It says nothing of how long answers take, so the next one is not waited for any longer than this one was.
        """
        if address == self._asked:
            self._asked = _NOBODY
            self._wanted_at = now + self._dice.uniform(0, _JITTER_S)
            self._set_time()

    def on_blocked(self, address: str, now: float) -> None:
        """Learn that the question was not sent."""
        self._asked_at.pop(address, None)
        if address == self._asked:
            self._asked = _NOBODY
            self._wanted_at = now + _JITTER_S
            self._set_time()

    # -- answers ----------------------------------------------------------------------------------------------

    def on_answer(self, address: str, version: int, now: float) -> float | None:
        """Take that a node has answered and that the newest table is now `version` (0: there is none).

        Returns when the question was asked that this answers; None if none was.
        """
        asked_at = self._asked_at.pop(address, None)
        if asked_at is not None:
            self._patience_s = min(_PATIENCE_LEARNT_MAX_S, max(_PATIENCE_S, 2 * (now - asked_at)))
            self._unanswered_count = 0
        is_newer, self._version = version > self._version, version
        if asked_at is not None:
            self._doubt(address, now)
        if is_newer:
            self._useless_count = self._misfit_count = 0
            self._rest_until = -_NEVER
            self._asked, self._wanted_at = _NOBODY, _NEVER
        elif address == self._asked:
            self._useless_count += 1
            self._rest_until = now + self._pause(_REST_FIRST_S, _REST_MAX_S, self._useless_count)
            self._asked, self._wanted_at = _NOBODY, _NEVER if version else self._rest_until
        self._set_time()
        return asked_at

    def on_misfit(self, address: str, now: float) -> None:
        """Learn that an answer was of no use at all: it did not fit, so all of the table is wanted, from anybody."""
        if self._asked_at.pop(address, None) is None:
            return  # nobody had asked
        self._doubt(address, now)
        if address == self._asked:
            self._asked = _NOBODY
            self._misfit_count += 1
            pause = self._pause(_REST_FIRST_S, _DOUBT_MAX_S, self._misfit_count) if self._misfit_count > 1 else 0.0
            self._wanted_at = now + pause
            self._set_time()

    def keep_only(self, addresses: Collection[str]) -> None:
        """Forget nodes that can never be asked again."""
        self._tellers = {address: teller for address, teller in self._tellers.items() if address in addresses}
        self._asked_at = {address: at for address, at in self._asked_at.items() if address in addresses}
        self._set_time()

    def _doubt(self, address: str, now: float) -> None:
        """Settle what a node has told, after it has answered or should have: did it keep its word?"""
        teller = self._tellers.get(address)
        if teller is None:
            return
        if teller.version > self._version:
            teller.broken_count += 1
            teller.trusted_from = now + self._pause(_DOUBT_FIRST_S, _DOUBT_MAX_S, teller.broken_count)
            teller.ask_at = teller.trusted_from
        elif teller.version:
            teller.broken_count, teller.trusted_from = 0, -_NEVER
        if address not in self._asked_at:  # it has answered, so what it told is settled
            teller.version = 0

    # -- time -------------------------------------------------------------------------------------------------

    def _pause(self, first: float, longest: float, count: int) -> float:
        return self._dice.uniform(0.5, 1.0) * min(longest, first * 2.0 ** min(count, _DOUBLINGS_MAX))

    def _set_time(self) -> None:
        if self._asked:
            self.at = self._give_up_at
            return
        told = [teller.ask_at for teller in self._tellers.values() if teller.version > self._version]
        self.at = min([self._wanted_at, *told])
