"""The parts of scripts/soak: its schedule, the stage it plays on, and the accountant."""
