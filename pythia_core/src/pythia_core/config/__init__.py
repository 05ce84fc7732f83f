"""What a worker is to run by: what the user said, in whichever place, and where each value came from.

Read :mod:`.worker_config` (what can be said in code), :mod:`.fields` (each setting, its type and bounds), :mod:`.layers`
(the places where it can be said), :mod:`.components` (sources and sinks from options), :mod:`.resolve` (the result).
"""

from pythia_core.config.resolve import Resolved, Row, resolve
from pythia_core.config.worker_config import UNSET, Unset, WorkerConfig

__all__ = ["UNSET", "Resolved", "Row", "Unset", "WorkerConfig", "resolve"]
