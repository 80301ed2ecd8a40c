"""The cluster as its members and clients see it. `table` is the one part that clients share."""
