"""The benchmarks behind `make bench`: a module for each figure, with a `measure` that yields rows.

Every figure is a ratio against something measured in the same run, so that it means the same on
another machine. Bounds are those that the project has set itself.
"""
