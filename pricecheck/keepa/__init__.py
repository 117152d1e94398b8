"""The Keepa API: its wire format, its errors and the one client that speaks to it."""
