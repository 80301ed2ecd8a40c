"""What every test shares: how Hypothesis draws, and how a failure of it is replayed.

Two profiles, chosen with `--hypothesis-profile`: `default` for every day, `thorough` for a long look. Neither
has a deadline per example (a shared machine stalls now and then), and both print what reproduces a failure.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "default",
    max_examples=100,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=5_000)
settings.load_profile("default")
