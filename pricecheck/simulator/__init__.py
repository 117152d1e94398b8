"""A Keepa API on loopback, for the demo, the tests and the benchmarks.

It is a process of its own that the daemon knows only as an address. Its facts are those of
Keepa's own Java client and of figures published from live calls.
"""
