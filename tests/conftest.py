"""What all tests share: how hard hypothesis tries, and by that how long the everyday run takes."""

import os

from hypothesis import HealthCheck, settings

# No deadline for one example: two workers share a small machine, and pytest's own timeout ends what hangs.
settings.register_profile(
    "everyday", max_examples=100, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", parent=settings.get_profile("everyday"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "everyday"))
