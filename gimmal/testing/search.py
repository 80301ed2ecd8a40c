"""The search for an order of one key's operations that explains all answers.

This is the algorithm of Wing and Gong: take, again and again, an operation that could be the next to take effect, and
go back when that leads nowhere; with the memory of Lowe: never go on twice from the same **configuration**, which is
the set of operations that have taken effect, and the state. The order of the search is Lowe's just-in-time one: nothing
takes effect before it must, which is when somebody is answered (but what changes nothing takes effect as soon as it
can). So a configuration is an event, a few bits and a state, however long the history. The stack is a list.

Some rules throw configurations away without losing an order:

- of two that differ only in which unanswered writes are used up, the one that used fewer can do all that the other can;
- unanswered writes are taken only where `timeline` says that they could matter;
- what was written only once is not overwritten while somebody who reads it has not yet begun;
- a set that nobody sees may, where only values are seen, take effect just before any other one;
- when an operation was alone, settles the state, and no unanswered write is used up, all earlier choices are closed.

Sources: J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects", Journal of Parallel and Distributed
Computing 17 (1993). G. Lowe, "Testing for Linearizability", Concurrency and Computation: Practice and Experience 29
(2017).
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

from gimmal.testing import register
from gimmal.testing.register import ABSENT, UNTOLD, State, Step, named_version
from gimmal.testing.timeline import SETTLED, OpenGroup, Timeline
from gimmal.testing.violation import Undecided

Configuration: TypeAlias = tuple[int, State, int, int, bool]
"""The next event; the state; bits of operations under way that took effect; bits of unanswered writes that did; and
whether the answered operation has been tried first already, so that the others are due."""

START: Final[Configuration] = (0, ABSENT, 0, 0, False)


class Search:
    """One search over the first `until` events of a timeline, from their beginning or a later configuration.

    `max_steps` bounds the configurations looked at, beyond the one that each event needs.
    """

    def __init__(
        self, timeline: Timeline, max_steps: int, until: int | None = None, start: Configuration = START
    ) -> None:
        self._timeline = timeline
        self._until = len(timeline.events) if until is None else until
        self._steps_left = max_steps + self._until
        self._stack: list[Configuration] = [start]
        self._known: dict[tuple[int, int, State], list[int]] = {}
        self.settled = start
        """The last configuration that every order passes, or could as well."""
        self.furthest = 0
        """The last event that was reached and not passed. Without the events after it, it might be: see the rules."""
        self._needed_until = timeline.needed_until(self._until)
        self._last_states: dict[State, None] | None = None

    def succeeds(self) -> bool:
        """Say whether there is an order.

        Raises:
            Undecided: the budget is used up.
        """
        while self._stack:
            configuration = self._stack.pop()
            if configuration[4]:
                self._expand(*configuration[:4])
            elif self._follow(*configuration[:4]):
                return True
        return False

    def last_states(self) -> list[State]:
        """Return all states in which the key can be after the events.

        Raises:
            Undecided: the budget is used up.
        """
        self._last_states = {}
        self.succeeds()
        return list(self._last_states)

    def _follow(self, at: int, state: State, done: int, used: int) -> bool:
        """Go from event to event while there is a way; say whether the end was reached."""
        timeline = self._timeline
        events, steps, bits, is_pure = timeline.events, timeline.steps, timeline.bits, timeline.is_pure
        while at < self._until:
            number = events[at]
            if number >= 0:
                if is_pure[number]:
                    step = steps[number]
                    if step.effect(state, step.argument, step.answer) is state:
                        done |= bits[number]
                at += 1
                continue
            if done & bits[~number]:
                done ^= bits[~number]
            else:
                passed = self._pass(~number, at, state, done, used)
                if passed is None:
                    break
                state, done = passed
            if timeline.rest_at[at] and self._rests(at, state, used):
                break
            if not self._stack:
                self._known.clear()  # nobody comes back to before this event
            at += 1
        else:
            if self._last_states is None:
                return True
            self._last_states[state] = None
        self.furthest = max(self.furthest, at)
        return False

    def _pass(self, number: int, at: int, state: State, done: int, used: int) -> tuple[State, int] | None:
        """Let an operation take effect right before its answer; return the state and what is done then.

        If anything else could be tried before it, that is put on the stack.
        """
        timeline = self._timeline
        step = timeline.steps[number]
        if not timeline.others_at[at]:
            is_open_useful = timeline.is_pure[number] or not timeline.is_plain
            if at < timeline.first_open_at or not is_open_useful:
                after = self._apply(step, at, state, done, used)
                return None if after is None else (after, done)
        if self._is_known(at, state, done, used):
            return None
        after = self._apply(step, at, state, done, used)
        if after is None:
            self._expand(at, state, done, used)
            return None
        self._stack.append((at, state, done, used, True))
        return after, self._with_pure(at, after, done, used) & ~timeline.bits[number]

    def _rests(self, at: int, state: State, used: int) -> bool:
        """Use an event after which nothing is under way; say whether all that follows was tried from there."""
        if self._timeline.rest_at[at] == SETTLED and not used:
            self._stack.clear()
            self.settled = (at + 1, state, 0, 0, False)
            return False
        return bool(self._stack) and self._is_known(at + 1, state, 0, used)

    def _is_known(self, at: int, state: State, done: int, used: int) -> bool:
        """Say whether one that can do as much was met before; if not, remember this one."""
        self._steps_left -= 1
        if self._steps_left < 0:
            raise Undecided(f"no answer within the budget; event {at} of {self._until} was reached")
        met = self._known.setdefault((at, done, state), [])
        if any(not other & ~used for other in met):
            return True
        met.append(used)
        return False

    def _expand(self, at: int, state: State, done: int, used: int) -> None:
        """Put on the stack what else could take effect before the answer at an event; the most promising on top."""
        timeline = self._timeline
        answered = ~timeline.events[at]
        promising: list[Configuration] = []

        def consider(after: State, done: int, used: int) -> None:
            done = self._with_pure(at, after, done, used)
            explains = (
                done & timeline.bits[answered]
                or self._apply(timeline.steps[answered], at, after, done, used) is not None
            )
            (promising if explains else self._stack).append((at, after, done, used, False))
            self._steps_left -= 1

        for group in self._open_groups(at, done):
            bit = next((bit for begun_at, bit in group.members if not used & bit and begun_at < at), 0)
            after = self._apply(group.step, at, state, done, used) if bit else None
            if after is not None and after != state:
                consider(after, done, used | bit)
        for number in timeline.others_at[at]:
            if not done & timeline.bits[number]:
                after = self._apply(timeline.steps[number], at, state, done, used)
                if after is not None:
                    consider(after, done | timeline.bits[number], used)
        self._stack += promising

    def _open_groups(self, at: int, done: int) -> Iterable[OpenGroup]:
        """Return the unanswered writes that could matter to what is under way."""
        timeline = self._timeline
        if not timeline.open_groups:
            return ()
        around = (~timeline.events[at], *timeline.others_at[at])
        return timeline.wanted([timeline.steps[number] for number in around if not done & timeline.bits[number]])

    def _apply(self, step: Step, at: int, state: State, done: int, used: int) -> State | None:
        """Return the state after a step, or None where it cannot have been."""
        after = step.effect(state, step.argument, step.answer)
        if after is None:
            return None
        if self._needed_until.get(state[0], at) > at and after[0] != state[0]:
            return None  # somebody is going to read it, and nobody will write it again
        if self._timeline.has_versions and isinstance(state[1], frozenset):
            if step.effect is register.other_version and self._is_told(step.argument, at, done, used):
                return state  # it had belonged to an earlier write
            version = named_version(step)
            if version is not None and self._is_told(version, at, done, used):
                return None
        return after

    def _is_told(self, version: object, at: int, done: int, used: int) -> bool:
        """Say whether an operation that has taken effect named a version."""
        timeline = self._timeline
        if timeline.first_told.get(version, at) < at or timeline.open_named.get(version, 0) & used:
            return True
        around = (~timeline.events[at], *timeline.others_at[at])
        return any(done & timeline.bits[number] and timeline.named[number] == version for number in around)

    def _with_pure(self, at: int, state: State, done: int, used: int) -> int:
        """Return `done` with everything under way that makes no difference: before the write that led here, or now."""
        timeline = self._timeline
        if state[1] == UNTOLD and self._last_states is None:
            for number in (~timeline.events[at], *timeline.others_at[at]):
                if timeline.is_idle[number]:
                    done |= timeline.bits[number]
        for number in (~timeline.events[at], *timeline.others_at[at]):
            is_due = timeline.is_pure[number] and not done & timeline.bits[number]
            if is_due and self._apply(timeline.steps[number], at, state, done, used) is state:
                done |= timeline.bits[number]
        return done
