"""Audiences: whom a rule picks, how many of them are expected to do it, who is held out, and who came and went."""
