"""Several processes on one port: one engine to whoever asks."""

from tests.antitests.antitest import AntiTest, Patch

SHARED = "src/adapters/flashsale_prometheus/shared.py:"
PARENT = "src/entrypoints/flashsale/several.py:"
ON_METRICS = "tests/unit/test_shared_metrics.py::"
ON_PARENT = "tests/unit/test_several.py::"

ANTITESTS = (
    AntiTest(
        name="counts-outlive-their-process",
        promise=21,
        mechanism="a count stands in a file of its place, where a dead process's successor goes on",
        where=f"{SHARED}SharedRegistry.__init__",
        patches=(
            Patch(
                "        mark_process_dead(place, str(folder))",
                '        for old in folder.glob(f"*_{place}.db"):\n            old.unlink()\n'
                "        mark_process_dead(place, str(folder))",
            ),
        ),
        test=f"{ON_METRICS}test_a_process_that_dies_is_still_counted_and_its_successor_counts_on",
    ),
    AntiTest(
        name="counts-are-everybodys",
        promise=21,
        mechanism="whoever is asked reads the files of all",
        where=f"{SHARED}SharedRegistry.collect",
        patches=(
            Patch(
                "            metric.samples = of_all.get(metric.name, metric.samples)\n",
            ),
        ),
        test=f"{ON_METRICS}test_whoever_is_asked_answers_with_the_sum_of_all",
    ),
    AntiTest(
        name="dead-see-nothing",
        promise=21,
        mechanism="what a dead process saw last is forgotten",
        where=f"{SHARED}SharedRegistry.__init__",
        patches=(
            Patch(
                "        mark_process_dead(place, str(folder))  # type: ignore[no-untyped-call]\n"
            ),
        ),
        test=f"{ON_METRICS}test_trouble_of_one_process_shows_whoever_is_asked",
    ),
    AntiTest(
        name="counts-have-their-room",
        promise=21,
        mechanism="a disk that fills up while they sell ends no process that counts on it",
        where=f"{SHARED}_give_room",
        patches=(
            Patch("        os.posix_fallocate(opened.fileno(), 0, ROOM_BYTES)\n", "        pass\n"),
        ),
        test=f"{ON_METRICS}test_the_files_have_their_room_from_the_begin",
    ),
    AntiTest(
        name="one-parent-a-port",
        promise=21,
        mechanism="two parents never share a port, not even before any of their processes listens",
        where=f"{PARENT}_only_parent",
        patches=(
            Patch(
                '            lock.bind(f"\\0flashsale-serve-{port}-{host[:64]}")\n',
                "            pass\n",
            ),
        ),
        test=f"{ON_PARENT}test_two_parents_that_begin_together_never_share_a_port",
    ),
    AntiTest(
        name="listens-when-it-serves",
        promise=21,
        mechanism="nobody is dealt to a process that is not up yet",
        where=f"{PARENT}bound",
        patches=(
            Patch(
                "            listener.bind(where)\n",
                "            listener.bind(where)\n            listener.listen()\n",
            ),
        ),
        test=f"{ON_PARENT}test_a_socket_that_is_only_bound_gets_no_connection",
    ),
    AntiTest(
        name="processes-are-begun-again",
        promise=21,
        mechanism="a start that fails ends nothing while another process serves",
        where=f"{PARENT}Several._life",
        patches=(
            Patch(
                "        elif not has_served and not self._serving:\n",
                "        elif not has_served:\n",
            ),
        ),
        test=f"{ON_PARENT}test_a_start_that_fails_while_another_process_serves_is_tried_again",
    ),
)
