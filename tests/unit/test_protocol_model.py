"""The protocol's model holds in its short scenes, and no rule of it can be left out.

`make model` searches the long scenes; docs/model/README.md says what is modelled.
"""

from dataclasses import replace
from functools import cache

import pytest

from docs.model.protocol import lost
from docs.model.scene import RULES, Rules, Scene, beginning
from docs.model.scenes import BELTS, FAILBACK_WHEN_CUT_OFF, SHORT, STUCK_WITHOUT, WITHOUT, without
from docs.model.search import Found, Search, StatesMaxReachedError
from docs.model.world import put

pytestmark = pytest.mark.model

STATES_MAX = 100_000
"""Some seconds: a short scene that grew beyond it is no longer short."""
STATES_MIN = {
    "one loss and a zombie": 8_000,
    "one loss, and a rebuild that crashes or loses its lock": 15_000,
    "two losses": 7_000,
    "a request from outside with an id of its own": 11_000,
    "a request from outside with a buyer's id": 12_000,
    "payments that may be declined": 6_000,
    "two inits at once, and a loss": 2_000,
    "a message that fails for an unknown reason": 9_000,
    "two partitions": 1_000,
    "two units, three buyers": 13_000,
    "API processes cut off from the database, a rebuild that loses its lock": 12_000,
}
"""A search that meets far fewer states than when it was written no longer does what it did."""


@pytest.mark.parametrize("scene", SHORT, ids=lambda scene: scene.name)
def test_the_protocol_keeps_every_promise_and_leaks_no_unit(scene: Scene) -> None:
    """Guarantee: no order of events within the scene's bounds breaks a property.

    And from every state the way to a quiet one is open: nothing waits for ever.
    """
    found = Search(scene, states_max=STATES_MAX, finds_stuck=True).run()

    assert (found.violation, found.trace, found.stuck) == (None, (), 0)
    assert found.quiet > 0
    assert found.states >= STATES_MIN[scene.name]


@cache
def whole_search(scene: Scene) -> Found:
    """Search a scene with all rules in, once for all rules that share it."""
    return Search(scene, states_max=STATES_MAX).run()


@pytest.mark.parametrize("rule", WITHOUT)
def test_a_promise_is_broken_without_the_rule(rule: str) -> None:
    """Guarantee: each rule is needed; left out, the search finds a buyer who was told ACCEPTED.

    In the very same scene nothing happens while the rule is in.
    """
    broken = Search(without(rule), states_max=STATES_MAX, promises_only=True).run()
    whole = whole_search(WITHOUT[rule])

    assert broken.violation is not None
    assert "was answered ACCEPTED" in broken.violation
    assert len(broken.trace) > 1
    assert whole.violation is None, whole.trace


@pytest.mark.parametrize("rule", STUCK_WITHOUT)
def test_something_waits_for_ever_without_the_rule(rule: str) -> None:
    """Guarantee: the search sees a state from which no quiet one can be reached."""
    waiting = Search(without(rule), states_max=STATES_MAX, finds_stuck=True).run()
    whole = Search(STUCK_WITHOUT[rule], states_max=STATES_MAX, finds_stuck=True).run()

    assert waiting.stuck > 0
    assert (whole.violation, whole.stuck) == (None, 0)


def test_every_rule_is_left_out_once() -> None:
    """Guarantee: a rule that is added to the model comes with what happens without it."""
    assert sorted([*WITHOUT, *STUCK_WITHOUT, *BELTS]) == sorted(RULES)
    assert Rules() == Rules(**dict.fromkeys(RULES, True))


def test_a_fence_in_the_keys_would_close_the_known_limit() -> None:
    """Guarantee: README's known limit is what the model finds, and so is the way out of it."""
    proposed = replace(FAILBACK_WHEN_CUT_OFF, disarms_keys=True)

    assert Search(FAILBACK_WHEN_CUT_OFF, states_max=STATES_MAX).run().violation is not None
    assert Search(proposed, states_max=STATES_MAX).run().violation is None


def test_a_search_that_grows_too_large_proves_nothing() -> None:
    """Guarantee: an unfinished search raises, and is never taken for one that found nothing."""
    with pytest.raises(StatesMaxReachedError, match="over 10 states"):
        Search(SHORT[0], states_max=10).run()


def test_a_promise_without_a_row_is_lost() -> None:
    """Guarantee: the property itself can see."""
    start = beginning(SHORT[0])

    assert lost(start) is None
    assert lost(start._replace(promised=put(start.promised, 0, "A"))) is not None
