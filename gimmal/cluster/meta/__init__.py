"""The meta group: who the nodes are and who leads what, decided by one small Raft group.

`commands` says what can be asked for, `rows` how a partition's row changes, `state` is the deterministic state
machine that makes a table out of the log, `group` joins it to Raft, `steward` is what only the group's leader does: it
finds out who has to be fenced and who should vote. `contact` is the other side: how any node reaches the group.
"""
