"""The simulation behind `make bench-planner`: worlds, policies, scores, one concern a file."""
