"""What holds the parts: a plugin in each of Dask's workers."""
