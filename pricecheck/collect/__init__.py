"""The collectors: what asks Keepa, and turns its answers into records."""
