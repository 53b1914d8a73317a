"""Tasks that begin by themselves when what they need is in the pool: ``app.when``."""
