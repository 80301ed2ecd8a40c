"""How the copies of one partition stay equal: every write becomes a log entry, and only commits change state."""
