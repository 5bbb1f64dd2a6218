"""The explorer: every state that can be reached, each once, the nearest first."""

from array import array
from dataclasses import dataclass

from .fulfilling import reads_barrier
from .protocol import chances, duties, leaked, lost, unproven, wrong
from .scene import Scene, beginning
from .world import World

STATES_MAX = 5_000_000
"""About 2 GB: no scene of ours comes near."""


class StatesMaxReachedError(RuntimeError):
    """The scene is larger than the caller wanted to wait for: nothing was proved."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to."""

    states: int
    quiet: int
    violation: str | None = None
    trace: tuple[str, ...] = ()
    stuck: int = 0
    """States from which no quiet one can be reached."""


class _Seen:
    """Exact and small: a state is a tuple of the numbers that its parts were given."""

    def __init__(self) -> None:
        self._parts: list[dict[object, int]] = [{} for _ in World._fields]
        self._states: dict[bytes, int] = {}

    def add(self, world: World) -> tuple[int, bool]:
        """Give a state its number; tell whether it is new."""
        parts = zip(self._parts, world, strict=True)
        key = array("I", [known.setdefault(part, len(known)) for known, part in parts]).tobytes()
        at = len(self._states)
        number = self._states.setdefault(key, at)
        return number, number == at

    def __len__(self) -> int:
        return len(self._states)


class Search:
    """Breadth first, so that a counterexample is as short as any."""

    def __init__(
        self,
        scene: Scene,
        *,
        states_max: int = STATES_MAX,
        promises_only: bool = False,
        finds_stuck: bool = False,
    ) -> None:
        """Take the scene and what to look for.

        `states_max` ends a search that grew beyond what was meant. `promises_only`: look for a
        unit sold twice and a promise broken alone, not for leaks, and leave out what follows a
        GATE_DRIFT of a purchase that nobody was promised. `finds_stuck`: see that a quiet state
        can be reached from everywhere.
        """
        self._scene = scene
        self._states_max = states_max
        self._promises_only = promises_only
        self._finds_stuck = finds_stuck
        self._seen = _Seen()
        self._parents = array("I")
        self._steps = array("I")
        self._names: dict[str, int] = {}
        self._edges = (array("I"), array("I"))
        self._quiet: list[int] = []

    def run(self) -> Found:
        """Search until a property fails or nothing new is left."""
        frontier = [self._reach(beginning(self._scene), 0, "")]
        while frontier:
            following = []
            for number, world in frontier:
                told = wrong(world, self._scene)
                if told is None and unproven(world):
                    if self._promises_only:
                        continue
                    told = unproven(world)
                is_quiet, steps = self._steps_of(world)
                if told is None and is_quiet:
                    self._quiet.append(number)
                    told = lost(world) or (None if self._promises_only else leaked(world))
                if told is not None:
                    return self._found(told, number)
                reached = len(self._seen)
                for step, after in steps:
                    one = self._reach(after, number, step)
                    if one[0] >= reached:
                        reached += 1
                        following.append(one)
            if len(self._seen) > self._states_max:
                raise StatesMaxReachedError(f"{self._scene.name}: over {self._states_max} states")
            frontier = following
        stuck = self._count_stuck() if self._finds_stuck else 0
        return Found(states=len(self._seen), quiet=len(self._quiet), stuck=stuck)

    def _steps_of(self, world: World) -> tuple[bool, list[tuple[str, World]]]:
        """List the successors, and tell whether nothing goes on by itself."""
        read = reads_barrier(world)
        if read is not None:
            return False, [read]
        steps = list(duties(world, self._scene))
        is_quiet = not steps
        steps += chances(world, self._scene)
        return is_quiet, steps

    def _reach(self, world: World, parent: int, step: str) -> tuple[int, World]:
        number, is_new = self._seen.add(world)
        if is_new:
            self._parents.append(parent)
            self._steps.append(self._names.setdefault(step, len(self._names)))
        if self._finds_stuck:
            self._edges[0].append(parent)
            self._edges[1].append(number)
        return number, world

    def _found(self, told: str, number: int) -> Found:
        names = list(self._names)
        trace: list[str] = []
        while number:
            trace.append(names[self._steps[number]])
            number = self._parents[number]
        return Found(
            states=len(self._seen),
            quiet=len(self._quiet),
            violation=told,
            trace=tuple(reversed(trace)),
        )

    def _count_stuck(self) -> int:
        """Go back from the quiet states along all edges; count what that does not meet."""
        into: list[list[int]] = [[] for _ in range(len(self._seen))]
        for begin, end in zip(*self._edges, strict=True):
            into[end].append(begin)
        met = bytearray(len(self._seen))
        waiting = list(self._quiet)
        while waiting:
            number = waiting.pop()
            if not met[number]:
                met[number] = 1
                waiting += into[number]
        return met.count(0)
