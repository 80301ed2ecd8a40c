"""Messages about copies, and entries of their logs, as text."""

from typing import Final

from gimmal.types import Entry
from gimmal.wire import commands
from gimmal.wire.peer_messages import (
    Append,
    AppendAck,
    Confirm,
    Confirmed,
    Histories,
    PeerMessage,
    SnapshotAck,
    SnapshotChunk,
)
from tests.unit.holdings_group import Letter

_NAMES: Final = {
    commands.NOOP: "no-op",
    commands.OPEN_SESSION: "opening of a session",
    commands.CLOSE_SESSION: "end of a session",
}


def entry_text(entry: Entry) -> str:
    epoch, _, session, number, _, command = entry
    what = f"operation {number}" if session else _NAMES.get(command[0]) or command[1].decode()
    return f"{what} (epoch {epoch})"


def described(letter: Letter) -> str:
    return f"{letter.source} -> {letter.target}: {saying_of(letter.message)}"


def saying_of(message: PeerMessage) -> str:
    match message:
        case Append(alignments=alignments, sections=sections):
            parts = [f"epoch {epoch}, cut back to {seq} (epoch {at})" for _, epoch, seq, at in alignments]
            for _, epoch, prev, prev_epoch, commit, entries in sections:
                what = "; ".join(f"{seq} {entry_text(entry)}" for seq, entry in enumerate(entries, prev + 1))
                behind = f"after {prev} (epoch {prev_epoch}): {what or 'nothing'}; committed is {commit}"
                parts.append(behind if parts else f"epoch {epoch}, {behind}")
            return "; ".join(parts)
        case AppendAck(refused=refused):
            return "refused" if refused else "I have that"
        case Histories(histories=histories):
            ((_, epoch, history),) = histories
            reach = ", ".join(f"epoch {known} to {seq}" for known, seq in history)
            return f"in epoch {epoch} I have {reach}"
        case SnapshotChunk(epoch=epoch, base=base, base_epoch=base_epoch, index=index, is_last=is_last):
            last = ", the last" if is_last else ""
            return f"epoch {epoch}, snapshot after {base} (epoch {base_epoch}), chunk {index}{last}"
        case SnapshotAck(base=base, is_complete=True):
            return f"the snapshot after {base} is mine"
        case SnapshotAck(base=base, index=index):
            return f"of the snapshot after {base} I have {index} chunks"
        case Confirm(epochs=((_, epoch),)):
            return f"do I lead still, in epoch {epoch}?"
        case Confirmed(refused=refused):
            return "not any more" if refused else "as far as I know"
    raise AssertionError(f"no message about copies: {message}")
