"""What every test gets: Hypothesis profiles, the event loops, the brokers."""

import os

import pytest
from hypothesis import Phase, settings

pytest_plugins = ["tests.servers.fixtures"]

# No deadline: a shared machine's hiccup is not a bug. HYPOTHESIS_PROFILE=thorough before a release.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "mutants", deadline=None, phases=[Phase.explicit, Phase.generate]
)  # found is enough, however long
settings.register_profile("thorough", deadline=None, max_examples=10_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run an async test on both event loops; a broker's tests override this with asyncio, as their clients demand."""
    return str(request.param)
