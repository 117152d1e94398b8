"""The parts of scripts/fuzz: what is fuzzed, how inputs are made, and the search for new ones."""
