"""The state of one partition and the pure function that changes it. No clock, no limit, no recency, no I/O."""
