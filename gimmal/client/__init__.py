"""The client: a session that decides (`session`), calls (`calls`, `commands`), and two shells around it.

`sync.Client` and `aio.AsyncClient` are thin: they turn arguments into a `Call`, hand it to the session, and wait.
"""
