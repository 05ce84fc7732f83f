"""Workers that do not fit into their container are refused at start, not killed by the kernel under load."""

import pytest

from pythia_core import ConfigError
from pythia_core.memory import refuse_too_much

GIB = 1 << 30


@pytest.mark.parametrize(("megabytes", "processes"), [(806, 1), (403, 2), (None, 1000)])
def test_what_fits_is_let_through(megabytes: int | None, processes: int) -> None:
    """85 % of a GiB are 870 MiB, and the supervisor has 64 of them."""
    refuse_too_much(megabytes, processes, GIB)


@pytest.mark.parametrize(("megabytes", "processes"), [(807, 1), (404, 2)])
def test_what_does_not_fit_is_refused_with_the_sum(megabytes: int, processes: int) -> None:
    """The error says what was asked for and what there is."""
    with pytest.raises(
        ConfigError, match=r"are 87\d MiB, but this container may use 1024, of which 85 % are 870"
    ):
        refuse_too_much(megabytes, processes, GIB)
