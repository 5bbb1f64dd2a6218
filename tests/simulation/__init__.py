"""The model test: the use cases in a simulated world that is broken at random, from a seed."""
