"""How fast it is: scenarios on real servers, with their proofs and baselines.

    make bench            every scenario, some fifteen minutes
    make bench QUICK=1    the same, shorter, in less than three
    python -m bench --only sold-out --only crowd

Servers are started as a careful operator runs them (PostgreSQL syncs each commit, Redis appends
every second, Kafka takes acks=all, RabbitMQ has quorum queues); what they say of themselves is read
back and printed. Load generators and servers share the machine with the engine, so wall-clock rates
are those of the whole; CPU time per purchase, of every process, is what carries over to another
machine. A ratio is always taken against a baseline of the same run.
"""
