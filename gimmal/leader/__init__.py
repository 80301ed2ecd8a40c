"""What the leader of a partition knows and never logs: when keys are due, who was used last, how full the node is.

Everything here only proposes commands; state changes when they come back committed.
"""
