"""Where two logs part, compared with a model that compares them entry by entry.

The logs are made as they are in life: an epoch has one writer, who begins with a part of the log of some copy; what a
copy appends of an epoch is what its writer has, without a gap; and any copy may be cut back, or forget its beginning.
"""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gimmal.replication.log import Log
from gimmal.types import Entry
from gimmal.wire import commands


@dataclass
class Copy:
    """A log, and the list of all its entries, forgotten ones too."""

    log: Log = field(default_factory=Log)
    entries: list[Entry] = field(default_factory=list)

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)
        assert self.log.append(entry) == len(self.entries)

    def truncate(self, last: int) -> None:
        del self.entries[last:]
        self.log.truncate(last)

    def check(self) -> None:
        log = self.log
        assert log.entries == self.entries[log.base :]
        assert log.last == len(self.entries)
        assert log.size_bytes == sum(log.sizes)
        assert len(log.sizes) == len(log.entries)
        epochs = [0, *(entry[0] for entry in self.entries)]
        assert [log.epoch_at(seq) for seq in range(log.base, log.last + 1)] == epochs[log.base :]
        ends = {epochs[seq]: seq for seq in range(log.base, log.last + 1)}
        assert log.history() == tuple(ends.items())


def common_prefix(one: list[Entry], other: list[Entry]) -> int:
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return place
    return min(len(one), len(other))


@given(st.data())
def test_logs_part_where_their_entries_differ(data: st.DataObject) -> None:
    copies = [Copy() for _ in range(3)]
    count = 0
    for epoch in range(1, data.draw(st.integers(1, 6))):
        writer, *others = data.draw(st.permutations(copies))
        writer.truncate(data.draw(st.integers(writer.log.base, len(writer.entries))))
        for _ in range(data.draw(st.integers(0, 3))):
            count += 1
            writer.append((epoch, count, 0, 0, 0, (commands.NOOP,)))
        for other in others:
            common = common_prefix(writer.entries, other.entries)
            if other.log.base <= common and data.draw(st.booleans()):
                other.truncate(common)
                upto = data.draw(st.integers(common, len(writer.entries)))
                for entry in writer.entries[common:upto]:
                    other.append(entry)
        for copy in copies:
            copy.log.forget(data.draw(st.integers(0, len(copy.entries)) | st.just(0)))
            copy.check()
    for one in copies:
        for other in copies:
            common = common_prefix(one.entries, other.entries)
            found = one.log.last_common(other.log.history())
            if found is not None:
                assert found == common
            else:
                assert common < one.log.base or common < other.log.base
