"""The stock gate on Redis ≥ 7.0 or Valkey, one server or a cluster: a function library."""

from flashsale_redis.gate import RedisStockGate
from flashsale_redis.library import GateLibrary, gate_library
from flashsale_redis.opening import open_redis_gate

__all__ = ["GateLibrary", "RedisStockGate", "gate_library", "open_redis_gate"]
