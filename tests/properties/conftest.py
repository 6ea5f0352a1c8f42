"""Hypothesis as it suits a machine that others use too."""

from hypothesis import settings

# How long an example takes is the bench's business: here a busy neighbour must fail nothing.
settings.register_profile("backstop", deadline=None)
settings.load_profile("backstop")
