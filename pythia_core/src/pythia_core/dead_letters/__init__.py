"""Dead letters after the engine has written them: found, read, selected, and sent back to where they came from."""

from pythia_core.dead_letters.place import Place, place_of
from pythia_core.dead_letters.reading import DeadLetter, Selection, parse_since
from pythia_core.dead_letters.replay import Replay, Report
from pythia_core.dead_letters.showing import look

__all__ = ["DeadLetter", "Place", "Replay", "Report", "Selection", "look", "parse_since", "place_of"]
