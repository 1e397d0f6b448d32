"""Privacy: who is kept out of what, all that is held about a user, its deletion with a receipt, and the audit log."""
