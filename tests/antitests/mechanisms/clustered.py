"""Where the gate is a cluster: one node's silence, and what a node cut off may still do."""

from tests.antitests.antitest import AntiTest, Patch, Server

NODE = "src/adapters/flashsale_redis/nodes.py:Node."
WIRE = "src/adapters/flashsale_redis/cluster.py:ClusterWire."
TESTS = "tests/integration/test_redis_cluster.py::"
HANGING = f"{TESTS}test_a_hanging_primary_holds_its_own_buyers_up_once_and_the_others_never_again"

ANTITESTS = (
    AntiTest(
        name="cluster-node-is-asked-once",
        promise=17,
        mechanism="a node of a cluster that kept silent is not asked again by any buyer",
        where=f"{NODE}run",
        patches=(
            Patch(
                "        if self.is_silent:\n            raise",
                "        if False:\n            raise",
            ),
        ),
        test=HANGING,
        server=Server.REDIS,
    ),
    AntiTest(
        name="cluster-node-is-looked-after",
        promise=17,
        mechanism="behind everybody's back it is found out that it answers again",
        where=f"{NODE}run",
        patches=(Patch("                self._fell_silent(self)\n"),),
        test=HANGING,
        reddens_by="TimeoutError",
        server=Server.REDIS,
    ),
    AntiTest(
        name="cluster-node-is-not-the-gate",
        promise=17,
        mechanism="while other nodes answer, one's silence sends nobody of theirs home",
        where=f"{NODE}_away",
        patches=(Patch("away.was_refused or not self._is_all_silent()", "away.was_refused"),),
        test=f"{TESTS}test_in_a_crowd_the_buyers_of_a_hanging_node_send_nobody_else_home",
        server=Server.REDIS,
    ),
    AntiTest(
        name="cluster-node-fails-alone",
        promise=17,
        mechanism="a call for sales of several nodes is answered by all those that answer",
        where=f"{WIRE}_round",
        patches=(
            Patch(
                "            except Unavailable as away:\n"
                "                for at in share:\n"
                "                    replies[at] = away\n"
                "                return\n",
                "            except Unavailable:\n                raise\n",
            ),
        ),
        test=f"{TESTS}test_a_dead_primary_stops_its_own_sales_alone_until_its_replica_is_there",
        reddens_by="Unavailable",
        server=Server.REDIS,
    ),
    AntiTest(
        name="cluster-cut-off-is-waited-out",
        promise=8,
        mechanism="a rebuild waits as long as a primary may go on that sees no majority",
        where="src/adapters/flashsale_redis/lives.py:_lag_ms",
        patches=(Patch('    if told.get("cluster-enabled") == "yes":\n', "    if False:\n"),),
        test=f"{TESTS}"
        "test_a_life_that_ended_may_be_waited_for_as_long_as_a_cut_off_primary_goes_on",
        server=Server.REDIS,
    ),
)
