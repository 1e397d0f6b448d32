"""What journey tools ask in the middle of a journey: which branch a user takes, in the shapes in which each tool can ask it."""
