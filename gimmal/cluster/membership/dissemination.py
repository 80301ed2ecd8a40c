"""Dissemination: which rumors ride with the next message.

Epidemic: each node sends each rumor on a bounded number of times, those it has sent least first, and then forgets it;
what a node missed is repaired by the full exchange (`machine`). Gossip, whose receivers are chosen by chance, may send
a rumor to a member twice; with other messages, which go to one member again and again, it rides only once.

News of a member replaces older news of it. Only accusations stand side by side, one for each accuser, because each
shortens the suspicion.

Invariant: what is kept is bounded by the members there are, and a message by a budget of bytes. A rumor that is longer
than the whole budget goes alone.
"""

from operator import attrgetter

from gimmal.cluster.membership.rumor import Rumor, State
from gimmal.wire.codec import pack_tree


class _News:
    """A rumor, its length in bytes, how often it was sent, and to whom."""

    __slots__ = ("receivers", "rumor", "sent", "size_bytes")

    def __init__(self, rumor: Rumor) -> None:
        self.rumor = rumor
        self.size_bytes = len(pack_tree(rumor))
        self.sent = 0
        self.receivers: list[str] = []


_sent = attrgetter("sent")


class Dissemination:
    """What is to be told, and how often it has been."""

    __slots__ = ("_bytes_max", "_news")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._news: dict[str, list[_News]] = {}

    def __bool__(self) -> bool:
        return bool(self._news)

    def __len__(self) -> int:
        return sum(map(len, self._news.values()))

    def add(self, rumor: Rumor) -> None:
        """Take up news, instead of what it makes old: everything else about its member, other accusations excepted.

        A profile that has not been told often enough yet rides with the newer rumor of the same life.
        """
        before = self._news.get(rumor.name, ())
        if rumor.profile is None:
            for news in before:
                if news.rumor.profile is not None and news.rumor.incarnation == rumor.incarnation:
                    rumor = rumor._replace(profile=news.rumor.profile)
        kept = [news for news in before if _stand_side_by_side(news.rumor, rumor)]
        self._news[rumor.name] = [_News(rumor), *kept]

    def take(self, receiver: str, copies_max: int, *, may_repeat: bool) -> tuple[Rumor, ...]:
        """Return the rumors for one message, and count them as sent.

        `copies_max` is how often each is sent in all; with `may_repeat`, also to whom it has been sent already.
        """
        waiting = [
            news for group in self._news.values() for news in group if may_repeat or receiver not in news.receivers
        ]
        if sum([news.size_bytes for news in waiting]) > self._bytes_max:
            waiting.sort(key=_sent)
            waiting = self._fitting(waiting)
        for news in waiting:
            news.sent += 1
            news.receivers.append(receiver)
            if news.sent >= copies_max:
                self._forget(news)
        return tuple([news.rumor for news in waiting])

    def _fitting(self, waiting: list[_News]) -> list[_News]:
        """Return the first, and of the others those that still fit."""
        chosen = waiting[:1]
        room = self._bytes_max - waiting[0].size_bytes
        for news in waiting[1:]:
            if room <= 0:
                break
            if news.size_bytes <= room:
                chosen.append(news)
                room -= news.size_bytes
        return chosen

    def _forget(self, news: _News) -> None:
        group = self._news[news.rumor.name]
        group.remove(news)
        if not group:
            del self._news[news.rumor.name]


def _stand_side_by_side(one: Rumor, other: Rumor) -> bool:
    return one.state is other.state is State.SUSPECT and one[1:3] == other[1:3] and one.accuser != other.accuser
