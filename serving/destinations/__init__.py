"""Destinations: what leaves Encore for other systems, as files and tables, over HTTPS, and as events."""
