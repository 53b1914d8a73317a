"""Programs around a pool, as classes and coroutines; `maestro.commands` runs them."""
