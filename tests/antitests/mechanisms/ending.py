"""At the end of a process: told once, in good order and in time; told twice, now."""

from tests.antitests.antitest import AntiTest, Patch, Server

STOPPING = "src/entrypoints/flashsale/stopping.py:"
SERVER = "src/entrypoints/flashsale/http/server.py:Server."
TESTS = "tests/unit/test_stopping.py::"
LAME = f"{TESTS}test_a_lame_door_says_503_serves_on_and_lets_connections_go"
SEVERAL = "tests/unit/test_several.py::"
AT_THE_DOOR = "tests/unit/test_http_server.py::"

ANTITESTS = (
    AntiTest(
        name="readiness-off-first",
        promise=18,
        mechanism="a door that will close is not ready any more, before anything else",
        where=f"{STOPPING}go_lame",
        patches=(Patch("    readiness.leave()\n"),),
        test=LAME,
    ),
    AntiTest(
        name="lame-duck",
        promise=18,
        mechanism="and serves on until whoever chooses by /readyz has chosen another",
        where=f"{STOPPING}go_lame",
        patches=(Patch("    await asyncio.sleep(lame_duck_s(settings))\n"),),
        test=LAME,
    ),
    AntiTest(
        name="served-while-leaving",
        promise=18,
        mechanism="so does `flashsale serve` when it hears SIGTERM, and only then closes its door",
        where="src/entrypoints/flashsale/running.py:_serve",
        patches=(
            Patch(
                "            await until_stopped(loops, is_worker=False)\n"
                "            await go_lame(container.readiness(), door, settings)\n",
                "            await until_stopped(loops, is_worker=False)\n",
            ),
        ),
        test="tests/faults/test_restarts.py::test_readiness_is_off_first_and_the_door_serves_on",
        reddens_by="URLError",
        server=Server.RABBITMQ,
    ),
    AntiTest(
        name="goodbye",
        promise=18,
        mechanism="its answers end their connections, so that none ends under a request",
        where=f"{STOPPING}go_lame",
        patches=(Patch("    door.say_goodbye()\n"),),
        test=LAME,
        reddens_by="TimeoutError",
    ),
    AntiTest(
        name="leaving-stays-leaving",
        promise=18,
        mechanism="a look that finds everything well does not make a leaving process ready",
        where="src/entrypoints/flashsale/readiness.py:Report.is_ready",
        patches=(Patch("            not self.is_stopping\n            and ", "            "),),
        test="tests/unit/test_readiness.py::"
        "test_one_that_was_told_to_end_is_not_ready_whatever_it_finds",
    ),
    AntiTest(
        name="answers-under-way",
        promise=18,
        mechanism="requests under way are answered before the door closes",
        where=f"{SERVER}stop",
        patches=(
            Patch(
                "        self._server.should_exit = True\n",
                "        self._server.should_exit = self._server.force_exit = True\n",
            ),
        ),
        test=f"{AT_THE_DOOR}test_stopping_finishes_what_is_in_flight_and_accepts_nothing_new",
    ),
    AntiTest(
        name="unread-answers-are-cut-off",
        promise=18,
        mechanism="who reads none of his answer does not hold up the end",
        where=f"{SERVER}stop",
        patches=(Patch("            connection.transport.abort()\n", "            pass\n"),),
        test=f"{AT_THE_DOOR}test_who_never_reads_the_answer_does_not_outlive_the_stop",
    ),
    AntiTest(
        name="in-hand-is-finished",
        promise=18,
        mechanism="a worker finishes the deliveries in hand before it leaves",
        where="src/entrypoints/flashsale/worker.py:Consumer._consume",
        patches=(
            Patch(
                "                    work.add_done_callback(lambda _: slots.release())\n",
                "                    work.add_done_callback(lambda _: slots.release())\n"
                "                in_hand._abort()\n",
            ),
        ),
        test="tests/unit/test_worker.py::test_the_stop_lets_what_is_in_hand_finish",
    ),
    AntiTest(
        name="waiting-is-given-back",
        promise=18,
        mechanism="a delivery that only waits is given back at the stop, and not acknowledged",
        where="src/entrypoints/flashsale/worker.py:Consumer._fulfil",
        patches=(
            Patch(
                "            if self._stopping.is_set():\n                return False\n",
                "            if self._stopping.is_set():\n                return True\n",
            ),
        ),
        test="tests/unit/test_worker.py::test_the_stop_gives_back_what_only_waits",
    ),
    AntiTest(
        name="stop-fits-its-time",
        promise=18,
        mechanism="no setting makes the parts of a stop longer than the whole may take",
        where=f"{STOPPING}door_drain_s",
        patches=(
            Patch(
                "    return min(settings.drain_ms / 1_000, rest_s)\n",
                "    return settings.drain_ms / 1_000\n",
            ),
        ),
        test=f"{TESTS}test_all_parts_of_a_stop_fit_into_its_time",
    ),
    AntiTest(
        name="hard-end",
        promise=18,
        mechanism="a stop that takes too long is ended hard, by a thread of its own",
        where=f"{STOPPING}until_stopped",
        patches=(Patch("        end_within(stop_s(is_worker=is_worker) - OVERDUE_MARGIN_S)\n"),),
        test=f"{TESTS}test_an_end_that_takes_too_long_is_made_an_end",
    ),
    AntiTest(
        name="second-signal",
        promise=18,
        mechanism="the second signal ends the process at once, also while its loop hangs",
        where=f"{STOPPING}until_stopped",
        patches=(
            Patch("            loop.remove_signal_handler(number)\n"),
            Patch("            signal.signal(number, signal.SIG_DFL)\n", "            pass\n"),
        ),
        test=f"{TESTS}test_a_second_signal_of_either_kind_ends_it_now[SIGTERM-SIGTERM]",
    ),
    AntiTest(
        name="processes-end-with-their-parent",
        promise=18,
        mechanism="a process of several whose parent is gone, however it died, ends as if told",
        where="src/entrypoints/flashsale/one_of_several.py:OneOfSeveral._follow",
        patches=(
            Patch("        end_within(API_STOP_S - OVERDUE_MARGIN_S)\n"),
            Patch("        os.kill(os.getpid(), signal.SIGTERM)\n"),
        ),
        test=f"{SEVERAL}test_processes_end_with_their_parent_however_it_died",
    ),
    AntiTest(
        name="each-process-is-told",
        promise=18,
        mechanism="a parent that is told to stop tells each of its processes",
        where="src/entrypoints/flashsale/several.py:Several._stop",
        patches=(Patch("        self._signal(signal.SIGTERM)\n"),),
        test=f"{SEVERAL}test_a_stop_is_told_to_each_process_once_and_ends_with_0[SIGTERM]",
    ),
    AntiTest(
        name="pool-closes-in-time",
        promise=18,
        mechanism="a database that hangs is left without a goodbye, and holds up no end",
        where="src/adapters/flashsale_sql/engines.py:_close",
        patches=(
            Patch("            async with asyncio.timeout_at(until):\n", "            if True:\n"),
        ),
        test="tests/integration/test_sql_faults.py::"
        "test_a_server_that_hangs_does_not_hold_up_the_end",
        server=Server.POSTGRESQL,
    ),
)
