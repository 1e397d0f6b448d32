"""What stands between a client and an answer: keys, limits, deadlines, idempotency keys, headers, problems, access log."""
