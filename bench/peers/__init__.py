"""Other tools computing the same features."""
