"""What a program has in its hands: its connection, its CDOs and groups, its subscriptions."""
