"""Realised quality: what was served, judged once its time is over; drift of what is in service; replay of any past score."""
