"""Against clients that ask too often, too much or too slowly, or say they are somebody else."""

from tests.antitests.antitest import AntiTest, Patch, Server

LUA = "lua/stock_gate.lua:"
WINDOW = "src/adapters/flashsale_memory/rates.py:Window."
ON_REDIS = "tests/integration/test_redis_gate.py::TestRedisGateRates::"
IN_MEMORY = "tests/unit/test_memory_gate.py::TestMemoryGateRates::"
HTTP = "src/entrypoints/flashsale/http/"
BOUNDS = f"{HTTP}bounds.py:BoundedProtocol."
BOUNDED = "tests/unit/test_http_bounds.py::"
IN_ONE_PIECE = f"{BOUNDED}test_a_head_beyond_its_bounds_is_refused_also_in_one_piece"
ADDRESSES = "tests/unit/test_http_addresses.py::"

ANTITESTS = (
    # ── too often ───────────────────────────────────────────────────────────────────────────────
    AntiTest(
        name="rate-per-user",
        promise=19,
        mechanism="one user's new purchases in a window are counted in the call that takes units",
        where=f"{LUA}limited",
        patches=(Patch("is_over(window, user, window.per_user) or ", ""),),
        test=f"{ON_REDIS}test_one_user_is_limited_and_nobody_else",
        server=Server.REDIS,
    ),
    AntiTest(
        name="rate-per-user-in-memory",
        promise=19,
        mechanism="the same in the memory gate",
        where=f"{WINDOW}_counted",
        patches=(Patch("        if self.limits.per_user:\n", "        if False:\n"),),
        test=f"{IN_MEMORY}test_one_user_is_limited_and_nobody_else",
    ),
    AntiTest(
        name="rate-per-address",
        promise=19,
        mechanism="one address's are counted too, whoever its users are",
        where=f"{LUA}limited",
        patches=(Patch(" or is_over(window, address, per_address)", ""),),
        test=f"{ON_REDIS}test_one_address_is_limited_whoever_its_users_are",
        server=Server.REDIS,
    ),
    AntiTest(
        name="rate-per-address-in-memory",
        promise=19,
        mechanism="the same in the memory gate",
        where=f"{WINDOW}_counted",
        patches=(
            Patch(
                "        if self.limits.per_address and claim.address is not None:\n",
                "        if False:\n",
            ),
        ),
        test=f"{IN_MEMORY}test_one_address_is_limited_whoever_its_users_are",
    ),
    AntiTest(
        name="rate-after-duplicate-check",
        promise=19,
        mechanism="a retry of a known purchase is never limited, and counts for nothing",
        where=f"{LUA}judge",
        patches=(
            Patch(
                "  local known = books.records[id]\n",
                "  local early = books.window and limited(books.window, claim)\n"
                "  if early then return early end\n"
                "  local known = books.records[id]\n",
            ),
            Patch("  local too_many = books.window and limited(books.window, claim)\n"),
            Patch("  if too_many then return too_many end\n"),
        ),
        test=f"{ON_REDIS}test_a_retry_of_a_known_purchase_is_never_limited",
        server=Server.REDIS,
    ),
    AntiTest(
        name="rate-after-duplicate-check-in-memory",
        promise=19,
        mechanism="the same in the memory gate",
        where="src/adapters/flashsale_memory/gate.py:MemoryStockGate._claim",
        patches=(
            Patch(
                "        known = ledger.records.get(request.purchase_id)\n"
                "        if known is not None:\n",
                "        if ledger.window is not None and door is Door.HTTP:\n"
                "            early = ledger.window.refuse(claim, self._clock.now_ms())\n"
                "            if early is not None:\n"
                "                return early\n"
                "        known = ledger.records.get(request.purchase_id)\n"
                "        if known is not None:\n",
            ),
            Patch(
                "        if ledger.window is not None and door is Door.HTTP:\n"
                "            limited = ledger.window.refuse(claim, now_ms)\n"
                "            if limited is not None:\n"
                "                return limited\n"
            ),
        ),
        test=f"{IN_MEMORY}test_a_retry_of_a_known_purchase_is_never_limited",
    ),
    AntiTest(
        name="rate-of-buyers-alone",
        promise=19,
        mechanism="what workers bring was promised, or waits in a topic, and is never limited",
        where="src/adapters/flashsale_redis/gate.py:RedisStockGate._reserve",
        patches=(
            Patch(
                "if self._rates is not None and batch.door is Door.HTTP:",
                "if self._rates is not None:",
            ),
        ),
        test=f"{ON_REDIS}test_workers_are_never_limited",
        server=Server.REDIS,
    ),
    AntiTest(
        name="rate-window-is-bounded",
        promise=19,
        mechanism="invented names neither fill the gate's memory nor lock anybody out",
        where=f"{LUA}count",
        patches=(Patch("    if window.room <= 0 then return end\n"),),
        test=f"{ON_REDIS}test_a_full_window_lets_in_who_is_new_and_limits_who_is_known",
        server=Server.REDIS,
    ),
    AntiTest(
        name="rate-window-expires",
        promise=19,
        mechanism="the counts are one key that expires, from its first purchase on",
        where=f"{LUA}close_window",
        patches=(
            Patch(
                "  if window.left < 0 then redis.call('PEXPIRE'",
                "  if false then redis.call('PEXPIRE'",
            ),
        ),
        test=f"{ON_REDIS}test_the_counts_are_one_key_that_expires_and_the_only_place_of_an_address",
        server=Server.REDIS,
    ),
    # ── somebody else ───────────────────────────────────────────────────────────────────────────
    AntiTest(
        name="forwarded-by-trusted-alone",
        promise=19,
        mechanism="X-Forwarded-For is believed of trusted proxies alone",
        where=f"{HTTP}addresses.py:Addresses.__call__",
        patches=(Patch("if self._trusted and self._is_trusted(peer):", "if self._trusted:"),),
        test=f"{ADDRESSES}test_the_right_most_hop_that_is_no_proxy_of_ours_counts",
    ),
    AntiTest(
        name="forwarded-is-off",
        promise=19,
        mechanism="and of nobody where none is named",
        where=f"{HTTP}addresses.py:Addresses.__call__",
        patches=(
            Patch(
                "if self._trusted and self._is_trusted(peer):",
                "if not self._trusted or self._is_trusted(peer):",
            ),
        ),
        test=f"{ADDRESSES}test_without_trusted_proxies_nobodys_word_is_taken",
    ),
    AntiTest(
        name="strangers-own-word",
        promise=19,
        mechanism="what stands left of the first stranger is his own word, and is not looked at",
        where=f"{HTTP}addresses.py:Addresses._forwarded",
        patches=(Patch("for hop in reversed(hops):", "for hop in hops:"),),
        test=f"{ADDRESSES}test_the_right_most_hop_that_is_no_proxy_of_ours_counts",
    ),
    # ── too much ────────────────────────────────────────────────────────────────────────────────
    AntiTest(
        name="body-limit",
        promise=19,
        mechanism="a body larger than a purchase can be is refused",
        where=f"{HTTP}buy.py:BuyHandler._read",
        patches=(Patch("        if len(body) > BODY_BYTES_MAX:\n", "        if False:\n"),),
        test="tests/unit/test_http_server.py::test_a_body_of_megabytes_is_413_and_hurts_nobody",
    ),
    AntiTest(
        name="body-is-not-read-on",
        promise=19,
        mechanism="and no more of it is read than tells that it is too large",
        where=f"{HTTP}asking.py:read_body",
        patches=(
            Patch(
                "                if len(body) > BODY_BYTES_MAX:\n"
                "                    return body[: BODY_BYTES_MAX + 1]\n",
            ),
        ),
        test="tests/unit/test_http_bad_input.py::test_no_more_is_read_than_the_limit",
        reddens_by="IndexError",
    ),
    AntiTest(
        name="head-limit",
        promise=19,
        mechanism="a head without end is refused before it fills the memory",
        where=f"{BOUNDS}data_received",
        patches=(Patch("        if self._head_bytes > HEAD_BYTES_MAX:\n", "        if False:\n"),),
        test="tests/unit/test_http_server.py::test_a_head_that_never_ends_is_431",
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="head-limit-in-one-piece",
        promise=19,
        mechanism="so is one that comes at once, or with more headers than a browser sends",
        where=f"{BOUNDS}on_headers_complete",
        patches=(
            Patch("            self._reject(problems.HEAD_TOO_LARGE)\n", "            pass\n"),
        ),
        test=IN_ONE_PIECE,
    ),
    AntiTest(
        name="url-limit",
        promise=19,
        mechanism="and a URL longer than any of ours",
        where=f"{BOUNDS}on_headers_complete",
        patches=(Patch("        if len(self.url) > URL_BYTES_MAX:\n", "        if False:\n"),),
        test=IN_ONE_PIECE,
    ),
    AntiTest(
        name="pipeline-limit",
        promise=19,
        mechanism="a connection sends no more requests ahead of their answers than a few",
        where=f"{BOUNDS}on_headers_complete",
        patches=(Patch("        if len(self.pipeline) >= PIPELINE_MAX:\n", "        if False:\n"),),
        test=f"{BOUNDED}test_a_pipeline_without_end_is_ended_after_the_answers_that_are_due",
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="connection-limit",
        promise=19,
        mechanism="connections beyond the limit are let go, and those that are there go on",
        where=f"{BOUNDS}connection_made",
        patches=(
            Patch("        if len(self.connections) > CONNECTIONS_MAX:\n", "        if False:\n"),
        ),
        test="tests/unit/test_http_server.py::test_more_connections_than_the_limit_are_let_go",
        reddens_by="TimeoutError",
    ),
    # ── too slowly ──────────────────────────────────────────────────────────────────────────────
    AntiTest(
        name="head-deadline",
        promise=19,
        mechanism="a head has one deadline, however often a byte of it comes",
        where=f"{BOUNDS}_too_slow",
        patches=(
            Patch(
                "    def _too_slow(self) -> None:\n",
                "    def _too_slow(self) -> None:\n        return\n",
            ),
        ),
        test=f"{BOUNDED}test_a_head_that_comes_drop_by_drop_ends_by_its_deadline",
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="body-deadline",
        promise=19,
        mechanism="so has a body",
        where=f"{HTTP}asking.py:read_body",
        patches=(Patch("asyncio.timeout(BODY_WAIT_S):", "asyncio.timeout(None):"),),
        test="tests/unit/test_http_buy.py::test_a_body_that_does_not_arrive_is_408",
    ),
    AntiTest(
        name="reading-deadline",
        promise=19,
        mechanism="who asks and then reads nothing is cut off",
        where=f"{BOUNDS}_abort_later",
        patches=(Patch("        if self._write_timer is None:\n", "        if False:\n"),),
        test=f"{BOUNDED}test_an_answer_that_nobody_reads_is_cut_off",
        reddens_by="TimeoutError",
    ),
)
