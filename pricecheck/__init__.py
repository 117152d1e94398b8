"""pricecheck watches Amazon prices through the Keepa API on a token budget."""

__version__ = "0.1.0"
