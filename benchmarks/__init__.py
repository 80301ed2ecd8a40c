"""Benchmarks of gimmal beside Redis Cluster and other queues, and beside the bare speed limit of its own approach.

`python -m benchmarks` runs them. Every figure of gimmal is a ratio against a peer that was measured in the
same run, in rounds that take turns, because absolute figures of a shared machine mean little.

| module | what it holds |
|---|---|
| `rows` | the table of what is measured, with its targets |
| `stores` | what every measured system offers: connect, get, set, in batches or not |
| `gimmal_cluster`, `redis_cluster`, `redis_store`, `floor`, `floor_node`, `floor_copies` | the three systems |
| `workload`, `rounds`, `memory`, `rest` | keys and values; timed rounds; resident memory per key; CPU at rest |
| `report`, `plot`, `results` | figures to tables, to a picture, to JSON |
| `queues` and its `_rows`, `_loads`, `_rounds`, `_report` | the rows about queues, with books and tables of their own |
| `queues_clients`; `queues_gimmal`, `_jetstream`, `_rabbitmq`, `_redis` | what a queue offers; gimmal and its peers |
| `failover` and its `_trial`, `_writers`, `_subjects`, `_report` | time without writes when a node dies |
| `processes`, `machine` | child processes, CPU and memory from /proc; facts of the machine |
"""
