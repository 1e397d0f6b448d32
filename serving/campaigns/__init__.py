"""Campaigns: what was done to whom, when and by which channel, and what it changed, held against the users who were kept out."""
