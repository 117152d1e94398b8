"""Everything that leaves the house: a relay for each sink brings it the records of the outbox."""
