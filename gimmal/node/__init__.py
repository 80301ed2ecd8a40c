"""A node: the wiring of the machines (`core`), and the shell that gives them sockets, a clock and settings."""
