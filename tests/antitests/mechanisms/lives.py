"""The lives of a gate: what makes one that lost its memory refuse."""

from tests.antitests.antitest import AntiTest, Patch, Server

LUA = "lua/stock_gate.lua:"
REDIS_GATE = "tests/integration/test_redis_gate.py::"
ON_REDIS = f"{REDIS_GATE}TestRedisStockGate::"
LIVES_ON_REDIS = f"{REDIS_GATE}TestRedisGateLives::"

ANTITESTS = (
    AntiTest(
        name="function-memory",
        promise=7,
        mechanism="an epoch is armed in the function's memory, which no restart survives",
        where=f"{LUA}armed_sale",
        patches=(Patch("  if armed[keys[1]] ~= epoch then return nil end\n"),),
        test=f"{REDIS_GATE}test_a_redis_that_restarted_with_all_its_keys_sells_nothing",
        server=Server.REDIS,
    ),
    AntiTest(
        name="epoch-in-key",
        promise=7,
        mechanism="the key names the epoch too: function memory outlives FLUSHALL and a demotion",
        where=f"{LUA}sale_of",
        patches=(
            Patch(
                "  if not h[1] or tonumber(h[1]) ~= epoch then return nil end",
                "  if not h[1] then return nil end",
            ),
        ),
        test=f"{REDIS_GATE}test_a_demoted_primary_that_learned_of_the_next_life_sells_nothing",
        server=Server.REDIS,
    ),
    AntiTest(
        name="load-token",
        promise=8,
        mechanism="chunks and arming need the token of the load that is open",
        where=f"{LUA}open_load",
        patches=(Patch("not load or load[2] ~= token then", "not load then"),),
        test=f"{ON_REDIS}test_without_the_loads_token_nothing_is_loaded_or_armed",
        server=Server.REDIS,
    ),
    AntiTest(
        name="books-compared",
        promise=8,
        mechanism="a gate is armed only when its books are those that the database expects",
        where=f"{LUA}arm",
        patches=(Patch("if expected[i] ~= seen[i] then", "if false then"),),
        test=f"{ON_REDIS}test_books_that_differ_are_not_armed",
        server=Server.REDIS,
    ),
    AntiTest(
        name="armed-is-not-reloaded",
        promise=8,
        mechanism="a gate that is armed is not loaded again under the same epoch",
        where=f"{LUA}begin_load",
        patches=(Patch("  if armed_sale(keys, epoch) then return 0 end\n"),),
        test=f"{ON_REDIS}test_an_armed_epoch_is_not_loaded_again",
        server=Server.REDIS,
    ),
    AntiTest(
        name="lower-epoch-is-refused",
        promise=8,
        mechanism="an epoch below the key's is never loaded",
        where=f"{LUA}begin_load",
        patches=(Patch("  if known > epoch then return unarmed(keys) end\n"),),
        test=f"{ON_REDIS}test_a_higher_epoch_disarms_and_a_lower_one_is_refused",
        server=Server.REDIS,
    ),
    AntiTest(
        name="disarm-writes-the-key",
        promise=8,
        mechanism="ending a life raises the epoch in the key, so it can never be loaded again",
        where=f"{LUA}disarm",
        patches=(Patch("    redis.call('HSET', keys[1], 'epoch', args[1])\n"),),
        test=f"{LIVES_ON_REDIS}test_an_earlier_life_can_never_be_loaded_again",
        server=Server.REDIS,
    ),
    AntiTest(
        name="disarm-ends-the-load",
        promise=8,
        mechanism="ending a life ends a load of it that is open",
        where=f"{LUA}disarm",
        patches=(
            Patch(
                "    armed[keys[1]] = nil\n    loading[keys[1]] = nil\n"
                "    redis.call('HSET', keys[1], 'epoch', args[1])\n",
                "    armed[keys[1]] = nil\n",
            ),
        ),
        test=f"{LIVES_ON_REDIS}test_a_load_that_was_open_is_ended_too",
        server=Server.REDIS,
    ),
    AntiTest(
        name="adopt-only-a-living-epoch",
        promise=8,
        mechanism="a new version arms itself only under the epoch that the key still names",
        where=f"{LUA}adopt",
        patches=(Patch("  if not sale_of(keys, epoch) then return 0 end\n  armed", "  armed"),),
        test=f"{REDIS_GATE}test_a_version_adopts_no_life_that_was_ended_meanwhile",
        server=Server.REDIS,
    ),
    AntiTest(
        name="adopt-on-one-connection",
        promise=8,
        mechanism="a new version asks and arms on one connection: no restart comes in between",
        where="src/adapters/flashsale_redis/lives.py:RedisLives._adopted",
        patches=(
            Patch(
                "        replies = await server.run(\n"
                '            [self._call("armed_epoch", sale[0], of=version) '
                "for sale, version in questions],\n"
                "            adopt_what_is_armed,\n"
                "            deadline_s=LOAD_DEADLINE_S,\n"
                "        )\n",
                "        asked = await server.run(\n"
                '            [self._call("armed_epoch", sale[0], of=version) '
                "for sale, version in questions]\n"
                "        )\n"
                "        further = adopt_what_is_armed(asked)\n"
                "        replies = await self._wire.run(further) if further else []\n",
            ),
        ),
        test=f"{REDIS_GATE}test_what_was_armed_before_a_restart_is_not_adopted_after_it",
        server=Server.REDIS,
    ),
)
