"""Settings that all tests share."""

from hypothesis import settings

# The same examples in every run, and no verdict by the clock: machines are shared.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")
