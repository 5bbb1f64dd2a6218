"""Before a sale: what is configured so that a promise would not hold is named."""

from tests.antitests.antitest import AntiTest, Patch, Server

REDIS = "src/adapters/flashsale_redis/operating.py:"
ON_REDIS = "tests/unit/test_redis_operating.py::"
JOURNAL = f"{ON_REDIS}test_a_journal_that_may_be_shortened_holds_no_promise"
KAFKA = "src/adapters/flashsale_kafka/topics.py:TopicShape.suits"
ON_KAFKA = "tests/unit/test_kafka_parts.py::test_a_topic_suits_when_it_is_at_least_as_safe"

ANTITESTS = (
    AntiTest(
        name="doctor-sees-no-log",
        promise=20,
        mechanism="a Redis that keeps no log is named: every restart of it means a rebuild",
        where=f"{REDIS}_persistence",
        patches=(Patch('    if facts.get("aof_enabled") == "1":\n', "    if True:\n"),),
        test=f"{ON_REDIS}test_a_redis_without_its_log_is_a_warning_that_names_the_mend",
    ),
    AntiTest(
        name="journal-needs-its-log",
        promise=20,
        mechanism="where the journal alone holds a promise, a Redis without a log is refused",
        where=f"{REDIS}_journal_faults",
        patches=(Patch('    if facts.get("aof_enabled") != "1":\n', "    if False:\n"),),
        test=JOURNAL,
        reddens_by="ValueError",
    ),
    AntiTest(
        name="journal-needs-every-write",
        promise=20,
        mechanism="so is one that writes its log later than it answers",
        where=f"{REDIS}_journal_faults",
        patches=(Patch('"?")) != "always":\n', '"?")) == "no":\n'),),
        test=JOURNAL,
        reddens_by="ValueError",
    ),
    AntiTest(
        name="journal-needs-one-server",
        promise=20,
        mechanism="so is one whose replica may be promoted without what was answered last",
        where=f"{REDIS}_journal_faults",
        patches=(
            Patch(
                '    if facts.get("role") == "slave" or '
                'facts.get("connected_slaves", "0") != "0":\n'
                "        faults.append(",
                "    if False:\n        faults.append(",
            ),
        ),
        test=JOURNAL,
        reddens_by="ValueError",
    ),
    AntiTest(
        name="doctor-sees-no-fence",
        promise=20,
        mechanism="a primary that would sell on without its replicas for too long is named",
        where=f"{REDIS}_replication",
        patches=(Patch("if least >= 1 and lag_s <= LAG_S_MAX:", "if least >= 1:"),),
        test=f"{ON_REDIS}test_a_lag_that_is_too_long_is_no_fence",
    ),
    AntiTest(
        name="doctor-sees-eviction",
        promise=20,
        mechanism="a Redis that throws purchases away under pressure is named",
        where=f"{REDIS}_eviction",
        patches=(Patch('    if policy == "noeviction":\n', "    if True:\n"),),
        test="tests/integration/test_doctor.py::test_a_redis_that_evicts_names_the_policy",
        server=Server.REDIS,
    ),
    AntiTest(
        name="topics-in-sync",
        promise=20,
        mechanism="a topic that confirms on fewer disks than wanted is refused",
        where=KAFKA,
        patches=(
            Patch(
                "            and (self.min_insync_replicas or REPLICATION) "
                ">= (wanted.min_insync_replicas or 0)\n"
            ),
        ),
        test=ON_KAFKA,
    ),
    AntiTest(
        name="topics-keep",
        promise=20,
        mechanism="so is one that forgets while a worker may still be away",
        where=KAFKA,
        patches=(
            Patch(
                "            and (kept is None or kept == -1 "
                "or kept >= (wanted.retention_ms or 0))\n"
            ),
        ),
        test=ON_KAFKA,
    ),
    AntiTest(
        name="doctor-sees-lost-commits",
        promise=20,
        mechanism="a PostgreSQL that confirms commits before they are on disk is named",
        where="src/adapters/flashsale_sql/operating.py:_durable",
        patches=(Patch('        if value == "off":\n', "        if False:\n"),),
        test="tests/integration/test_doctor.py::test_a_database_that_may_lose_commits_is_a_warning",
        server=Server.POSTGRESQL,
        reddens_by="ValueError",
    ),
)
