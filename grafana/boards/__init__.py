"""The dashboards, in the order in which they link to each other."""

from .overview import OVERVIEW
from .placement import PLACEMENT
from .raft import RAFT
from .router import ROUTER
from .store import STORE

DASHBOARDS = [OVERVIEW, ROUTER, STORE, RAFT, PLACEMENT]
