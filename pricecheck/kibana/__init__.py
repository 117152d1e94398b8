"""Kibana's dashboards: their one readable source, and the saved objects made from it."""
